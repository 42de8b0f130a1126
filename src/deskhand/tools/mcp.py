"""The `mcp` tool: a tool of a remote MCP server, which the model knows as a function.

Wire facts: API reference, "mcp"; the order of events is that of recorded streams. A call that must be approved is an
item that asks for it, and nothing is sent before the user has answered.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, assert_never

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress, Revised
from ..ports.mcp import PICTURES, RemoteFailure, RemotePicture, RemoteResult
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import CallReader, NewId, Say, ToolContext, TurnEnding
from ..wire.items import Item, McpApprovalRequest, McpCall, McpListedTool
from ..wire.parts import InputImage, InputText, Part

MAX_ARGUMENT_CHARACTERS: Final = 1 << 20
LONGEST_NAME: Final = 64
"""Characters of a function's name that every upstream takes."""

INVALID_PARAMS: Final = -32602
UNKNOWN_TOOL: Final = -32602
"""JSON-RPC's code, also for a tool that there is not (MCP specification, "Tools", error handling)."""
INTERRUPTED: Final = -32000

_EVENT: Final = "response.mcp_call"
_ARGUMENTS: Final = "response.mcp_call_arguments"
_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]+")


class McpTool:
    """A tool of the server `label`; `approval` says that each call must be approved."""

    hosted = True

    def __init__(self, label: str, listed: McpListedTool, spoken: str, *, approval: bool) -> None:
        self.label = label
        self.name = listed.name
        self._listed = listed
        self._spoken = spoken
        self._approval = approval

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(self._spoken, self._listed.description, self._listed.input_schema)

    def read(self, call_id: str, new_id: NewId) -> CallReader:
        return _RequestReader(self.label, self.name, new_id) if self._approval else _Reader(self._item(new_id))

    def runs(self, item: Item) -> bool:
        return isinstance(item, McpCall) and (item.server_label, item.name) == (self.label, self.name)

    async def run(self, call: Item, context: ToolContext, say: Say) -> None:
        assert isinstance(call, McpCall)
        assert context.remote is not None, "its server was connected to before it was listed"
        begun = msgspec.structs.replace(call, status="calling")
        await say(Revised(begun, f"{_ARGUMENTS}.done", {"arguments": call.arguments}))
        try:
            result = await context.remote(self.label, self.name, _read(call.arguments))
        except RemoteFailure as exc:
            closed = failed(begun, {"type": exc.kind, "code": exc.code, "message": str(exc)})
        else:
            closed = _answered(begun, result)
        await say(Progress(call.id, f"{_EVENT}.{closed.status}"))
        await say(Closed(closed))

    def refuse(self, call: Item, output_id: str, reason: str) -> Item:
        assert isinstance(call, McpCall)
        return failed(call, _protocol_error(INTERRUPTED, reason))

    def _item(self, new_id: NewId) -> McpCall:
        return McpCall(id=new_id("mcp"), server_label=self.label, name=self.name, status="in_progress")


class _Reader:
    """Reads the arguments of a call. The last piece is held back: with it the call is whole, and is stored."""

    def __init__(self, item: McpCall) -> None:
        self._item = item
        self._pieces: list[str] = []
        self._opened = False

    def feed(self, arguments: str) -> Sequence[Draft]:
        drafts: list[Draft] = []
        if not self._opened:
            self._opened = True
            drafts += [Opened(self._item), Progress(self._item.id, f"{_EVENT}.in_progress")]
        if arguments:
            drafts += [self._delta(piece) for piece in self._pieces[-1:]]
            self._pieces.append(arguments)
        return drafts

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = list(self.feed(""))
        text = "".join(self._pieces)
        if ending == "incomplete":
            cut = msgspec.structs.replace(self._item, arguments=text, status="incomplete")
            return [*drafts, *(self._delta(piece) for piece in self._pieces[-1:]), Closed(cut)]
        last, text = (self._pieces[-1] if text else "{}"), text or "{}"
        whole = msgspec.structs.replace(self._item, arguments=text)
        try:
            _read(text)
        except RemoteFailure as exc:
            closed = failed(whole, _protocol_error(exc.code, str(exc)))
            done = Progress(whole.id, f"{_ARGUMENTS}.done", {"arguments": text})
            return [*drafts, self._delta(last), done, Progress(whole.id, f"{_EVENT}.failed"), Closed(closed)]
        return [*drafts, Revised(whole, f"{_ARGUMENTS}.delta", {"delta": last})]

    def _delta(self, piece: str) -> Progress:
        return Progress(self._item.id, f"{_ARGUMENTS}.delta", {"delta": piece})


class _RequestReader:
    """Reads a call that must be approved, which becomes an item when it is whole."""

    def __init__(self, label: str, name: str, new_id: NewId) -> None:
        self._label = label
        self._name = name
        self._new_id = new_id
        self._pieces: list[str] = []

    def feed(self, arguments: str) -> Sequence[Draft]:
        self._pieces.append(arguments)
        return []

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        if ending == "incomplete":
            return []
        text = "".join(self._pieces) or "{}"
        try:
            _read(text)
        except RemoteFailure:  # nobody should approve what cannot be sent
            call = McpCall(id=self._new_id("mcp"), server_label=self._label, name=self._name, status="in_progress")
            reader = _Reader(call)
            return [*reader.feed(text), *reader.end("completed")]
        request = McpApprovalRequest(id=self._new_id("mcpr"), server_label=self._label, name=self._name, arguments=text)
        return [Opened(request), Closed(request)]


def approved(request: McpApprovalRequest, new_id: NewId) -> Sequence[Draft]:
    """The drafts of the call that the user has approved; it waits to be run."""
    item = McpCall(
        id=new_id("mcp"),
        server_label=request.server_label,
        name=request.name,
        approval_request_id=request.id,
        status="in_progress",
    )
    reader = _Reader(item)
    return [*reader.feed(request.arguments), *reader.end("completed")]


def unknown(call: McpCall) -> Sequence[Draft]:
    """The drafts that close an open call of a tool that is not offered: it is not sent."""
    closed = failed(call, _protocol_error(UNKNOWN_TOOL, f"The server offers no tool {call.name!r} in this request."))
    done = Progress(call.id, f"{_ARGUMENTS}.done", {"arguments": call.arguments})
    return [done, Progress(call.id, f"{_EVENT}.failed"), Closed(closed)]


def failed(call: McpCall, error: Mapping[str, Any]) -> McpCall:
    """The call with what went wrong."""
    return msgspec.structs.replace(call, status="failed", error=dict(error), output=None)


def interrupted(call: McpCall, note: str) -> McpCall:
    """A call whose outcome nobody knows."""
    return msgspec.structs.replace(call, status="incomplete", error=_protocol_error(INTERRUPTED, note))


def namespace(label: str) -> str:
    """What stands for a server among the namespaces of a toolbox; no namespace of a request is called so."""
    return f"mcp:{label}"


def spoken_name(label: str, name: str, taken: Collection[str]) -> str:
    """What the model calls a tool: unlike all those `taken`, and always the same for the same server and tool."""
    whole = _UNFIT.sub("_", f"{label}__{name}")
    if len(whole) <= LONGEST_NAME and whole not in taken:
        return whole
    mark = hashlib.sha256(f"{label}\n{name}".encode()).hexdigest()[:8]
    return f"{whole[: LONGEST_NAME - 9]}_{mark}"


def prompt_call(item: McpCall) -> PromptCall:
    """The call as the model reads it later."""
    return PromptCall(item.call_id, item.name, item.arguments or "{}", namespace=namespace(item.server_label))


def prompt_output(item: McpCall) -> PromptOutput:
    """What came of a call as the model reads it: text, and pictures."""
    match item.status:
        case "completed":
            return PromptOutput(item.call_id, _parts(item.output or ""))
        case "failed":
            return PromptOutput(item.call_id, _error_words(item.error))
        case "in_progress" | "calling" | "incomplete":
            return PromptOutput(item.call_id, "(interrupted: this call did not finish, and its effects are unknown)")
        case _:
            assert_never(item.status)


def prompt_request(item: McpApprovalRequest, answer: str) -> tuple[PromptCall, PromptOutput]:
    """A call that was not made, and what its user says to that."""
    call = PromptCall(item.id, item.name, item.arguments or "{}", namespace=namespace(item.server_label))
    return call, PromptOutput(item.id, answer)


def text_of(output: str) -> str:
    """What a call's output says; a word stands for each picture."""
    parts = _parts(output)
    if isinstance(parts, str):
        return parts
    return "\n".join(part.text if isinstance(part, InputText) else "[a picture]" for part in parts)


def _answered(call: McpCall, result: RemoteResult) -> McpCall:
    if result.failed:
        content = [part for part in result.parts if isinstance(part, str)]
        said = [{"type": "text", "text": text} for text in content]
        return failed(call, {"type": "mcp_tool_execution_error", "content": said})
    return msgspec.structs.replace(call, status="completed", output=_output(result.parts))


def _output(parts: Sequence[str | RemotePicture]) -> str:
    """What is kept of an answer: its text, or with pictures a list of content as MCP has it, in JSON."""
    if all(isinstance(part, str) for part in parts):
        return "\n".join(str(part) for part in parts)
    return json.dumps([_block(part) for part in parts], ensure_ascii=False)


def _block(part: str | RemotePicture) -> Mapping[str, str]:
    match part:
        case RemotePicture(media_type=kind, data=data):
            return {"type": "image", "data": data, "mimeType": kind}
        case str(text):
            return {"type": "text", "text": text}
        case _:
            assert_never(part)


def _parts(output: str) -> str | Sequence[Part]:
    """What `_output` kept, for the model."""
    if not output.startswith('[{"type": '):
        return output
    try:
        blocks = json.loads(output)
    except (ValueError, RecursionError):  # a text of the server's that begins like ours
        return output
    parts = [_part(block) for block in blocks]
    return [part for part in parts if part is not None] if None not in parts else output


def _part(block: Any) -> Part | None:
    match block:
        case {"type": "text", "text": str(text)}:
            return InputText(text=text)
        case {"type": "image", "data": str(data), "mimeType": str(kind)} if kind in PICTURES and _is_base64(data):
            return InputImage(image_url=f"data:{kind};base64,{data}")
        case {"type": "image"}:
            return InputText(text="[a picture that could not be read]")
        case _:
            return None


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False


def _error_words(error: Any) -> str:
    match error:
        case {"type": "mcp_tool_execution_error", "content": list(content)}:
            texts = [str(block.get("text", "")) for block in content if isinstance(block, dict)]
            return "The tool failed: " + "\n".join(texts)
        case {"message": message, "code": code}:
            return f"The call failed: {message} ({code})"
        case _:
            return f"The call failed: {error}"


def _protocol_error(code: int, message: str) -> dict[str, Any]:
    return {"type": "mcp_protocol_error", "code": code, "message": message}


def _read(text: str) -> Mapping[str, Any]:
    """The arguments of a call. Raises `RemoteFailure` if they are none."""
    if len(text) > MAX_ARGUMENT_CHARACTERS:
        words = f"The arguments have more than {MAX_ARGUMENT_CHARACTERS} characters."
        raise RemoteFailure("mcp_protocol_error", INVALID_PARAMS, words)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RemoteFailure("mcp_protocol_error", INVALID_PARAMS, "The arguments are not a JSON object; not sent.")
    return value
