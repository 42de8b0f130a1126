"""Documents made by the libraries that people make them with."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

import docx
import openpyxl
import pptx
from pptx.util import Inches

FONT: Final = "/Resources << /Font << /F1 3 0 R >> >>"


def made_docx() -> bytes:
    """Headings, lists and a table."""
    document = docx.Document()
    document.add_heading("Annual report", 0)
    document.add_heading("Results", 1)
    document.add_paragraph("Sales rose by 7 %.")
    document.add_paragraph("north", style="List Bullet")
    document.add_paragraph("south", style="List Bullet")
    table = document.add_table(2, 2)
    for row, words in zip(table.rows, (("Region", "Sales"), ("north | east", "12")), strict=True):
        for cell, word in zip(row.cells, words, strict=True):
            cell.text = word
    document.add_heading("Outlook", 2)
    document.add_paragraph("Größe: 漢字")
    return saved(document)


def made_pptx() -> bytes:
    """A slide with a list, a table and notes; and an empty one."""
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Plan"
    slide.placeholders[1].text = "first\nsecond"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    for row, words in enumerate((("a", "b"), ("1", "2"))):
        for column, word in enumerate(words):
            table.cell(row, column).text = word
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Inches(1), Inches(5), Inches(2), Inches(1)).text_frame.text = "in a group"
    slide.notes_slide.notes_text_frame.text = "say this"
    presentation.slides.add_slide(presentation.slide_layouts[6])
    return saved(presentation)


def made_xlsx(rows: int = 3) -> bytes:
    """Two sheets."""
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "Sales"
    sheet.append(["Region", "Sales", "Share"])
    for number in range(rows):
        sheet.append([f"r{number}", number, number / 4])
    workbook.create_sheet("Empty")
    return saved(workbook)


def made_pdf(pages: Sequence[str], box: tuple[float, float] = (612, 792)) -> bytes:
    """A PDF with a line of text on each page, spelled out by hand (ISO 32000-1, annex H.3)."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids = []
    for text in pages:
        content = f"BT /F1 24 Tf 72 72 Td ({text}) Tj ET".encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %g %g] /Contents %d 0 R " + FONT + " >>"
        objects.append((page % (*box, len(objects))).encode())
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    return pdf_of(objects)


def pdf_of(objects: Sequence[bytes]) -> bytes:
    """A PDF file of these objects, of which the first is the catalogue."""
    file, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % place for place in places)
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(file)


def package_of(parts: Mapping[str, bytes], level: int = 1) -> bytes:
    """A ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return file.getvalue()


def changed(package: bytes, **parts: bytes) -> bytes:
    """An Office file in which other bytes stand for some parts, named by the end of their path without `.xml`."""
    with zipfile.ZipFile(io.BytesIO(package)) as old:
        found = {name: old.read(name) for name in old.namelist()}
    for ending, content in parts.items():
        [name] = [name for name in found if name.endswith(f"/{ending}.xml")]
        found[name] = content
    return package_of(found)


def part(package: bytes, ending: str) -> bytes:
    """The bytes of a part."""
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        [name] = [name for name in opened.namelist() if name.endswith(f"/{ending}.xml")]
        return opened.read(name)


def saved(document: object) -> bytes:
    """The bytes of what can save itself."""
    file = io.BytesIO()
    document.save(file)  # type: ignore[attr-defined]
    return file.getvalue()
