"""What kind of file something is: by what it holds first, then by its name. Pure."""

import re
from typing import Final, Literal

from ..ports.documents import UnreadableDocument

Kind = Literal["pdf", "package", "html", "text"]
"""A package is a ZIP file: of Office, or of something else."""

_PDF_LOOKED_AT: Final = 1024
"""Readers accept a header anywhere in so many bytes (ISO 32000-1, annex H, implementation note 13)."""
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
# A comment ends where it first can: if it might end later too, a row of them would be read in 2^n ways.
_HTML: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?><!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.I | re.S)
_HTML_NAMES: Final = (".html", ".htm", ".xhtml")
_FOREIGN: Final = (
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF87a", "an image"),
    (b"GIF89a", "an image"),
    (b"BM\x00", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x1f\x8b", "a compressed file"),
    (b"BZh", "a compressed file"),
    (b"\xfd7zXZ\x00", "a compressed file"),
    (b"(\xb5/\xfd", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"Rar!\x1a\x07", "an archive"),
    (b"SQLite format 3\x00", "a database"),
    (b"PAR1", "a Parquet file"),
    (b"{\\rtf", "a rich text file"),
)


def kind_of(filename: str, data: bytes) -> Kind:
    """The kind of a file. Raises `UnreadableDocument` for those that nobody here reads."""
    if b"%PDF-" in data[:_PDF_LOOKED_AT]:
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "package"
    if data.startswith(_OLE):
        message = (
            "The file has the format that Office used before 2007, or is protected by a password. "
            "Save it as .docx, .xlsx or .pptx, without a password."
        )
        raise UnreadableDocument("unsupported_file", message)
    for magic, words in _FOREIGN:
        if data.startswith(magic):
            raise UnreadableDocument("unsupported_file", f"The file is {words}, which has no text to read.")
    if _HTML.match(data[:2048]) or filename.lower().endswith(_HTML_NAMES):
        return "html"
    return "text"
