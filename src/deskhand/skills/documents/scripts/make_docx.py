#!/usr/bin/env python3
"""Make a Word document from Markdown."""

import argparse
import sys
from pathlib import Path

try:
    from docx import Document
    from docx.shared import Inches, Pt
except ImportError:
    sys.exit("python-docx is missing in this computer: Word documents cannot be made. Write Markdown instead.")

from markdown_blocks import blocks, runs

WIDEST = Inches(6)


def write(paragraph, text):
    for style, words in runs(text):
        run = paragraph.add_run(words)
        run.bold, run.italic = style == "bold", style == "italic"
        if style == "code":
            run.font.name, run.font.size = "Consolas", Pt(10)


def add_table(document, rows):
    width = max(len(row) for row in rows)
    table = document.add_table(rows=0, cols=width, style="Light Grid Accent 1")
    for number, row in enumerate(rows):
        for cell, text in zip(table.add_row().cells, row):
            write(cell.paragraphs[0], f"**{text}**" if number == 0 and text else text)
    document.add_paragraph()


def add(document, kind, content, folder):
    if kind == "heading":
        document.add_heading(content[1], content[0])
    elif kind == "paragraph":
        write(document.add_paragraph(), content)
    elif kind == "quote":
        write(document.add_paragraph(style="Intense Quote"), content)
    elif kind == "item":
        depth, numbered, text = content
        style = ("List Number" if numbered else "List Bullet") + (f" {depth + 1}" if 0 < depth < 3 else "")
        write(document.add_paragraph(style=style), text)
    elif kind == "code":
        run = document.add_paragraph().add_run(content)
        run.font.name, run.font.size = "Consolas", Pt(9)
    elif kind == "table":
        add_table(document, content)
    elif kind == "image":
        document.add_picture(str(folder / content[1]), width=WIDEST)
        if content[0]:
            document.add_paragraph(content[0], style="Caption")
    elif kind == "page":
        document.add_page_break()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("markdown")
    parser.add_argument("output")
    parser.add_argument("--title")
    given = parser.parse_args()
    source = Path(given.markdown)
    document = Document()
    if given.title:
        document.core_properties.title = given.title
        document.add_heading(given.title, 0)
    found = blocks(source.read_text(encoding="utf-8"))
    for kind, content in found:
        add(document, kind, content, source.parent)
    document.save(given.output)
    print(f"{given.output}: {len(found)} blocks")


if __name__ == "__main__":
    main()
