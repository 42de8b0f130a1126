"""Tables out of files: a header and rows, with numbers as numbers."""

import csv
import json
import re
import sys
from pathlib import Path

NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
MISSING = {"", "NA", "N/A", "null", "NULL", "None", "nan", "NaN"}


def typed(cells):
    """A column of CSV fields as numbers if all of them are, else as text; None where there is nothing.

    What begins with a zero, such as a postcode, is no number.
    """
    given = [None if cell is None or cell.strip() in MISSING else cell.strip() for cell in cells]
    if all(cell is None or (NUMBER.fullmatch(cell) and len(cell) <= 18) for cell in given):
        return [cell if cell is None else number(cell) for cell in given]
    return given


def number(text):
    return float(text) if any(mark in text for mark in ".eE") else int(text)


def read(path):
    """The tables of a file: pairs of a name and (header, rows)."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        return [(path.stem, of_csv(path))]
    if kind in (".json", ".jsonl", ".ndjson"):
        return [(path.stem, of_json(path))]
    if kind in (".xlsx", ".xlsm"):
        return of_excel(path)
    sys.exit(f"{path.name}: not a CSV, TSV, JSON, JSON lines or Excel file")


def of_csv(path):
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter=max(",;\t|", key=head.count))
        header = next(rows, [])
        columns = zip(*(fitted(row, len(header)) for row in rows if row))
        return named(header), [list(row) for row in zip(*map(typed, columns))]


def of_json(path):
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = json.loads(text)
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(found, dict):
        lists = [inner for inner in found.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
        found = max(lists, key=len) if lists else [found]
    objects = [row if isinstance(row, dict) else {"value": row} for row in found]
    header = list(dict.fromkeys(str(key) for row in objects for key in row))
    return header, [[flat(row.get(key)) for key in header] for row in objects]


def of_excel(path):
    try:
        import openpyxl
    except ImportError:
        sys.exit("openpyxl is missing in this computer: Excel files cannot be read. Ask for CSV.")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    found = []
    for sheet in book.worksheets:
        rows = [list(row) for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
        if rows:
            header = named(["" if cell is None else str(cell) for cell in rows[0]])
            found.append(
                (sheet.title, (header, [fitted([flat(cell) for cell in row], len(header)) for row in rows[1:]]))
            )
    return found


def flat(cell):
    """A value that SQLite can hold."""
    if isinstance(cell, bool):
        return int(cell)
    if cell is None or isinstance(cell, (int, float, str)):
        return cell
    return cell.isoformat() if hasattr(cell, "isoformat") else json.dumps(cell, ensure_ascii=False)


def named(header):
    """Names for all columns, each once."""
    found = []
    for number, name in enumerate(header, 1):
        name = name.strip() or f"column{number}"
        found.append(name if name.lower() not in [known.lower() for known in found] else f"{name}_{number}")
    return found


def fitted(row, width):
    return row[:width] + [None] * (width - len(row))
