"""What a model does with a computer that the client runs (API reference, "computer / computer_use_preview")."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class _Action(Struct, frozen=True, kw_only=True, tag_field="type"):
    keys: list[str] | UnsetType = UNSET
    """Keys held meanwhile."""


class Click(_Action, frozen=True, kw_only=True, tag="click"):
    """Press a button of the mouse."""

    x: int
    y: int
    button: Literal["left", "right", "wheel", "back", "forward"] = "left"


class DoubleClick(_Action, frozen=True, kw_only=True, tag="double_click"):
    """Press the left button twice."""

    x: int
    y: int


class Point(Struct, frozen=True, kw_only=True):
    """A place on the screen, in pixels."""

    x: int
    y: int


class Drag(_Action, frozen=True, kw_only=True, tag="drag"):
    """Move the mouse along a path with its button held."""

    path: list[Point]


class Keypress(Struct, frozen=True, kw_only=True, tag_field="type", tag="keypress"):
    """Press keys together."""

    keys: list[str]


class Move(_Action, frozen=True, kw_only=True, tag="move"):
    """Move the mouse."""

    x: int
    y: int


class Screenshot(Struct, frozen=True, kw_only=True, tag_field="type", tag="screenshot"):
    """Look at the screen."""


class Scroll(_Action, frozen=True, kw_only=True, tag="scroll"):
    """Turn the wheel, by pixels."""

    x: int
    y: int
    scroll_x: int = 0
    scroll_y: int = 0


class Type(Struct, frozen=True, kw_only=True, tag_field="type", tag="type"):
    """Type a text."""

    text: str


class Wait(Struct, frozen=True, kw_only=True, tag_field="type", tag="wait"):
    """Let time pass."""


ComputerAction = Click | DoubleClick | Drag | Keypress | Move | Screenshot | Scroll | Type | Wait
