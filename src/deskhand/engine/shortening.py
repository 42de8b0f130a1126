"""Items with their texts cut short: what of them stays when there is not room for all. Pure."""

from typing import Final, assert_never

import msgspec

from ..core.bounds import marker
from ..tools import mcp
from ..wire.codec import encode
from ..wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    CallOutput,
    CodeInterpreterCall,
    ComputerCallOutput,
    CreateFile,
    CustomToolCall,
    CustomToolCallOutput,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    LocalShellCall,
    LocalShellCallOutput,
    Logs,
    McpCall,
    Message,
    ShellCall,
    ShellCallOutput,
    ShellOutput,
    ToolSearchOutput,
    UpdateFile,
)
from ..wire.parts import InputAudio, InputFile, InputImage, InputText, OutputText, Part, PlainText, text_of

LEAST_CHARACTERS: Final = 200
"""A text is not cut shorter than that."""

LEFT_OUT: Final = InputText(text="[an image or a file that was left out when the conversation was compacted]")


def clipped(text: str, characters: int) -> str:
    """The beginning and the end of a text, of about so many characters."""
    cap = max(characters, LEAST_CHARACTERS)
    if len(text) <= cap:
        return text
    head = cap - cap // 2
    return text[:head] + marker(len(text) - cap) + text[len(text) - cap // 2 :]


def shortened(item: Item, characters: int) -> Item:
    """The item with each of its texts clipped; images and files go."""
    match item:
        case Message(content=parts):
            return msgspec.structs.replace(item, content=_parts(parts, characters))
        case CodeInterpreterCall(code=code, outputs=made):
            logs = tuple(Logs(logs=clipped(one.logs, characters)) for one in made or () if isinstance(one, Logs))
            return msgspec.structs.replace(item, code=clipped(code or "", characters), outputs=logs)
        case FileSearchCall(results=tuple(results)):
            found = tuple(msgspec.structs.replace(one, text=clipped(one.text or "", characters)) for one in results)
            return msgspec.structs.replace(item, results=found)
        case McpCall(output=str(output)):
            return msgspec.structs.replace(item, output=clipped(mcp.text_of(output), characters))
        case (
            FunctionCallOutput()
            | CustomToolCallOutput()
            | ShellCallOutput()
            | LocalShellCallOutput()
            | ApplyPatchCallOutput()
        ):
            return _output(item, characters)
        case _:
            return _call(item, characters)


def _call(item: Item, characters: int) -> Item:
    replace = msgspec.structs.replace
    match item:
        case FunctionCall(arguments=arguments) if len(arguments) > max(characters, LEAST_CHARACTERS):
            # Still an object: servers refuse a prompt over arguments that are none.
            return replace(item, arguments=encode({"shortened": clipped(arguments, characters)}).decode())
        case CustomToolCall():
            return replace(item, input=clipped(item.input, characters))
        case ShellCall(action=action):
            commands = tuple(clipped(command, characters) for command in action.commands)
            return replace(item, action=replace(action, commands=commands))
        case LocalShellCall(action=action):
            command = tuple(clipped(word, characters) for word in action.command)
            return replace(item, action=replace(action, command=command))
        case ApplyPatchCall(operation=CreateFile() | UpdateFile() as operation):
            return replace(item, operation=replace(operation, diff=clipped(operation.diff, characters)))
        case _:
            return item


def _output(item: CallOutput, characters: int) -> Item:
    replace = msgspec.structs.replace
    match item:
        case FunctionCallOutput(output=output) | CustomToolCallOutput(output=output):
            short = clipped(output, characters) if isinstance(output, str) else _parts(output, characters)
            return replace(item, output=short)
        case ShellCallOutput(output=outputs):
            return replace(item, output=tuple(_printed(output, characters) for output in outputs))
        case LocalShellCallOutput(output=text):
            return replace(item, output=clipped(text, characters))
        case ApplyPatchCallOutput(output=text):
            return replace(item, output=clipped(text, characters) if isinstance(text, str) else text)
        case ComputerCallOutput() | ToolSearchOutput():
            return item
        case _:
            assert_never(item)


def _parts(parts: tuple[Part, ...], characters: int) -> tuple[Part, ...]:
    return tuple(_part(part, characters) for part in parts)


def _part(part: Part, characters: int) -> Part:
    match part:
        case InputText(text=text) | OutputText(text=text) | PlainText(text=text):
            return msgspec.structs.replace(part, text=clipped(text, characters))
        case InputImage() | InputFile() | InputAudio():
            return LEFT_OUT
        case _:
            return InputText(text=clipped(text_of((part,)), characters))


def _printed(output: ShellOutput, characters: int) -> ShellOutput:
    stdout, stderr = clipped(output.stdout, characters), clipped(output.stderr, characters)
    return msgspec.structs.replace(output, stdout=stdout, stderr=stderr)
