"""The `code_interpreter` tool: Python in the container of this response, which keeps its variables between calls.

Wire facts: API reference, "code_interpreter"; the order of events is that of recorded streams. Unlike other hosted
calls this one carries its own outcome: the item stays open while its code runs, and is closed with what came of it.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal, assert_never

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress, Revised
from ..core.errors import ToolFailure
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.sandbox import (
    WORKDIR,
    Cell,
    CellEnded,
    CellInterrupted,
    Dropped,
    InterpreterLost,
    InterpreterRenewed,
    Output,
    Picture,
    Sandbox,
)
from ..ports.tool import NewId, Say, ToolContext, TurnEnding
from ..wire.items import CodeInterpreterCall, Image, Item, Logs
from .arguments import PartialArguments
from .commands import CommandLimits, Screen
from .shell import NO_NETWORK

NAME = "code_interpreter"
MAX_CODE_CHARACTERS = 1 << 20

_EVENT = "response.code_interpreter_call"
_PARAMETERS = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code."}},
    "required": ["code"],
    "additionalProperties": False,
}
_DESCRIPTION = (
    "Run Python in your own Linux computer (this is the `python` tool) and read what it prints. Variables, imports and "
    "functions are kept between calls. The value of the last expression is printed, and matplotlib figures are shown "
    f"to the user by themselves. The working directory is {WORKDIR}: put files there that the user should get, and "
    f"link to them as sandbox:{WORKDIR}/NAME. numpy, pandas, matplotlib and packages for Excel, Word and PDF files are "
    "installed. Code must not wait for input."
)

RENEWED = "[a new interpreter: variables and imports of earlier calls are gone; files are kept]\n"
LOST = "[the interpreter is gone: {}. Variables and imports are lost; files are kept. The next call starts a new one]"
INTERRUPTED = "[interrupted after {:g} s, the most that a call may take; variables are kept]"


class CodeInterpreterTool:
    """Python in the container of this response, one call after another in the order in which they were made."""

    def __init__(self, container_id: str, limits: CommandLimits, network: str = NO_NETWORK) -> None:
        self._container_id = container_id
        self._network = network
        self._limits = limits
        self._turn = asyncio.Lock()

    @property
    def hosted(self) -> bool:
        return True

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, f"{_DESCRIPTION} {self._network}", _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "CodeReader":
        return CodeReader(self._container_id, new_id)

    def runs(self, item: Item) -> bool:
        return isinstance(item, CodeInterpreterCall) and item.container_id == self._container_id

    async def run(self, call: Item, context: ToolContext, say: Say) -> None:
        assert isinstance(call, CodeInterpreterCall)
        async with self._turn:
            begun = msgspec.structs.replace(call, status="interpreting")
            await say(Revised(begun, f"{_EVENT}.interpreting"))
            sandbox = await context.sandbox(self._container_id)
            outputs = await run_cell(sandbox, call.code or "", self._limits)
            await say(Progress(call.id, f"{_EVENT}.completed"))
            await say(Closed(msgspec.structs.replace(begun, outputs=outputs, status="completed")))

    def refuse(self, call: Item, output_id: str, reason: str) -> Item:
        assert isinstance(call, CodeInterpreterCall)
        return refusal(call, reason, "failed")


async def run_cell(sandbox: Sandbox, code: str, limits: CommandLimits) -> tuple[Logs | Image, ...]:
    """Run `code` and return what it printed, within `limits.output_characters`, and what it drew.

    Raises `SandboxError`. Cancelling interrupts the code.
    """
    cap = limits.output_characters
    screen = Screen(cap, _unseen)
    before, after = "", ""
    images: list[Image] = []
    cell = Cell(code, limits.timeout_s, head_bytes=4 * (cap - cap // 2), tail_bytes=4 * (cap // 2))
    async with aclosing(sandbox.run_code(cell)) as events:
        async for event in events:
            match event:
                case Output(stream, data):
                    await screen.output(stream, data)
                case Dropped(stream, _, characters):
                    screen.dropped(stream, characters)
                case Picture(data):
                    images.append(Image(url=f"data:image/png;base64,{base64.b64encode(data).decode()}"))
                case InterpreterRenewed():
                    before = RENEWED
                case CellEnded():
                    pass
                case CellInterrupted():
                    after = INTERRUPTED.format(limits.timeout_s)
                case InterpreterLost(reason):
                    after = LOST.format(reason)
                case _:
                    assert_never(event)
    await screen.end("")
    text = before + screen.text("stdout")
    if after:
        text += ("" if not text or text.endswith("\n") else "\n") + after
    return (*([Logs(logs=text)] if text else []), *images)


async def _unseen(_stream: str, _text: str) -> None:
    """The API has no event for what code prints while it runs."""


def refusal(call: CodeInterpreterCall, reason: str, status: Literal["failed", "incomplete"]) -> CodeInterpreterCall:
    """The closed call that says why its code did not run, or is not known to have ended."""
    return msgspec.structs.replace(call, outputs=(Logs(logs=reason),), status=status)


class CodeReader:
    """Reads a call and shows its code while the model types it.

    The arguments are an object with `code`; models that write bare code instead are understood.
    """

    def __init__(self, container_id: str, new_id: NewId) -> None:
        self._item = CodeInterpreterCall(
            id=new_id("ci"), code="", container_id=container_id, outputs=(), status="in_progress"
        )
        self._arguments = PartialArguments()
        self._opened = False
        self._shown = ""

    def feed(self, arguments: str) -> Sequence[Draft]:
        drafts: list[Draft] = []
        if not self._opened:
            self._opened = True
            drafts += [Opened(self._item), Progress(self._item.id, f"{_EVENT}.in_progress")]
        if not arguments:
            return drafts
        so_far = self._arguments.add(arguments)
        if self._is_bare():
            return [*drafts, *self._show(self._arguments.text)]
        code = so_far.get("code") if so_far is not None else None
        return [*drafts, *self._show(code)] if isinstance(code, str) else drafts

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = list(self.feed(""))
        try:
            code = self._code()
        except (ValueError, ToolFailure) as exc:
            code, reason = self._shown, f"This call was not run: its arguments are unreadable: {exc}"
        else:
            reason = ""
        drafts += self._show(code)
        whole = msgspec.structs.replace(self._item, code=code)
        done = f"{_EVENT}_code.done"
        if ending == "completed" and not reason:
            return [*drafts, Revised(whole, done, {"code": code})]
        closed = refusal(whole, reason, "failed") if ending == "completed" else _cut_off(whole)
        return [*drafts, Progress(whole.id, done, {"code": code}), Closed(closed)]

    def _is_bare(self) -> bool:
        text = self._arguments.text[:256].lstrip()
        return bool(text) and not text.startswith("{")

    def _code(self) -> str:
        code = self._arguments.text if self._is_bare() else self._arguments.whole().get("code")
        if not isinstance(code, str) or not code.strip():
            raise ToolFailure("`code` must be a string of Python code")
        if len(code) > MAX_CODE_CHARACTERS:
            raise ToolFailure(f"`code` may have at most {MAX_CODE_CHARACTERS} characters; write a file in pieces")
        return code

    def _show(self, code: str) -> list[Draft]:
        """A delta for what is new in `code`."""
        if not code.startswith(self._shown) or code == self._shown:
            return []
        new, self._shown = code[len(self._shown) :], code
        return [Progress(self._item.id, f"{_EVENT}_code.delta", {"delta": new})]


def _cut_off(call: CodeInterpreterCall) -> CodeInterpreterCall:
    return msgspec.structs.replace(call, status="incomplete")


def prompt_call(item: CodeInterpreterCall) -> PromptCall:
    """The call as the model reads it later."""
    return PromptCall(item.call_id, NAME, json.dumps({"code": item.code or ""}))


def prompt_output(item: CodeInterpreterCall) -> PromptOutput:
    """What came of a call as the model reads it: what was printed, and a word for every picture."""
    if not item.outputs:
        return PromptOutput(item.call_id, _without_outputs(item))
    parts = []
    for index, output in enumerate(item.outputs):
        match output:
            case Logs(logs=logs):
                parts.append(logs)
            case Image():
                parts.append(f"[picture {index + 1}: shown to the user]")
            case _:
                assert_never(output)
    return PromptOutput(item.call_id, "\n".join(part.removesuffix("\n") for part in parts))


def _without_outputs(item: CodeInterpreterCall) -> str:
    match item.status:
        case "completed":
            # A client that keeps the conversation itself may not have asked for the outputs.
            return "(no output)" if item.outputs == () else "(ran; its output is not part of this conversation)"
        case "failed":
            return "(failed)"
        case "in_progress" | "interpreting" | "incomplete":
            return "(interrupted: this call did not finish, and its effects are unknown)"
        case _:
            assert_never(item.status)
