"""The `shell` tool: commands in a container that this server runs, or on the client's own machine.

Wire facts: API reference, "shell (hosted, local)"; the order of events is that of recorded streams. A call's commands
run at the same time, each in a session of its own; `parallel_tool_calls: false` makes them run one after another.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.bounds import BoundedOutput, marker
from ..core.drafts import Closed, Draft, Opened, Progress
from ..core.errors import ToolFailure
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.sandbox import WORKDIR, Sandbox
from ..ports.tool import NewId, Say, ToolContext, TurnEnding
from ..wire.items import (
    ContainerReference,
    ExitOutcome,
    Item,
    LocalEnvironment,
    ShellAction,
    ShellCall,
    ShellCallOutput,
    ShellOutput,
    TimeoutOutcome,
)
from .arguments import PartialArguments
from .commands import CommandLimits, run_command

NAME = "shell"
MAX_COMMANDS = 64
MAX_COMMAND_CHARACTERS = 1 << 20
MAX_NUMBER = (1 << 53) - 1
"""The largest whole number that every reader of JSON keeps as it is (RFC 8259, section 6)."""
NOT_RUN = 126
"""Exit code of a command that could not be run (POSIX, "command found but not executable")."""

_PARAMETERS = {
    "type": "object",
    "properties": {
        "commands": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Shell commands (bash). They run at the same time, each in a session of its own: `cd` and "
            "`export` do not carry over from one to another, files do. Use `&&` or a script for steps in order.",
        },
        "timeout_ms": {"type": ["integer", "null"], "description": "Deadline of the call in milliseconds."},
        "max_output_length": {
            "type": ["integer", "null"],
            "description": "Characters to keep of each command's output; the middle of longer output is left out.",
        },
    },
    "required": ["commands"],
    "additionalProperties": False,
}
_LOCAL = "Run shell commands on the user's machine and read what they print. Commands must not wait for input."
_HOSTED = (
    f"Run shell commands in your own Linux computer and read what they print. The working directory is {WORKDIR}: put "
    "files there that the user should get. There is no terminal and no root; commands must not wait for input. "
    "Background processes live on between calls. "
)
NO_NETWORK = "Network access is off."


class ShellTool:
    """Shell commands that the client runs."""

    hosted = False

    def __init__(self, environment: LocalEnvironment | None) -> None:
        self._environment = environment

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, _LOCAL + self._skills(), _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "ShellReader":
        shown = LocalEnvironment() if self._environment else None
        return ShellReader(call_id, shown, new_id)

    def _skills(self) -> str:
        """What the client says of its skills: the model reads the rest with its commands (API reference, 3.4)."""
        skills = self._environment.skills if self._environment else ()
        lines = [f"- {skill.name}: {skill.description} ({skill.path})" for skill in skills or ()]
        return "\n\nSkills, to be read with a command before use:\n" + "\n".join(lines) if lines else ""


@dataclass(frozen=True, slots=True)
class HostedShellTool:
    """Shell commands in the container of this response."""

    container_id: str
    limits: CommandLimits
    in_order: bool = False
    network: str = NO_NETWORK
    """What the model is told of the container's network."""

    @property
    def hosted(self) -> bool:
        return True

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, _HOSTED + self.network, _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "ShellReader":
        return ShellReader(call_id, ContainerReference(container_id=self.container_id), new_id)

    def runs(self, item: Item) -> bool:
        return isinstance(item, ShellCall) and item.hosted

    async def run(self, call: Item, context: ToolContext, say: Say) -> None:
        assert isinstance(call, ShellCall)
        item = ShellCallOutput(
            id=context.new_id("sho"), call_id=call.call_id, max_output_length=call.action.max_output_length
        )
        await say(Opened(item))
        sandbox = await context.sandbox(self.container_id)
        outputs = await self._run_all(call.action, sandbox, item.id, say)
        await say(Closed(msgspec.structs.replace(item, output=tuple(outputs))))

    async def _run_all(self, action: ShellAction, sandbox: Sandbox, item_id: str, say: Say) -> list[ShellOutput]:
        limits = self.limits.of(action)

        async def one(index: int, command: str) -> ShellOutput:
            async def show(stream: str, text: str) -> None:
                delta = {"command_index": index, "delta": {stream: text}}
                await say(Progress(item_id, "response.shell_call_output_content.delta", delta))

            output = await run_command(sandbox, command, limits, show)
            done = {"command_index": index, "output": [output]}
            await say(Progress(item_id, "response.shell_call_output_content.done", done))
            return output

        if self.in_order:
            return [await one(index, command) for index, command in enumerate(action.commands)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, command)) for index, command in enumerate(action.commands)]
        return [task.result() for task in tasks]

    def refuse(self, call: Item, output_id: str, reason: str) -> Item:
        assert isinstance(call, ShellCall)
        return refusal(call, output_id, reason)


def refusal(call: ShellCall, output_id: str, reason: str) -> ShellCallOutput:
    """The output that says why no command of `call` ran, or why none of them is known to have ended."""
    entry = ShellOutput(stdout="", stderr=reason, outcome=ExitOutcome(exit_code=NOT_RUN))
    count = max(1, len(call.action.commands))
    return ShellCallOutput(
        id=output_id,
        call_id=call.call_id,
        output=(entry,) * count,
        max_output_length=call.action.max_output_length,
        status="incomplete",
    )


class ShellReader:
    """Reads a call and announces each command while the model types it."""

    def __init__(self, call_id: str, environment: LocalEnvironment | ContainerReference | None, new_id: NewId) -> None:
        self._new_id = new_id
        self._item = ShellCall(
            id=new_id("sh"),
            call_id=call_id,
            action=ShellAction(commands=()),
            environment=environment,
            status="in_progress",
        )
        self._arguments = PartialArguments()
        self._opened = False
        self._typed: list[str] = []
        self._finished = 0

    def feed(self, arguments: str) -> Sequence[Draft]:
        drafts: list[Draft] = []
        if not self._opened:
            self._opened = True
            drafts.append(Opened(self._item))
        so_far = self._arguments.add(arguments) if arguments else None
        if so_far is not None:
            drafts += self._type(_commands(so_far), complete=False)
        return drafts

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = list(self.feed(""))
        try:
            action = _action(self._arguments.whole())
        except (ValueError, ToolFailure) as exc:
            return [*drafts, *self._end_unreadable(ending, str(exc))]
        drafts += self._type(list(action.commands), complete=True)
        return [*drafts, Closed(msgspec.structs.replace(self._item, action=action, status=ending))]

    def _end_unreadable(self, ending: TurnEnding, reason: str) -> list[Draft]:
        typed = self._type(list(self._typed), complete=True)
        call = msgspec.structs.replace(self._item, action=ShellAction(commands=tuple(self._typed)), status="incomplete")
        if ending == "incomplete":
            return [*typed, Closed(call)]
        output = refusal(call, self._new_id("sho"), f"This call was not run: its arguments are unreadable: {reason}")
        return [*typed, Closed(call), Opened(msgspec.structs.replace(output, output=())), Closed(output)]

    def _type(self, commands: list[str], *, complete: bool) -> list[Draft]:
        """Events for what is new in `commands` since the last look; the last one is open unless `complete`."""
        drafts: list[Draft] = []
        for index, command in enumerate(commands[: MAX_COMMANDS if not complete else None]):
            if index < self._finished:
                continue
            if index == len(self._typed):
                self._typed.append("")
                drafts.append(self._event("added", index, {"command": ""}))
            if command.startswith(self._typed[index]) and (new := command[len(self._typed[index]) :]):
                self._typed[index] = command
                drafts.append(self._event("delta", index, {"delta": new}))
            if complete or index < len(commands) - 1:
                self._finished = index + 1
                drafts.append(self._event("done", index, {"command": command}))
        return drafts

    def _event(self, what: str, index: int, fields: dict[str, str]) -> Progress:
        return Progress(self._item.id, f"response.shell_call_command.{what}", {"command_index": index, **fields})


def prompt_call(item: ShellCall) -> PromptCall:
    """The call as the model reads it later."""
    action = {key: value for key, value in msgspec.structs.asdict(item.action).items() if value is not None}
    return PromptCall(item.call_id, NAME, json.dumps(action))


def prompt_output(item: ShellCallOutput) -> PromptOutput:
    """The outputs as the model reads them: the text as it is for one command, numbered for several.

    Clients return what their commands printed in full; the cap of the call is applied here (API reference, "shell").
    """
    outputs = [_bounded(output, item.max_output_length) for output in item.output]
    if len(outputs) == 1:
        return PromptOutput(item.call_id, _readable(outputs[0]))
    numbered = (f"[command {i}]\n{_readable(output)}" for i, output in enumerate(outputs))
    return PromptOutput(item.call_id, "\n".join(numbered) or "(no output)")


def _bounded(output: ShellOutput, cap: int | None) -> ShellOutput:
    """`output` within `cap` characters and markers; what this server ran has been bounded before."""
    if cap is None or len(output.stdout) + len(output.stderr) <= cap + 2 * len(marker(10**12)):
        return output
    kept = {"stdout": "", "stderr": ""}
    bounded = BoundedOutput(cap)
    pieces = [bounded.add("stdout", output.stdout), bounded.add("stderr", output.stderr), *bounded.rest()]
    for piece in pieces:
        if piece is not None:
            kept[piece.stream] += piece.text
    return msgspec.structs.replace(output, **kept)


def _readable(output: ShellOutput) -> str:
    parts = [output.stdout]
    if output.stderr:
        parts.append(f"[stderr]\n{output.stderr}")
    match output.outcome:
        case TimeoutOutcome():
            parts.append("[timed out]")
        case ExitOutcome(exit_code=0):
            pass
        case ExitOutcome(exit_code=code):
            parts.append(f"[exit code {code}]")
    joined = ""
    for part in parts:
        joined += ("" if not joined or joined.endswith("\n") or not part else "\n") + part
    return joined or "(no output)"


def _commands(arguments: dict[str, Any]) -> list[str]:
    value = arguments.get("commands", arguments.get("command"))
    if isinstance(value, str):
        return [value]
    return [c for c in value if isinstance(c, str)] if isinstance(value, list) else []


def _action(arguments: dict[str, Any]) -> ShellAction:
    value = arguments.get("commands", arguments.get("command"))
    commands = _commands(arguments)
    if not commands or (isinstance(value, list) and len(commands) != len(value)):
        raise ToolFailure("`commands` must be a list of at least one string")
    if len(commands) > MAX_COMMANDS:
        raise ToolFailure(f"at most {MAX_COMMANDS} commands fit one call, got {len(commands)}")
    if any(len(command) > MAX_COMMAND_CHARACTERS for command in commands):
        raise ToolFailure(f"a command may have at most {MAX_COMMAND_CHARACTERS} characters; write a file in pieces")
    if any("\0" in command for command in commands):
        raise ToolFailure("a command cannot contain a NUL character; write it as an escape that the program reads")
    return ShellAction(
        commands=tuple(commands),
        timeout_ms=_number(arguments, "timeout_ms", at_least=1),
        max_output_length=_number(arguments, "max_output_length", at_least=0),
    )


def _number(arguments: dict[str, Any], name: str, *, at_least: int) -> int | None:
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not at_least <= value <= MAX_NUMBER:
        got = repr(value)[:40]
        raise ToolFailure(f"`{name}` must be a whole number of at least {at_least} and at most {MAX_NUMBER}, got {got}")
    return int(value)
