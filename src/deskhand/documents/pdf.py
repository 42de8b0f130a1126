"""PDF documents: the text of each page, and pictures of pages."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from ..ports.documents import Section, UnreadableDocument

MOST_PAGES: Final = 5000
LONGEST_SIDE: Final = 1536
"""Pixels of a picture: about what models that see take."""
SHORTEST_SIDE: Final = 192
"""A picture that is too many bytes at this size is left out."""
LARGEST_SCALE: Final = 2.0
"""Pixels of a picture for each point of a page, of which an inch has 72."""


class Pdf:
    """An open PDF. Raises `UnreadableDocument` if it is none."""

    def __init__(self, data: bytes) -> None:
        try:
            self._pdf = pdfium.PdfDocument(data)
            pages = len(self._pdf)
        except pdfium.PdfiumError as exc:
            if getattr(exc, "err_code", None) == raw.FPDF_ERR_PASSWORD:
                message = "The PDF is protected by a password. Save it without one."
            else:
                message = "The PDF is broken, or is none."
            raise UnreadableDocument("invalid_file", message) from None
        if not pages:
            raise UnreadableDocument("invalid_file", "The PDF has no pages.")
        if pages > MOST_PAGES:
            message = f"The PDF has {pages} pages; at most {MOST_PAGES} are read. Send it in parts."
            raise UnreadableDocument("invalid_file", message)
        self._pages = pages

    def sections(self) -> Iterator[Section]:
        """The text of each page. A page that is broken has none."""
        for index in range(self._pages):
            yield Section(self._text(index), index + 1)

    def pictures(self, most: int, most_bytes: int) -> Iterator[bytes]:
        """The first pages as PNG, so many at most, of so many bytes each at most. Broken pages have none."""
        for index in range(min(most, self._pages)):
            if picture := self._picture(index, most_bytes):
                yield picture

    def _text(self, index: int) -> str:
        try:
            page = self._pdf[index]
            textpage = page.get_textpage()
            text = textpage.get_text_bounded()
            textpage.close()
            page.close()
        except pdfium.PdfiumError:
            return ""
        # What ends a line in the middle of a word (FPDFText_GetText, in fpdf_text.h, says U+FFFE), and other ends.
        return str(text).replace("\ufffe", "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()

    def _picture(self, index: int, most_bytes: int) -> bytes:
        side = LONGEST_SIDE
        while side >= SHORTEST_SIDE:
            try:
                drawn = _drawn(self._pdf[index], side)
            except pdfium.PdfiumError:
                return b""
            if len(drawn) <= most_bytes:
                return drawn
            side //= 2
        return b""


def _drawn(page: Any, side: int) -> bytes:
    longest = max(page.get_size())
    if not 0 < longest < 1e6:
        return b""
    bitmap = page.render(scale=min(LARGEST_SCALE, side / longest))
    file = BytesIO()
    bitmap.to_pil().save(file, "PNG")
    bitmap.close()
    page.close()
    return file.getvalue()
