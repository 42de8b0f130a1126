"""Runs that died with their process: what they were in the middle of is closed honestly, from what was stored."""

from collections.abc import Collection

import msgspec

from ..core.writer import incomplete_item
from ..tools import code_interpreter
from ..tools.shell import refusal
from ..wire.items import ApplyPatchCallOutput, CodeInterpreterCall, Item, OpaqueItem, ShellCall, ShellCallOutput
from ..wire.response import Response

REASON = "The server stopped while this response was running."
NOTE = "interrupted: the server stopped while this command ran; it may have run in part, and was not run again"

EDIT_NOTE = "interrupted: the server stopped while this edit was made; the file is as it was before or after it"


def closings(response: Response, still_open: Collection[int]) -> dict[int, Item]:
    """How the items of a response look that were not closed when its process died, by `output_index`.

    `still_open` are those that readers saw open; others show it by what they say of themselves.
    """
    calls = {item.call_id: item for item in response.output if isinstance(item, ShellCall)}
    found: dict[int, Item] = {}
    for index, item in enumerate(response.output):
        closed = _closed(item, calls)
        if closed is not item:
            found[index] = closed
        elif index in still_open:
            found[index] = incomplete_item(item)
    return found


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
