"""The legacy `local_shell` tool: one command line that the client runs."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from ..core.drafts import Closed, Draft, Opened
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.items import LocalShellAction, LocalShellCall, LocalShellCallOutput, answers
from .whole_calls import AnnouncedReader

NAME = "local_shell"

_PARAMETERS = {
    "type": "object",
    "properties": {
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "description": 'The program and its arguments, for example ["bash", "-lc", "ls -la"].',
        },
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
    },
    "required": ["command"],
}


class LocalShellTool:
    """A command line on the client's machine."""

    hosted = False

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionDeclaration(NAME, "Run a command on the user's machine and read what it prints.", _PARAMETERS)

    def read(self, call_id: str, new_id: NewId) -> "LocalShellReader":
        return LocalShellReader(call_id, new_id)


class LocalShellReader(AnnouncedReader[LocalShellCall]):
    """Announces the call when it begins and closes it whole: the API has no events between."""

    def __init__(self, call_id: str, new_id: NewId) -> None:
        action = LocalShellAction(command=())
        super().__init__(LocalShellCall(id=new_id("lsh"), call_id=call_id, action=action, status="in_progress"))
        self._new_id = new_id

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = list(self.feed(""))
        try:
            action = _action(self._arguments.whole())
        except ValueError as exc:
            call = msgspec.structs.replace(self._item, status="incomplete")
            if ending == "incomplete":
                return [*drafts, Closed(call)]
            reason = f"This call was not run: its arguments are unreadable: {exc}"
            output = LocalShellCallOutput(
                id=self._new_id("lsho"), call_id=call.call_id, output=reason, status="incomplete"
            )
            return [*drafts, Closed(call), Opened(output), Closed(output)]
        return [*drafts, Closed(msgspec.structs.replace(self._item, action=action, status=ending))]


def prompt_call(item: LocalShellCall) -> PromptCall:
    """The call as the model reads it later."""
    action = {key: value for key, value in msgspec.structs.asdict(item.action).items() if value}
    return PromptCall(item.call_id, NAME, json.dumps(action))


def prompt_output(item: LocalShellCallOutput) -> PromptOutput:
    """The output as the model reads it."""
    return PromptOutput(answers(item), item.output)


def _action(arguments: dict[str, Any]) -> LocalShellAction:
    command = arguments.get("command")
    if isinstance(command, str):
        arguments = {**arguments, "command": ["bash", "-lc", command]}
    known = {k: v for k, v in arguments.items() if k in {"command", "env", "timeout_ms", "user", "working_directory"}}
    try:
        return msgspec.convert({"type": "exec", **known}, LocalShellAction)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from None
