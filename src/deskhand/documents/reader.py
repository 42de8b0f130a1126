"""The program that reads one file and ends: `python -I -m deskhand.documents.reader`.

It gets a `Question` and the file on its standard input, and writes an `Answer`. What it needs is imported first; then
it is confined; only then does a parser see the file.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from ..ports.documents import Section, UnreadableDocument
from . import confinement
from .exchange import Answer, Piece, Question
from .kinds import Kind, kind_of
from .package import Office, office_kind
from .text import CODECS, decode

_MODULES: Final[dict[Kind | Office, str]] = {
    "pdf": "pdf",
    "docx": "word",
    "pptx": "slides",
    "xlsx": "sheets",
    "html": "web",
}


def main() -> None:
    """Answer one question."""
    question = msgspec.json.decode(sys.stdin.buffer.readline(), type=Question)
    confinement.limit(question.memory_bytes, question.cpu_s)
    data = sys.stdin.buffer.read()
    try:
        said = msgspec.json.encode(_answer(question, data))
    except UnreadableDocument as exc:
        said = msgspec.json.encode(Answer(code=exc.code, message=exc.message))
    except MemoryError:
        message = "It takes too much memory to read the file. Send it in parts."
        said = msgspec.json.encode(Answer(code="invalid_file", message=message))
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()
    os._exit(0)  # parsers that saw something strange are not asked to tidy up


def _answer(question: Question, data: bytes) -> Answer:
    kind: Kind | Office = kind_of(question.filename, data)
    if kind == "package":
        kind = office_kind(data)
    module = _prepared(kind)
    confinement.confine()
    try:
        return _read(kind, module, question, data)
    except (UnreadableDocument, MemoryError):
        raise
    except Exception as exc:
        # Parsers of hostile files raise anything at all.
        message = f"The file is a broken {kind.upper()} file ({type(exc).__name__})."
        raise UnreadableDocument("invalid_file", message) from None


def _read(kind: Kind | Office, module: object, question: Question, data: bytes) -> Answer:
    pictures: list[bytes] = []
    sections: Iterable[Section]
    if kind == "text":
        sections = [Section(decode(data))]
    elif kind == "pdf":
        document = module.Pdf(data)  # type: ignore[attr-defined]
        pictures = list(document.pictures(question.pictures, question.picture_bytes))
        sections = document.sections()
    else:
        read: Callable[[bytes], Iterator[Section]] = module.read  # type: ignore[attr-defined]
        sections = read(data)
    return Answer(list(_bounded(sections, question.text_characters)), pictures)


def _bounded(sections: Iterable[Section], most: int) -> Iterator[Piece]:
    size = 0
    for section in sections:
        size += len(section.text)
        if size > most:
            message = f"The file has more text than is read, which is {most} characters. Send it in parts."
            raise UnreadableDocument("invalid_file", message)
        # Lone surrogates, which a parser may make of anything, are no JSON.
        yield Piece(section.text.encode("utf-8", "replace").decode(), section.page)


def _prepared(kind: Kind | Office) -> object:
    for name in CODECS:  # it is when they are first needed that they are imported, which would be too late
        importlib.import_module(f"encodings.{name}")
    if kind == "pdf":
        from PIL import Image

        Image.preinit()  # it looks for its formats when it first writes a picture
    return importlib.import_module(f".{_MODULES[kind]}", __package__) if kind in _MODULES else None


if __name__ == "__main__":
    main()
