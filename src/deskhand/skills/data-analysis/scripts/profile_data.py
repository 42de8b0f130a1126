#!/usr/bin/env python3
"""Show what is in a data file: for each column its type, gaps, range and examples."""

import argparse
import sqlite3
from collections import Counter
from pathlib import Path

import tables


def kind_of(values):
    kinds = {type(value) for value in values}
    if not kinds:
        return "empty"
    if kinds <= {int, float}:
        return "number" if float in kinds else "integer"
    return "text" if kinds == {str} else "mixed"


def describe(name, header, rows):
    print(f"\n## {name}: {len(rows)} rows x {len(header)} columns")
    repeated = len(rows) - len({tuple(row) for row in rows})
    if repeated:
        print(f"repeated rows: {repeated}")
    for index, column in enumerate(header):
        values = [row[index] for row in rows if row[index] is not None]
        kind, missing = kind_of(values), len(rows) - len(values)
        counts = Counter(values)
        words = [f"{column}: {kind}", f"{len(counts)} distinct"] + ([f"{missing} missing"] if missing else [])
        if kind in ("integer", "number"):
            words.append(f"{min(values):g} to {max(values):g}, mean {sum(values) / len(values):g}")
        elif kind == "text":
            words.append(f"{min(values)[:30]!r} to {max(values)[:30]!r}")
        common = ", ".join(f"{str(value)[:30]!r} x{count}" for value, count in counts.most_common(3))
        print("- " + "; ".join(words) + (f"; most common {common}" if counts and len(counts) < len(values) else ""))
    for row in rows[:3]:
        print("  e.g. " + " | ".join("" if cell is None else str(cell)[:30] for cell in row[:12]))


def describe_database(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        for (name,) in names.fetchall():
            quoted = '"' + name.replace('"', '""') + '"'
            (count,) = database.execute(f"SELECT COUNT(*) FROM {quoted}").fetchone()
            columns = database.execute(f"PRAGMA table_info({quoted})").fetchall()
            print(f"- {name}: {count} rows; " + ", ".join(f"{column[1]} {column[2]}".strip() for column in columns))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    given = parser.parse_args()
    if Path(given.file).suffix.lower() in (".db", ".sqlite", ".sqlite3"):
        describe_database(given.file)
        return
    for name, (header, rows) in tables.read(given.file):
        describe(name, header, rows)


if __name__ == "__main__":
    main()
