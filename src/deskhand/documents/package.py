"""Office files as packages: ZIP files of many parts, which may be bombs."""

import zipfile
from io import BytesIO
from typing import Final, Literal

from ..ports.documents import UnreadableDocument

Office = Literal["docx", "pptx", "xlsx"]

MOST_PARTS: Final = 10_000
LARGEST_XML: Final = 64 << 20
"""Bytes of one part that is parsed: what comes of it takes ten times as much."""
LARGEST_TOTAL: Final = 512 << 20
_READ_AT_ONCE: Final = 1 << 20
_LONGEST_REASON: Final = 200
_XML: Final = (".xml", ".rels")
_MAIN_PARTS: Final[tuple[tuple[str, Office], ...]] = (
    ("word/document", "docx"),
    ("ppt/presentation", "pptx"),
    ("xl/workbook", "xlsx"),
)


def office_kind(data: bytes) -> Office:
    """Which program's file it is, once it is known to be of an acceptable size. Raises `UnreadableDocument`."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as package:
            parts = package.infolist()
            _check_declared(parts)
            found = _kind({part.filename for part in parts})
            _check_real(package, parts)
            return found
    except (UnreadableDocument, MemoryError):
        raise
    except Exception as exc:
        # The library, and those that unpack for it, raise anything at all.
        message = f"The file is a ZIP file that cannot be read: {str(exc)[:_LONGEST_REASON]}."
        raise UnreadableDocument("invalid_file", message) from None


def _kind(names: set[str]) -> Office:
    for prefix, kind in _MAIN_PARTS:
        if any(name.startswith(prefix) and name.endswith(".xml") for name in names):
            return kind
    message = "The file is a ZIP file, and not one of Word, PowerPoint or Excel. Send what is in it by itself."
    raise UnreadableDocument("unsupported_file", message)


def _check_declared(parts: list[zipfile.ZipInfo]) -> None:
    if len(parts) > MOST_PARTS:
        raise _too_large(f"it has {len(parts)} parts; at most {MOST_PARTS} are read")
    if (total := sum(part.file_size for part in parts)) > LARGEST_TOTAL:
        raise _too_large(f"its parts have {total} bytes; at most {LARGEST_TOTAL} are read")
    for part in parts:
        if part.filename.lower().endswith(_XML) and part.file_size > LARGEST_XML:
            raise _too_large(f"a part of it has {part.file_size} bytes; at most {LARGEST_XML} are read")
        if part.flag_bits & 1:
            raise UnreadableDocument("invalid_file", "The file is protected by a password. Save it without one.")


def _check_real(package: zipfile.ZipFile, parts: list[zipfile.ZipInfo]) -> None:
    """Unpack all of it once: a part that is not what it declares ends here, as a bad ZIP file."""
    for part in parts:
        with package.open(part) as content:
            size = 0
            while piece := content.read(_READ_AT_ONCE):
                size += len(piece)
                if size > part.file_size:
                    raise zipfile.BadZipFile("a part is larger than it says")
            if size != part.file_size:
                raise zipfile.BadZipFile("a part is smaller than it says")


def _too_large(why: str) -> UnreadableDocument:
    return UnreadableDocument("invalid_file", f"The file is too large when it is unpacked: {why}.")
