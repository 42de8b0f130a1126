#!/usr/bin/env python3
"""Load data files into a SQLite database, each as a table of its own."""

import argparse
import re
import sqlite3

import tables


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def affinity(values):
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int}:
        return "INTEGER"
    return "REAL" if kinds and kinds <= {int, float} else "TEXT"


def load(database, name, header, rows):
    table = re.sub(r"\W+", "_", name).strip("_").lower() or "data"
    types = [affinity(row[index] for row in rows) for index in range(len(header))]
    columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in zip(header, types))
    database.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
    database.execute(f"CREATE TABLE {quoted(table)} ({columns})")
    marks = ", ".join("?" * len(header))
    database.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", rows)
    print(f"- {table}: {len(rows)} rows; {columns}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("files", nargs="+")
    given = parser.parse_args()
    found = [table for path in given.files for table in tables.read(path)]
    with sqlite3.connect(given.database) as database:
        for name, (header, rows) in found:
            if header:
                load(database, name, header, rows)


if __name__ == "__main__":
    main()
