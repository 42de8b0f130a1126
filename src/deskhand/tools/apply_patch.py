"""The `apply_patch` tool: file edits (V4A diffs) that the client applies."""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    ContainerReference,
    CreateFile,
    DeleteFile,
    PatchOperation,
    UpdateFile,
)
from .whole_calls import WholeReader

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


_SECTION = re.compile(r"^\*\*\* (Add|Update|Delete) File: (.+)\n?((?:(?!\*\*\* ).*\n?)*)", re.MULTILINE)


class ApplyPatchTool:
    """File edits on the client's machine."""

    hosted = False

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, _DESCRIPTION, _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "ApplyPatchReader":
        return ApplyPatchReader(call_id, new_id)


class ApplyPatchReader(WholeReader):
    """Announces each edit once it knows what kind it is, that is, at the end of the call."""

    def __init__(
        self, call_id: str, new_id: NewId, environment: ContainerReference | msgspec.UnsetType = msgspec.UNSET
    ) -> None:
        super().__init__()
        self._call_id = call_id
        self._environment = environment
        self._new_id = new_id

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        try:
            operations = _operations(self._arguments.whole())
        except ValueError as exc:
            return [] if ending == "incomplete" else self._unreadable(str(exc))
        drafts: list[Draft] = []
        for index, operation in enumerate(operations):
            # A patch of several files is several edits, each answered by itself.
            drafts += self._edit(operation, self._new_id("call") if index else self._call_id, ending)
        return drafts

    def _edit(self, operation: PatchOperation, call_id: str, ending: TurnEnding) -> list[Draft]:
        item = ApplyPatchCall(
            id=self._new_id("apc"),
            call_id=call_id,
            operation=operation,
            status="in_progress",
            environment=self._environment,
        )
        closed = Closed(msgspec.structs.replace(item, status=ending))
        if isinstance(operation, DeleteFile):
            return [Opened(item), closed]
        diff = operation.diff
        return [
            Opened(msgspec.structs.replace(item, operation=msgspec.structs.replace(operation, diff=""))),
            Progress(item.id, "response.apply_patch_call_operation_diff.delta", {"delta": diff}),
            Progress(item.id, "response.apply_patch_call_operation_diff.done", {"diff": diff}),
            closed,
        ]

    def _unreadable(self, reason: str) -> list[Draft]:
        call = ApplyPatchCall(
            id=self._new_id("apc"), call_id=self._call_id, operation=DeleteFile(path="(unreadable)"), status="completed"
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


def _operations(arguments: dict[str, Any]) -> list[PatchOperation]:
    """The edits of a call: the declared form, or a whole patch in an argument, as models write it that know Codex."""
    for value in arguments.values():
        if isinstance(value, str) and "*** Begin Patch" in value:
            return _envelope(value)
    fields = arguments.get("operation") if isinstance(arguments.get("operation"), dict) else arguments
    try:
        return [msgspec.convert(fields, CreateFile | UpdateFile | DeleteFile)]
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from None


def _envelope(text: str) -> list[PatchOperation]:
    operations: list[PatchOperation] = []
    for head, path, diff in _SECTION.findall(text.replace("\r\n", "\n").partition("*** End Patch")[0]):
        match head:
            case "Add":
                operations.append(CreateFile(path=path, diff=diff.rstrip("\n")))
            case "Update":
                operations.append(UpdateFile(path=path, diff=diff.rstrip("\n")))
            case _:
                operations.append(DeleteFile(path=path))
    if not operations:
        raise ValueError("the patch names no file (`*** Add File:`, `*** Update File:` or `*** Delete File:`)")
    return operations
