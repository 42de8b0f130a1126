"""Runs that died with their process: what they were in the middle of is closed honestly, from what was stored."""

from collections.abc import Mapping, Sequence

import msgspec

from ..core.drafts import Closed, Draft, Progress
from ..core.writer import incomplete_item
from ..ports.runs import Interrupted
from ..tools import code_interpreter, mcp
from ..tools.shell import refusal
from ..wire.events import Event
from ..wire.items import (
    ApplyPatchCallOutput,
    CodeInterpreterCall,
    FileSearchCall,
    Item,
    McpCall,
    McpListTools,
    Message,
    OpaqueItem,
    ShellCall,
    ShellCallOutput,
)
from ..wire.parts import OutputText, Part, Refusal

NOTE = "interrupted: the server stopped while this command ran; it may have run in part, and was not run again"

CALL_NOTE = "interrupted: the server stopped while this call was made; it may have had effects, and was not made again"

EDIT_NOTE = "interrupted: the server stopped while this edit was made; the file is as it was before or after it"


def closings(interrupted: Interrupted) -> Mapping[int, Sequence[Draft]]:
    """What closes the items of a response that were not closed when its process died, by `output_index`.

    Those are known by their events if they are stored; others show it by what they say of themselves. A message keeps
    what was stored of its text.
    """
    output = interrupted.response.output
    calls = {item.call_id: item for item in output if isinstance(item, ShellCall)}
    found: dict[int, Sequence[Draft]] = {}
    for index, item in enumerate(output):
        closed, events = _closed(item, calls), interrupted.open.get(index)
        if events is not None and isinstance(item, Message):
            found[index] = _half_said(item, events)
        elif closed is not item:
            found[index] = [Closed(closed)]
        elif events is not None:
            found[index] = [Closed(incomplete_item(item))]
    return found


def _half_said(message: Message, events: Sequence[Event]) -> Sequence[Draft]:
    """What ends a message in the middle of its text, of which there are deltas."""
    parts: list[Part] = [event.fields["part"] for event in events if event.type == "response.content_part.done"]
    parts = [msgspec.convert(part, OutputText | Refusal) for part in parts]
    where = {"content_index": len(parts)}
    deltas = [event for event in events if event.fields.get("content_index") == len(parts) and "delta" in event.fields]
    text = "".join(event.fields["delta"] for event in deltas)
    drafts: list[Draft] = []
    if any(event.type == "response.output_text.delta" for event in deltas):
        parts.append(OutputText(text=text))
        done = Progress(message.id, "response.output_text.done", {**where, "text": text, "logprobs": []})
        drafts = [done, Progress(message.id, "response.content_part.done", {**where, "part": parts[-1]})]
    elif deltas:
        parts.append(Refusal(refusal=text))
        done = Progress(message.id, "response.refusal.done", {**where, "refusal": text})
        drafts = [done, Progress(message.id, "response.content_part.done", {**where, "part": parts[-1]})]
    return [*drafts, Closed(msgspec.structs.replace(message, content=tuple(parts), status="incomplete"))]


def _closed(item: Item, calls: dict[str, ShellCall]) -> Item:
    match item:
        case ShellCallOutput(output=()) if item.call_id in calls:
            return refusal(calls[item.call_id], item.id, NOTE)
        case ApplyPatchCallOutput(output=msgspec.UNSET):
            return msgspec.structs.replace(item, status="failed", output=EDIT_NOTE)
        case CodeInterpreterCall(status="interpreting"):
            return code_interpreter.refusal(item, NOTE, "incomplete")
        case FileSearchCall(status="searching"):
            return incomplete_item(item)
        case McpCall(status="calling"):
            return mcp.interrupted(item, CALL_NOTE)
        case McpListTools(tools=(), error=msgspec.UNSET):
            return incomplete_item(item)
        case OpaqueItem(status="in_progress" | "searching" | "calling"):
            return incomplete_item(item)
        case _ if getattr(item, "status", None) == "in_progress":
            return incomplete_item(item)
        case _:
            return item
