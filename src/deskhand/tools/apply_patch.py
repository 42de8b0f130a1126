"""The `apply_patch` tool: file edits (V4A diffs) that the client applies."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.items import ApplyPatchCall, ApplyPatchCallOutput, CreateFile, DeleteFile, PatchOperation, UpdateFile
from .arguments import PartialArguments

NAME = "apply_patch"

_DESCRIPTION = (
    "Create, change or delete one file. `diff` is in V4A form: for a new file every line begins with `+`; for a "
    "change, hunks begin with `@@` and lines with ` ` (context), `-` (removed) or `+` (added). No `*** Begin Patch`."
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string"},
        "diff": {"type": "string"},
    },
    "required": ["type", "path"],
}


class ApplyPatchTool:
    """File edits on the client's machine."""

    hosted = False

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, _DESCRIPTION, _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "ApplyPatchReader":
        return ApplyPatchReader(call_id, new_id)


class ApplyPatchReader:
    """Announces the call once it knows what kind of edit it is, that is, at its end."""

    def __init__(self, call_id: str, new_id: NewId) -> None:
        self._call_id = call_id
        self._new_id = new_id
        self._arguments = PartialArguments()

    def feed(self, arguments: str) -> Sequence[Draft]:
        self._arguments.add(arguments)
        return []

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        item_id = self._new_id("apc")
        try:
            operation = _operation(self._arguments.whole())
        except ValueError as exc:
            return [] if ending == "incomplete" else self._unreadable(item_id, str(exc))
        item = ApplyPatchCall(id=item_id, call_id=self._call_id, operation=operation, status="in_progress")
        closed = Closed(msgspec.structs.replace(item, status=ending))
        if isinstance(operation, DeleteFile):
            return [Opened(item), closed]
        opened = Opened(msgspec.structs.replace(item, operation=msgspec.structs.replace(operation, diff="")))
        diff = operation.diff
        return [
            opened,
            Progress(item_id, "response.apply_patch_call_operation_diff.delta", {"delta": diff}),
            Progress(item_id, "response.apply_patch_call_operation_diff.done", {"diff": diff}),
            closed,
        ]

    def _unreadable(self, item_id: str, reason: str) -> list[Draft]:
        call = ApplyPatchCall(
            id=item_id, call_id=self._call_id, operation=DeleteFile(path="(unreadable)"), status="completed"
        )
        output = ApplyPatchCallOutput(
            id=self._new_id("apco"),
            call_id=self._call_id,
            status="failed",
            output=f"This edit was not made: its arguments are unreadable: {reason}",
        )
        return [Opened(call), Closed(call), Opened(output), Closed(output)]


def prompt_call(item: ApplyPatchCall) -> PromptCall:
    """The call as the model reads it later."""
    return PromptCall(item.call_id, NAME, json.dumps(msgspec.to_builtins(item.operation)))


def prompt_output(item: ApplyPatchCallOutput) -> PromptOutput:
    """The output as the model reads it."""
    text = item.output if isinstance(item.output, str) else ""
    return PromptOutput(item.call_id, f"[{item.status}] {text}".rstrip())


def _operation(arguments: dict[str, Any]) -> PatchOperation:
    fields = arguments.get("operation") if isinstance(arguments.get("operation"), dict) else arguments
    try:
        return msgspec.convert(fields, CreateFile | UpdateFile | DeleteFile)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from None
