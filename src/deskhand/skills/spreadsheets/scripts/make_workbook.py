#!/usr/bin/env python3
"""Make a workbook from a JSON specification; SKILL.md shows one."""

import argparse
import csv
import json
import re
import sys

try:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
    from openpyxl.utils import get_column_letter
except ImportError:
    sys.exit("openpyxl is missing in this computer: workbooks cannot be made. Write CSV instead.")

HEADER = {
    "font": Font(bold=True, color="FFFFFF"),
    "fill": PatternFill("solid", fgColor="305496"),
    "alignment": Alignment(vertical="center", wrap_text=True),
}
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
WIDEST = 48


def typed(cells):
    """A column of CSV fields as numbers if all of them are; what begins with a zero or is very long stays text."""
    if all(not cell or (NUMBER.fullmatch(cell) and len(cell) <= 15) for cell in cells):
        return [number(cell) if cell else None for cell in cells]
    return list(cells)


def number(text):
    return float(text) if any(mark in text for mark in ".eE") else int(text)


def read_csv(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    columns = zip(*(row[: len(header)] + [""] * (len(header) - len(row)) for row in rows))
    return [{"header": name} for name in header], [list(row) for row in zip(*map(typed, columns))]


def fill(sheet, spec):
    columns, rows = read_csv(spec["csv"]) if "csv" in spec else (spec.get("columns", []), spec.get("rows", []))
    columns = [column if isinstance(column, dict) else {"header": column} for column in columns]
    for index, column in enumerate(columns, 1):
        cell = sheet.cell(1, index, column["header"])
        cell.font, cell.fill, cell.alignment = HEADER["font"], HEADER["fill"], HEADER["alignment"]
    for row in rows:
        if len(row) > len(columns):
            sys.exit(f"sheet {sheet.title!r}: a row has {len(row)} cells, but there are {len(columns)} columns")
        sheet.append(row)
    if "csv" in spec:
        keep_text(sheet)
    last = 1 + len(rows)
    if columns:
        sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{last}"
    sheet.freeze_panes = "A2"
    if "total" in spec:
        add_total(sheet, spec["total"], columns, last)
    style(sheet, columns)


def keep_text(sheet):
    """Text that came from elsewhere stays text: it must not compute when the file is opened."""
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            if isinstance(cell.value, str):
                cell.data_type, cell.number_format = "s", "@"


def add_total(sheet, total, columns, last):
    names = [column["header"] for column in columns]
    unknown = [name for name in total.get("sum", []) if name not in names]
    if unknown:
        sys.exit(f"sheet {sheet.title!r}: 'total' names a column that is not there: {unknown[0]!r}")
    line = Border(top=Side(style="thin"))
    for index, name in enumerate(names, 1):
        letter = get_column_letter(index)
        value = f"=SUM({letter}2:{letter}{last})" if name in total.get("sum", []) else None
        cell = sheet.cell(last + 1, index, value)
        cell.font, cell.border = Font(bold=True), line
    if names and names[0] not in total.get("sum", []):
        sheet.cell(last + 1, 1, total.get("label", "Total"))


def style(sheet, columns):
    for index, column in enumerate(columns, 1):
        letter, longest = get_column_letter(index), len(str(column["header"]))
        for (cell,) in sheet.iter_rows(min_row=2, min_col=index, max_col=index):
            if column.get("format"):
                cell.number_format = column["format"]
            if cell.value is not None and not str(cell.value).startswith("="):
                longest = max(longest, len(str(cell.value)))
        sheet.column_dimensions[letter].width = column.get("width", min(longest + 3, WIDEST))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specification")
    parser.add_argument("output")
    given = parser.parse_args()
    with open(given.specification, encoding="utf-8") as file:
        spec = json.load(file)
    if not spec.get("sheets"):
        sys.exit("the specification needs 'sheets', a list with at least one sheet")
    book = Workbook()
    book.remove(book.active)
    for sheet in spec["sheets"]:
        fill(book.create_sheet(sheet["name"]), sheet)
    book.save(given.output)
    print(f"{given.output}: " + ", ".join(f"{s.title} ({s.max_row} rows)" for s in book.worksheets))


if __name__ == "__main__":
    main()
