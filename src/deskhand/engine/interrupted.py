"""Runs that died with their process: ended honestly, from what was stored."""

import msgspec

from ..core.writer import incomplete_item
from ..ports.store import ResponseStore
from ..tools import code_interpreter
from ..tools.shell import refusal
from ..wire.items import ApplyPatchCallOutput, CodeInterpreterCall, Item, OpaqueItem, ShellCall, ShellCallOutput
from ..wire.response import Response, ResponseError

REASON = "The server stopped while this response was running."
NOTE = "interrupted: the server stopped while this command ran; it may have run in part, and was not run again"

EDIT_NOTE = "interrupted: the server stopped while this edit was made; the file is as it was before or after it"


async def end_interrupted(response: Response, store: ResponseStore) -> None:
    """Store `response` as failed, its open items closed. A command found open is said to be interrupted."""
    calls = {item.call_id: item for item in response.output if isinstance(item, ShellCall)}
    changed = {}
    for index, item in enumerate(response.output):
        closed = _closed(item, calls)
        if closed is not item:
            changed[index] = closed
    output = [changed.get(index, item) for index, item in enumerate(response.output)]
    error = ResponseError("server_error", REASON)
    ended = msgspec.structs.replace(response, status="failed", error=error, output=output)
    await store.finish(ended, changed)


def _closed(item: Item, calls: dict[str, ShellCall]) -> Item:
    match item:
        case ShellCallOutput(output=()) if item.call_id in calls:
            return refusal(calls[item.call_id], item.id, NOTE)
        case ApplyPatchCallOutput(output=msgspec.UNSET):
            return msgspec.structs.replace(item, status="failed", output=EDIT_NOTE)
        case CodeInterpreterCall(status="interpreting"):
            return code_interpreter.refusal(item, NOTE, "incomplete")
        case OpaqueItem(status="in_progress" | "searching" | "calling"):
            return incomplete_item(item)
        case _ if getattr(item, "status", None) == "in_progress":
            return incomplete_item(item)
        case _:
            return item
