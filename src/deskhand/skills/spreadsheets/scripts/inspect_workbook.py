#!/usr/bin/env python3
"""Show what is in a workbook, in a few lines for each sheet."""

import argparse
import sys

try:
    import openpyxl
except ImportError:
    sys.exit("openpyxl is missing in this computer: workbooks cannot be read. Ask for CSV instead.")


def shown(row, most=12):
    cells = ["" if cell is None else str(cell)[:40] for cell in row[:most]]
    return " | ".join(cells) + (f" | … ({len(row)} columns)" if len(row) > most else "")


def describe(sheet, rows):
    print(f"\n## {sheet.title}: {sheet.max_row} rows x {sheet.max_column} columns ({sheet.dimensions})")
    formulas = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        if number <= rows + 1:
            print(f"{number:>5}: {shown(row)}")
        formulas += sum(isinstance(cell, str) and cell.startswith("=") for cell in row)
    print(f"formulas: {formulas}, merged: {len(sheet.merged_cells.ranges)}, charts: {len(sheet._charts)}")
    if sheet.tables:
        print("tables: " + ", ".join(f"{table.name} {table.ref}" for table in sheet.tables.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=5, help="rows to show after the first")
    parser.add_argument("--sheet", help="only this sheet")
    given = parser.parse_args()
    book = openpyxl.load_workbook(given.file)
    if given.sheet and given.sheet not in book.sheetnames:
        sys.exit(f"no sheet {given.sheet!r}; there are: {', '.join(book.sheetnames)}")
    print(f"sheets: {', '.join(book.sheetnames)}")
    for sheet in book.worksheets:
        if given.sheet in (None, sheet.title):
            describe(sheet, given.rows)


if __name__ == "__main__":
    main()
