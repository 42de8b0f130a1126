#!/usr/bin/env python3
"""Find what is wrong with a workbook: errors, formulas to nowhere, numbers as text. Exit code 1 if there is any."""

import argparse
import re
import sys

try:
    import openpyxl
except ImportError:
    sys.exit("openpyxl is missing in this computer: workbooks cannot be checked.")

ERRORS = ("#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#N/A", "#NUM!", "#NULL!")
SHEET = re.compile(r"(?:'((?:[^']|'')+)'|([A-Za-z_][\w.]*))!")
LIKE_NUMBER = re.compile(r"-?[1-9]\d*([.,]\d+)?")


def complaints(book):
    for sheet in book.worksheets:
        if sheet.max_row == 1 and sheet.max_column == 1 and sheet["A1"].value is None:
            yield f"{sheet.title}: the sheet is empty"
        for row in sheet.iter_rows():
            for cell in row:
                for words in wrong(cell, book.sheetnames):
                    yield f"{sheet.title}!{cell.coordinate}: {words}"


def wrong(cell, sheets):
    value = cell.value
    if not isinstance(value, str):
        return
    if any(error in value for error in ERRORS):
        yield f"an error value: {value[:60]}"
    if value.startswith("="):
        text = re.sub(r'"[^"]*"', '""', value)
        for quoted, plain in SHEET.findall(text):
            name = quoted.replace("''", "'") or plain
            if name not in sheets and "[" not in name:
                yield f"the formula names a sheet that is not there: {name!r}"
        if text.count("(") != text.count(")"):
            yield f"the formula's brackets do not match: {value[:60]}"
    elif LIKE_NUMBER.fullmatch(value.strip()) and cell.number_format != "@":
        yield f"a number stored as text: {value[:40]!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    given = parser.parse_args()
    found = list(complaints(openpyxl.load_workbook(given.file)))
    for line in found[:50]:
        print(line)
    print(f"{len(found)} problems" if found else "no problems")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
