"""Text of any kind: notes, code, Markdown, JSON, CSV. Pure."""

import codecs
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final

from ..ports.documents import UnreadableDocument

CODECS: Final = (
    "ascii", "utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be", "latin_1", "iso8859_1", "iso8859_2",
    "iso8859_5", "iso8859_7", "iso8859_9", "iso8859_15", "cp437", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "koi8_r", "koi8_u", "mac_roman", "shift_jis", "euc_jp",
    "iso2022_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr",
)  # fmt: skip
"""Modules of `encodings` with the encodings that files have. Of the others some make no text of it, some never end."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before the mark of UTF-16, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_LOOKED_AT: Final = 4096
"""Bytes in which a page says how it is encoded; the HTML standard asks for the first 1024."""
_BOUNDS: Final = "Text must be UTF-8, UTF-16 with a byte order mark, or ASCII."


def decode(data: bytes) -> str:
    """The text in `data`, without a byte order mark, lines ended by newlines. Raises `UnreadableDocument`."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _lines(_decoded(data[len(mark) :], encoding))
    if b"\0" in data:
        raise UnreadableDocument("unsupported_file", f"The file is of a kind that is not read here. {_BOUNDS}")
    return _lines(_decoded(data, "utf-8"))


def decode_page(data: bytes) -> str:
    """The text of an HTML page, which may say itself how it is encoded. Raises `UnreadableDocument`."""
    try:
        return decode(data)
    except UnreadableDocument:
        declared = _DECLARED.search(data[:_LOOKED_AT])
        encoding = _known(declared[1].decode("ascii")) if declared else None
        if encoding is None:
            raise
        return _lines(data.decode(encoding, "replace"))


def _known(name: str) -> str | None:
    """The codec that a page means by a name."""
    normal = normalize_encoding(name).lower()
    found = aliases.get(normal, normal)
    return found if found in CODECS else None


def _decoded(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        message = f"The file is not text in {encoding.upper()}: byte {exc.start} fits nothing. {_BOUNDS}"
        raise UnreadableDocument("invalid_file", message) from None
    return text


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
