"""What the server asks a reader, and what a reader answers: JSON, and the file itself behind the question."""

from msgspec import Struct

from ..ports.documents import Document, Section, UnreadableDocument


class Question(Struct, frozen=True):
    """Which file follows, and what is wanted of it. It takes one line; the file's bytes are all that comes after it."""

    filename: str
    pictures: int
    text_characters: int
    picture_bytes: int
    memory_bytes: int
    cpu_s: int


class Piece(Struct, frozen=True, array_like=True):
    """A section."""

    text: str
    page: int | None = None


class Answer(Struct, frozen=True):
    """What a file says, or why it cannot be read."""

    sections: list[Piece] = []
    pictures: list[bytes] = []
    code: str = ""
    message: str = ""

    def document(self) -> Document:
        """The document. Raises `UnreadableDocument`."""
        if self.code:
            raise UnreadableDocument(self.code, self.message)
        return Document([Section(piece.text, piece.page) for piece in self.sections], self.pictures)
