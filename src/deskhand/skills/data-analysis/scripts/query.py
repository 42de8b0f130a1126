#!/usr/bin/env python3
"""Ask a SQLite database, and show the first rows of the answer or write all of them to a CSV file."""

import argparse
import csv
import sqlite3
import sys
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("sql")
    parser.add_argument("--rows", type=int, default=50, help="rows to show")
    parser.add_argument("--output", help="a CSV file for all rows")
    given = parser.parse_args()
    if not Path(given.database).is_file():
        sys.exit(f"there is no database {given.database}: make one with load_sqlite.py")
    database = sqlite3.connect(f"file:{given.database}?mode=ro", uri=True)
    try:
        answer = database.execute(given.sql)
    except sqlite3.Error as exc:
        sys.exit(f"the query failed: {exc}")
    header = [column[0] for column in answer.description or []]
    rows = answer.fetchall()
    print(" | ".join(header))
    for row in rows[: given.rows]:
        print(" | ".join("" if cell is None else str(cell)[:80] for cell in row))
    print(f"({len(rows)} rows" + (f", the first {given.rows} shown)" if len(rows) > given.rows else ")"))
    if given.output:
        with open(given.output, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        print(f"written: {given.output}")


if __name__ == "__main__":
    main()
