"""PowerPoint presentations."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from pptx import Presentation
from pptx.shapes.group import GroupShape

from ..ports.documents import Section
from .markdown import bullet, heading, squeezed, table

MOST_SLIDES: Final = 5000


def read(data: bytes) -> Iterator[Section]:
    """Each slide with its number: title, text, tables, notes."""
    for number, slide in enumerate(Presentation(BytesIO(data)).slides, 1):
        if number > MOST_SLIDES:
            yield Section(f"[{MOST_SLIDES} slides are read; the others are left out]")
            return
        yield Section("\n\n".join(block for block in _blocks(slide, number) if block), number)


def _blocks(slide: Any, number: int) -> Iterator[str]:
    title = slide.shapes.title
    yield heading(1, title.text_frame.text if title is not None else "") or f"# Slide {number}"
    for shape in _shapes(slide):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_text_frame:
            yield _text(shape.text_frame)
        elif getattr(shape, "has_table", False):
            yield table([cell.text_frame.text for cell in map(_cell(shape), row.tc_lst)] for row in _rows(shape))
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None and notes.text.strip():
        yield f"Notes: {notes.text.strip()}"


def _shapes(slide: Any) -> Iterator[Any]:
    """Every shape, those in groups as well, in order."""
    waiting = list(reversed(list(slide.shapes)))
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, GroupShape):
            waiting.extend(reversed(list(shape.shapes)))
        else:
            yield shape


def _text(frame: Any) -> str:
    entries = [(squeezed(paragraph.text), paragraph.level) for paragraph in frame.paragraphs]
    said = [entry for entry in entries if entry[0]]
    if len(said) == 1:
        return said[0][0]
    return "\n".join(bullet(text, level) for text, level in said)


def _rows(shape: Any) -> Any:
    return shape.table._tbl.tr_lst


def _cell(shape: Any) -> Any:
    from pptx.table import _Cell

    return lambda cell: _Cell(cell, shape.table)
