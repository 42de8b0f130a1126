"""What a file says, read from whatever format it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import DeskhandError


class UnreadableDocument(DeskhandError):
    """A file cannot be read: of a kind that nobody here reads, broken, or larger than the bounds allow.

    `code` is one of the API's for a file of a vector store: `unsupported_file`, `invalid_file`, `server_error`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a document in its order: Markdown text, and the number of its page or slide, from 1, if it has one."""

    text: str
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: its sections, and pictures of its pages (PNG) where those were asked for."""

    sections: Sequence[Section]
    pictures: Sequence[bytes] = ()

    @property
    def text(self) -> str:
        """All of it."""
        return "\n\n".join(section.text for section in self.sections if section.text)


class Documents(Protocol):
    """Reads files apart from this process: they are hostile."""

    async def read(self, filename: str, data: bytes, *, pictures: int = 0) -> Document:
        """What `data` says, with at most so many pictures of its first pages. Raises `UnreadableDocument`."""
        ...
