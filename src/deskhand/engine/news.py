"""What a model is told when its computer is not the one that it knows: it would trust files that are gone. Pure."""

import time

from ..ports.model import PromptMessage
from ..wire.parts import InputText

EMPTY = (
    "Note on your computer: the one of the earlier turns has expired or was deleted, and you have a new, empty one. "
    "Files, installed packages and processes of earlier turns are gone."
)


def brought_back(taken_at: int) -> str:
    """The computer had expired and was made again from a snapshot of `taken_at` (unix seconds)."""
    return (
        f"Note on your computer: it had expired and was brought back as it was at {_moment(taken_at)}. Files that were "
        "made or changed later are gone or old, and every process was ended."
    )


def rolled_back(taken_at: int) -> str:
    """Somebody has put the computer back to a snapshot of `taken_at` (unix seconds)."""
    return (
        f"Note on your computer: its user has put it back to how it was at {_moment(taken_at)}. Files that were made "
        "or changed later are gone or old, and every process was ended."
    )


def messages(text: str) -> list[PromptMessage]:
    """The text as part of a prompt; nothing if there is none."""
    return [PromptMessage("user", (InputText(text=text),), standing=True)] if text else []


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
