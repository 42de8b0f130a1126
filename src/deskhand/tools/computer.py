"""The `computer` and `computer_use_preview` tools: mouse, keyboard and screen of a computer that the client runs.

Models that do not know the tool by themselves get it as a function; what they do comes back as a `computer_call`, and
the client's screenshot is shown to them as an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..core.drafts import Closed, Draft, Opened
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.codec import encode, plain
from ..wire.computer import ComputerAction
from ..wire.items import ComputerCall, ComputerCallOutput, OpaqueItem
from ..wire.parts import InputImage
from .whole_calls import WholeReader

PREVIEW: Final = "computer_use_preview"
KINDS: Final = frozenset({"computer", PREVIEW})
"""The wire types of the tool."""

_NUMBER: Final = {"type": "integer"}
_WORDS: Final = {"type": "array", "items": {"type": "string"}}
_AT: Final = {"x": _NUMBER, "y": _NUMBER}
_BUTTON: Final = {"type": "string", "enum": ["left", "right", "wheel", "back", "forward"]}
_POINT: Final = {"type": "object", "properties": _AT, "required": ["x", "y"]}
_ACTIONS: Final[Mapping[str, tuple[Mapping[str, Any], Sequence[str]]]] = {
    "click": ({**_AT, "button": _BUTTON, "keys": _WORDS}, ["x", "y"]),
    "double_click": ({**_AT, "keys": _WORDS}, ["x", "y"]),
    "drag": ({"path": {"type": "array", "items": _POINT}, "keys": _WORDS}, ["path"]),
    "keypress": ({"keys": _WORDS}, ["keys"]),
    "move": ({**_AT, "keys": _WORDS}, ["x", "y"]),
    "screenshot": ({}, []),
    "scroll": ({**_AT, "scroll_x": _NUMBER, "scroll_y": _NUMBER, "keys": _WORDS}, ["x", "y"]),
    "type": ({"text": {"type": "string"}}, ["text"]),
    "wait": ({}, []),
}
_ACTION: Final = {
    "anyOf": [
        {"type": "object", "properties": {"type": {"const": name}, **fields}, "required": ["type", *required]}
        for name, (fields, required) in _ACTIONS.items()
    ]
}
MAX_ACTIONS: Final = 100


class ComputerTool:
    """A computer of the client's. `fields` is the tool on the wire; the preview tool says how large its screen is."""

    hosted = False

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._kind = str(fields.get("type"))
        self._fields = fields

    @property
    def declaration(self) -> FunctionDeclaration:
        most = 1 if self._kind == PREVIEW else MAX_ACTIONS
        actions = {"type": "array", "items": _ACTION, "minItems": 1, "maxItems": most}
        parameters = {"type": "object", "properties": {"actions": actions}, "required": ["actions"]}
        # Checked: a client acts on these as they are, on a real screen.
        return FunctionDeclaration(self._kind, self._description(), parameters, checked=True)

    def read(self, call_id: str, new_id: NewId) -> "ComputerReader":
        return ComputerReader(call_id, new_id, one_action=self._kind == PREVIEW)

    def _description(self) -> str:
        said = "Use the mouse and the keyboard of a computer with a screen. Actions are done in order."
        match self._fields:
            case {"display_width": int(width), "display_height": int(height)}:
                said += f" The screen is {width} by {height} pixels"
                said += f" ({str(self._fields.get('environment') or 'desktop')[:40]})."
            case _:
                said += " Coordinates are pixels of the last screenshot."
        return said + " The answer is a screenshot made after the last action; begin with `screenshot` to see it."


class ComputerReader(WholeReader):
    """Shows a call once its actions are whole. The preview tool's calls have one `action`."""

    def __init__(self, call_id: str, new_id: NewId, *, one_action: bool) -> None:
        super().__init__()
        self._call_id = call_id
        self._new_id = new_id
        self._one_action = one_action

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        try:
            actions = msgspec.convert(self._arguments.whole().get("actions"), tuple[ComputerAction, ...])
        except ValueError:
            # Only a call that was cut off gets here unchecked, and nobody could act on it.
            return []
        item = ComputerCall(id=self._new_id("cu"), call_id=self._call_id, status="in_progress", **self._told(actions))
        return [Opened(item), Closed(msgspec.structs.replace(item, status=ending))]

    def _told(self, actions: Sequence[ComputerAction]) -> dict[str, Any]:
        told = [plain(action) for action in actions]
        return {"action": told[0]} if self._one_action and told else {"actions": told}


def prompt_call(item: ComputerCall) -> PromptCall:
    """The call as the model reads it later."""
    one_action = isinstance(item.action, Mapping)
    actions = [item.action] if one_action else item.actions
    arguments = encode({"actions": actions if isinstance(actions, list) else []}).decode()
    name = PREVIEW if one_action else "computer"
    return PromptCall(item.call_id, name, arguments, native=OpaqueItem(plain(item)))


def prompt_output(item: ComputerCallOutput) -> PromptOutput:
    """The screenshot as the model sees it."""
    shot = item.output
    native = OpaqueItem(plain(item))
    if not isinstance(shot.image_url, str):
        return PromptOutput(item.call_id, "[The screenshot is no longer there.]", native=native)
    detail = shot.detail if isinstance(shot.detail, str) else "auto"
    return PromptOutput(item.call_id, [InputImage(image_url=shot.image_url, detail=detail)], native=native)
