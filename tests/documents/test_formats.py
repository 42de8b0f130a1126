"""What is read of each format."""

import codecs
import struct

import pytest

from deskhand.documents.apart import ApartDocuments
from deskhand.ports.documents import Section, UnreadableDocument

from .made import changed, made_docx, made_pdf, made_pptx, made_xlsx, package_of, part

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"
TEXT_NAMES = [
    "a.c", "a.cpp", "a.cs", "a.css", "a.go", "a.java", "a.js", "a.json", "a.md", "a.php", "a.py", "a.rb", "a.sh",
    "a.tex", "a.ts", "a.txt", "a.csv", "a.unheard-of", "noname",
]  # fmt: skip
"""Formats of OpenAI's file search that are text, and others."""


async def test_word(documents: ApartDocuments) -> None:
    document = await documents.read("a.docx", made_docx())
    assert document.text == (
        "# Annual report\n\n# Results\n\nSales rose by 7 %.\n\n- north\n- south\n\n"
        "| Region | Sales |\n| --- | --- |\n| north \\| east | 12 |\n\n## Outlook\n\nGröße: 漢字"
    )
    assert [section.text.split("\n")[0] for section in document.sections] == [
        "# Annual report",
        "# Results",
        "## Outlook",
    ]


async def test_fields_to_fill_in_are_read(documents: ApartDocuments) -> None:
    paragraph = b"<w:p><w:r><w:t>filled in</w:t></w:r></w:p>"
    field = b"<w:sdt><w:sdtContent>" + paragraph + b"</w:sdtContent></w:sdt>"
    body = part(made_docx(), "document").replace(b"<w:sectPr", field + b"<w:sectPr", 1)
    assert (await documents.read("a.docx", changed(made_docx(), document=body))).text.endswith("漢字\n\nfilled in")


async def test_powerpoint(documents: ApartDocuments) -> None:
    document = await documents.read("a.pptx", made_pptx())
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |"
    first = f"# Plan\n\n- first\n- second\n\n{table}\n\nin a group\n\nNotes: say this"
    assert document.sections == [Section(first, 1), Section("# Slide 2", 2)]


async def test_excel(documents: ApartDocuments) -> None:
    document = await documents.read("a.xlsx", made_xlsx())
    rows = "| Region | Sales | Share |\n| --- | --- | --- |\n| r0 | 0 | 0 |\n| r1 | 1 | 0.25 |\n| r2 | 2 | 0.5 |"
    assert document.sections == [Section(f"## Sales\n\n{rows}"), Section("## Empty")]


async def test_the_first_thousand_rows_of_a_sheet(documents: ApartDocuments) -> None:
    document = await documents.read("a.xlsx", made_xlsx(1500))
    assert "| r998 |" in document.text
    assert "| r999 |" not in document.text
    assert "[the first 1000 rows are shown; there are more]" in document.text


async def test_pdf(documents: ApartDocuments) -> None:
    document = await documents.read("a.pdf", made_pdf(["one", "two", "three"]), pictures=2)
    assert document.sections == [Section("one", 1), Section("two", 2), Section("three", 3)]
    assert len(document.pictures) == 2
    assert all(picture.startswith(PNG) for picture in document.pictures)
    sizes = [struct.unpack(">II", picture[16:24]) for picture in document.pictures]
    assert sizes == [(1187, 1536)] * 2


async def test_pictures_of_any_page_have_bounds(documents: ApartDocuments) -> None:
    for box in ((14_400, 14_400), (3, 14_400), (1, 1)):
        [picture] = (await documents.read("a.pdf", made_pdf(["x"], box), pictures=1)).pictures
        assert max(struct.unpack(">II", picture[16:24])) <= 1536
    assert (await documents.read("a.pdf", made_pdf(["x"]))).pictures == []


async def test_html(documents: ApartDocuments) -> None:
    page = b"""<!DOCTYPE html><html><head><title>Cats &amp; dogs</title><style>p{}</style></head><body>
    <script>alert(1)</script><p>Cats <b>pur</b>r.<br>Dogs   bark.</p><h2>Kinds</h2>
    <ul><li>big<ul><li>lion</li></ul></li><li>small</li></ul><img alt="A cat" src=x>
    <table><tr><th>n</th><th>m</th></tr><tr><td>1</td><td>2</td></tr></table><pre>a
  b</pre></body></html>"""
    document = await documents.read("a.html", page)
    assert document.text == (
        "# Cats & dogs\n\nCats purr.\n\nDogs bark.\n\n## Kinds\n\n- big\n  - lion\n- small\n\nA cat\n\n"
        "| n | m |\n| --- | --- |\n| 1 | 2 |\n\n```\na\n  b\n```"
    )
    assert (await documents.read("noname", page)).text == document.text, "by what is in it"
    declared = "<html><meta charset=iso-8859-1><body>Größe".encode("latin-1")
    assert (await documents.read("a.htm", declared)).text == "Größe"


@pytest.mark.parametrize("name", TEXT_NAMES)
async def test_text_of_any_name(documents: ApartDocuments, name: str) -> None:
    assert (await documents.read(name, "# t\r\nGröße;1\n".encode())).sections == [Section("# t\nGröße;1\n")]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "Größe".encode(),
        codecs.BOM_UTF16_LE + "Größe".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "Größe".encode("utf-16-be"),
    ],
)
async def test_text_with_a_byte_order_mark(documents: ApartDocuments, data: bytes) -> None:
    assert (await documents.read("a.txt", data)).text == "Größe"


async def test_a_file_is_what_it_holds_whatever_its_name(documents: ApartDocuments) -> None:
    assert (await documents.read("a.txt", made_pdf(["inside"]))).text == "inside"
    assert "Sales rose" in (await documents.read("a.pdf", made_docx())).text
    assert (await documents.read("a.docx", b"only text")).text == "only text"


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("a.png", PNG + b"\0" * 20, "unsupported_file", "an image"),
        ("a.bin", b"ab\0cd", "unsupported_file", "not read here"),
        ("a.txt", "Größe".encode("latin-1"), "invalid_file", "not text in UTF-8"),
        ("a.zip", package_of({"a.txt": b"x"}), "unsupported_file", "not one of Word"),
        ("a.doc", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "unsupported_file", "before 2007"),
        ("a.docx", b"PK\x03\x04 and nothing", "invalid_file", "ZIP file that cannot be read"),
        ("a.pdf", b"%PDF-1.7\nnothing", "invalid_file", "broken"),
    ],
)
async def test_what_is_not_read_is_said(
    documents: ApartDocuments, name: str, data: bytes, code: str, words: str
) -> None:
    with pytest.raises(UnreadableDocument, match=words) as caught:
        await documents.read(name, data)
    assert caught.value.code == code
