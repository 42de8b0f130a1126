#!/usr/bin/env python3
"""Merge PDF files, take pages out of one, or turn its pages."""

import argparse
import sys

try:
    from pypdf import PdfReader, PdfWriter
except ImportError:
    sys.exit("pypdf is missing in this computer: PDF files cannot be changed.")

from page_numbers import numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("merge", "take", "rotate"):
        command = commands.add_parser(name)
        command.add_argument("files", nargs="+" if name == "merge" else 1)
        command.add_argument("--output", required=True)
        if name != "merge":
            command.add_argument("--pages", help="such as 1-3,7; all if not given")
        if name == "rotate":
            command.add_argument("--by", type=int, choices=(90, 180, 270), required=True, help="degrees, clockwise")
    given = parser.parse_args()
    writer = PdfWriter()
    for path in given.files:
        reader = PdfReader(path)
        wanted = numbers(getattr(given, "pages", None), len(reader.pages))
        kept = range(1, len(reader.pages) + 1) if given.command == "rotate" else wanted
        for number in kept:
            page = writer.add_page(reader.pages[number - 1])
            if given.command == "rotate" and number in wanted:
                page.rotate(given.by)
    with open(given.output, "wb") as file:
        writer.write(file)
    print(f"{given.output}: {len(writer.pages)} pages")


if __name__ == "__main__":
    main()
