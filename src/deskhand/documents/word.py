"""Word documents."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final

from docx import Document as open_document
from docx.oxml.ns import qn
from docx.table import Table, _Cell
from docx.text.paragraph import Paragraph

from ..ports.documents import Section
from .markdown import bullet, heading, sections, table

_PARAGRAPH: Final = qn("w:p")
_TABLE: Final = qn("w:tbl")
_FRAMES: Final = (qn("w:sdt"), qn("w:sdtContent"), qn("w:customXml"), qn("w:ins"))
"""What stands around paragraphs: fields to fill in, marks of data, changes that are not accepted yet."""
_LEVEL: Final = re.compile(r"(?:heading|list \w+) (\d)")


def read(data: bytes) -> Iterator[Section]:
    """A document's body in its order, cut at its headings."""
    return sections(_blocks(data))


def _blocks(data: bytes) -> Iterator[str]:
    document = open_document(BytesIO(data))
    # By hand: the library looks through all of them for each paragraph.
    styles = {style.style_id: (style.name or "").lower() for style in document.styles}
    waiting = list(reversed(document.element.body))
    while waiting:
        element = waiting.pop()
        if element.tag == _PARAGRAPH:
            yield _paragraph(Paragraph(element, document._body), styles.get(element.style or "", ""))
        elif element.tag == _TABLE:
            yield _table(Table(element, document._body))
        elif element.tag in _FRAMES:
            waiting.extend(reversed(element))


def _paragraph(paragraph: Paragraph, style: str) -> str:
    text = paragraph.text.strip()
    found = _LEVEL.match(style)
    level = int(found[1]) if found else 1
    if style == "title":
        return heading(1, text)
    if style.startswith("heading"):
        return heading(level, text)
    if style.startswith("list"):
        return bullet(text, level - 1)
    return text


def _table(given: Table) -> str:
    # By the cells that are there: the library's rows repeat a cell as often as it claims to span columns.
    return table([_Cell(cell, given).text for cell in row._tr.tc_lst] for row in given.rows)
