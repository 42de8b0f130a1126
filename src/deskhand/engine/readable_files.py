"""Files as a model reads them that takes no files: text, and pictures of what has no other form."""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ..core.errors import ApiError
from ..documents.kinds import Kind, kind_of
from ..documents.text import decode_page
from ..ports.documents import Document, Documents, UnreadableDocument
from ..wire.parts import InputImage, InputText, Part
from .files import data_url

MOST_KEPT_BYTES: Final = 64 << 20
"""Text and pictures of documents that were read lately: a conversation brings up the same ones turn after turn."""
_IMAGES: Final = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
)


@dataclass(frozen=True, slots=True)
class ReadableFiles:
    """Turns files into parts of messages. Of a PDF there are at most so many `pictures`, of its first pages."""

    documents: Documents
    pictures: int
    kept: "_Kept" = field(default_factory=lambda: _Kept(MOST_KEPT_BYTES))

    async def parts(self, name: str, content: bytes, detail: str, where: str) -> tuple[Part, ...]:
        """A file as text and images. Text of any kind stays as it is, that of web pages too. Raises `ApiError`."""
        if suffix := _image_suffix(content):
            return (InputImage(image_url=data_url(f"image{suffix}", content), detail=detail),)
        try:
            kind = kind_of(name, content)
            if kind in {"text", "html"}:
                return (_text(name, await asyncio.to_thread(decode_page, content)),)
            document = await self._document(name, content, self.pictures if kind == "pdf" else 0)
        except UnreadableDocument as exc:
            if exc.code == "server_error":
                raise ApiError(exc.message, status=500, code=exc.code, kind="server_error") from None
            raise ApiError(
                f"The file '{name}' cannot be given to the model: {exc.message} With a container, the model has the "
                "file itself, and can open it there.",
                code=exc.code,
                param=where,
            ) from None
        return _said(name, kind, document, detail)

    async def _document(self, name: str, content: bytes, pictures: int) -> Document:
        key = (await asyncio.to_thread(hashlib.sha256, content)).digest()
        if (kept := self.kept.get(key)) is None:
            kept = await self.documents.read(name, content, pictures=pictures)
            self.kept.put(key, kept)
        return kept


class _Kept:
    """The documents that were read last, as far as they have room."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._documents: OrderedDict[bytes, Document] = OrderedDict()

    def get(self, key: bytes) -> Document | None:
        if key in self._documents:
            self._documents.move_to_end(key)
        return self._documents.get(key)

    def put(self, key: bytes, document: Document) -> None:
        if _size(document) > self._most_bytes or key in self._documents:
            return
        self._documents[key] = document
        self._bytes += _size(document)
        while self._bytes > self._most_bytes:
            self._bytes -= _size(self._documents.popitem(last=False)[1])


def _size(document: Document) -> int:
    return sum(4 * len(section.text) + 64 for section in document.sections) + sum(map(len, document.pictures))


def _said(name: str, kind: Kind, document: Document, detail: str) -> tuple[Part, ...]:
    paged = kind == "pdf"  # nothing in their text says where pages begin
    blocks = [f"[page {section.page}]\n{section.text}" if paged else section.text for section in document.sections]
    text = _text(name, "\n\n".join(blocks))
    shown = [InputImage(image_url=data_url("page.png", picture), detail=detail) for picture in document.pictures]
    if not shown:
        return (text,)
    return (text, InputText(text=f"[the first {len(shown)} pages of {name}, as pictures]"), *shown)


def _image_suffix(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _IMAGES if content.startswith(magic)), "")


def _text(name: str, text: str) -> InputText:
    return InputText(text=f"[file: {name}]\n{text}\n[end of file: {name}]")
