"""Excel workbooks."""

import datetime
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

from openpyxl import load_workbook

from ..ports.documents import Section
from .markdown import WIDEST_TABLE, heading, table

MOST_SHEETS: Final = 200
MOST_ROWS: Final = 1000
"""Rows of a sheet (API reference, "Content parts")."""


def read(data: bytes) -> Iterator[Section]:
    """The first rows of each sheet as a table, with the values that were last calculated."""
    workbook = load_workbook(BytesIO(data), read_only=True, data_only=True)
    for number, sheet in enumerate(workbook.worksheets):
        if number == MOST_SHEETS:
            yield Section(f"[{MOST_SHEETS} sheets are read; the others are left out]")
            return
        yield Section("\n\n".join(block for block in _blocks(sheet) if block))


def _blocks(sheet: Any) -> Iterator[str]:
    yield heading(2, str(sheet.title))
    sheet.reset_dimensions()  # what a sheet says of its size is not always so
    rows = list(_rows(sheet))
    yield table(rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        yield f"[the first {MOST_ROWS} rows are shown; there are more]"


def _rows(sheet: Any) -> Iterator[Sequence[str]]:
    for row in sheet.iter_rows(max_row=MOST_ROWS + 1, max_col=WIDEST_TABLE, values_only=True):
        yield [_value(value) for value in row]


def _value(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ")
        case _:
            return str(value)
