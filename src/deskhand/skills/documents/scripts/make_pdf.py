#!/usr/bin/env python3
"""Make a PDF from Markdown."""

import argparse
import sys
from pathlib import Path
from xml.sax.saxutils import escape

try:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
    from reportlab.lib.units import cm
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.platypus import (
        Image,
        PageBreak,
        Paragraph,
        Preformatted,
        SimpleDocTemplate,
        Spacer,
        Table,
        TableStyle,
    )
except ImportError:
    sys.exit("reportlab is missing in this computer: PDF files cannot be made. Make a .docx or Markdown instead.")

from markdown_blocks import blocks, runs

MARGIN = 2.2 * cm
WIDTH = A4[0] - 2 * MARGIN
TALLEST = A4[1] - 3 * MARGIN
TAGS = {"plain": "{}", "bold": "<b>{}</b>", "italic": "<i>{}</i>", "code": '<font face="Courier">{}</font>'}
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique")
LETTERS = "Helvetica"


def use_unicode_font():
    """Take a font that has more than Western letters, if matplotlib or the system brings one."""
    folders = [Path("/usr/share/fonts/truetype/dejavu")]
    try:
        import matplotlib

        folders.append(Path(matplotlib.get_data_path(), "fonts", "ttf"))
    except ImportError:
        pass
    for folder in folders:
        if all((folder / f"{face}.ttf").exists() for face in FACES):
            for face in FACES:
                pdfmetrics.registerFont(TTFont(face, str(folder / f"{face}.ttf")))
            pdfmetrics.registerFontFamily(FACES[0], *FACES)
            return FACES[0]
    return LETTERS


def styles(font):
    sheet = getSampleStyleSheet()
    bold = f"{font}-Bold"
    body = ParagraphStyle("text", parent=sheet["BodyText"], fontName=font, fontSize=10.5, leading=15, spaceAfter=6)
    made = {"paragraph": body, "code": ParagraphStyle("code", parent=sheet["Code"], fontSize=8.5, leading=11)}
    made["quote"] = ParagraphStyle("quote", parent=body, leftIndent=14, textColor=colors.HexColor("#555555"))
    made["caption"] = ParagraphStyle("caption", parent=body, fontSize=9, textColor=colors.HexColor("#555555"))
    for level, size in ((0, 22), (1, 17), (2, 14), (3, 12), (4, 11)):
        made[f"heading{level}"] = ParagraphStyle(
            f"heading{level}",
            parent=body,
            fontName=bold,
            fontSize=size,
            leading=size * 1.25,
            spaceBefore=10,
            spaceAfter=6,
            keepWithNext=1,
        )
    return made


def marked(text):
    return "".join(TAGS[style].format(escape(words)) for style, words in runs(text))


def picture(path):
    width, height = ImageReader(str(path)).getSize()
    scale = min(WIDTH / width, TALLEST / height, 0.75)
    return Image(str(path), width * scale, height * scale)


def grid(rows, look):
    count = max(len(row) for row in rows)
    filled = [row + [""] * (count - len(row)) for row in rows]
    cells = [
        [Paragraph(marked(f"**{cell}**" if number == 0 and cell else cell), look["paragraph"]) for cell in row]
        for number, row in enumerate(filled)
    ]
    table = Table(cells, colWidths=[WIDTH / count] * count, repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.4, colors.HexColor("#BBBBBB")),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#E8EDF5")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    return table


def story(found, look, folder):
    number = 0
    for kind, content in found:
        number = number + 1 if kind == "item" and content[1] and content[0] == 0 else (number if kind == "item" else 0)
        if kind == "heading":
            yield Paragraph(marked(content[1]), look[f"heading{content[0]}"])
        elif kind == "item":
            depth, numbered, text = content
            style = ParagraphStyle(
                "item", parent=look["paragraph"], leftIndent=16 + 14 * depth, bulletIndent=2 + 14 * depth
            )
            yield Paragraph(marked(text), style, bulletText=f"{number}." if numbered and depth == 0 else "•")
        elif kind == "code":
            yield Preformatted(content, look["code"], maxLineLength=90, newLineChars="")
        elif kind == "table":
            yield from (grid(content, look), Spacer(1, 8))
        elif kind == "image":
            yield picture(folder / content[1])
            if content[0]:
                yield Paragraph(marked(content[0]), look["caption"])
        elif kind == "page":
            yield PageBreak()
        else:
            yield Paragraph(marked(content), look[kind])


def numbered(canvas, document):
    canvas.setFont(LETTERS, 8)
    canvas.drawRightString(A4[0] - MARGIN, 1.2 * cm, str(document.page))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("markdown")
    parser.add_argument("output")
    parser.add_argument("--title")
    given = parser.parse_args()
    source, look = Path(given.markdown), styles(use_unicode_font())
    found = blocks(source.read_text(encoding="utf-8"))
    parts = [Paragraph(marked(given.title), look["heading0"])] if given.title else []
    parts += story(found, look, source.parent)
    document = SimpleDocTemplate(
        given.output,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=given.title or source.stem,
    )
    document.build(parts, onFirstPage=numbered, onLaterPages=numbered)
    print(f"{given.output}: {len(found)} blocks, {document.page} pages")


if __name__ == "__main__":
    main()
