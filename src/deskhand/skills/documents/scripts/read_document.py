#!/usr/bin/env python3
"""Print the text of a .docx or .pdf file."""

import argparse
import sys
from pathlib import Path

from page_numbers import numbers


def of_pdf(path, wanted):
    try:
        from pypdf import PdfReader
    except ImportError:
        sys.exit("pypdf is missing in this computer: PDF files cannot be read.")
    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        sys.exit("the PDF is locked with a password: ask the user for it")
    count = len(reader.pages)
    for number in numbers(wanted, count):
        text = (reader.pages[number - 1].extract_text() or "").strip()
        yield f"--- page {number} of {count} ---\n{text or '(no text: a scan or a picture)'}"


def of_docx(path):
    try:
        from docx import Document
        from docx.table import Table
    except ImportError:
        sys.exit("python-docx is missing in this computer: Word documents cannot be read.")
    for block in Document(path).iter_inner_content():
        if isinstance(block, Table):
            yield "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows)
        elif block.text.strip():
            style = block.style.name if block.style is not None else ""
            level = style.rpartition(" ")[2]
            mark = "# " if style == "Title" else "#" * int(level) + " " if style.startswith("Heading") else ""
            yield mark + block.text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--pages", help="of a PDF, such as 1-3,7")
    parser.add_argument("--limit", type=int, default=20_000, help="characters to print")
    given = parser.parse_args()
    kind = Path(given.file).suffix.lower()
    if kind not in (".pdf", ".docx"):
        sys.exit(f"a {kind or 'file without ending'} is not read here, only .pdf and .docx")
    text = "\n\n".join(of_pdf(given.file, given.pages) if kind == ".pdf" else of_docx(given.file))
    print(text[: given.limit])
    if len(text) > given.limit:
        print(f"[{len(text) - given.limit} more characters: use --limit or --pages]")


if __name__ == "__main__":
    main()
