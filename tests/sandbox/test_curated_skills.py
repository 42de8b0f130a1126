"""The skills that ship with Deskhand, used in a container as their SKILL.md says; what they make is read outside."""

import io
import json
import re
import struct
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from xml.etree import ElementTree

import openpyxl
import pypdf
import pytest

from deskhand.engine.curated_skills import read_curated
from deskhand.ports.sandbox import Bundle, Exited
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, Desk, Result, chunks, content

pytestmark = pytest.mark.anyio

ROOMY = replace(SMALL, memory_bytes=1 << 30, pids=256)
ORDERS = (
    "country,day,total,zip\n"
    "DE,2026-01-01,10.5,01234\nFR,2026-01-02,20,75001\nDE,2026-01-03,,01235\nIT,2026-01-04,7,00100\n"
)
REPORT = """# Findings

Sales **grew** in *all* countries & regions: ünï.

- first
- second

| country | total |
|---|---|
| DE | 10.5 |
| FR | `20` |

![Totals](totals.png)

---

## Outlook

1. one
2. two

> Quoted.
"""


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[Desk]:
    """A container with all curated skills and some data."""
    async with bench.desk(ROOMY) as made:
        for curated in read_curated().values():

            async def read(archive: bytes = curated.archive) -> AsyncIterator[bytes]:
                yield archive

            await bench.engine.provide(made.container_id, Bundle(curated.version.blob, curated.skill.name, read))
        await made.workspace.write("orders.csv", chunks(ORDERS.encode()))
        await made.workspace.write("report.md", chunks(REPORT.encode()))
        yield made


@pytest.fixture
async def equipped(desk: Desk) -> Desk:
    """The same, where the data packages are."""
    packages = "numpy, pandas, matplotlib, openpyxl, docx, pypdf, reportlab"
    if (await desk.python(f"import {packages}")).end != Exited(0):
        pytest.skip("the data packages are not installed on this host: deskhand kit install")
    return desk


async def use(desk: Desk, skill: str, command: str) -> Result:
    """Run a script of a skill, from the working directory."""
    result = await desk.run(f"python3 /mnt/skills/{skill}/scripts/{command}", timeout_s=60)
    assert result.end == Exited(0), f"{command}: {result}"
    return result


async def test_every_script_of_a_manual_is_there_and_says_how_it_is_used(desk: Desk) -> None:
    for name in ("spreadsheets", "documents", "charts", "data-analysis"):
        manual = (await desk.run(f"cat /mnt/skills/{name}/SKILL.md")).text
        scripts = set(re.findall(r"scripts/(\w+\.py)", manual))
        assert scripts, name
        for script in scripts:
            told = await desk.run(f"python3 /mnt/skills/{name}/scripts/{script} --help")
            assert "usage:" in told.text or b"is missing in this computer" in told.stderr, told


async def test_what_is_missing_is_said_plainly(desk: Desk) -> None:
    for skill, script, package in (
        ("spreadsheets", "make_workbook.py", "openpyxl"),
        ("documents", "make_docx.py", "python-docx"),
        ("documents", "make_pdf.py", "reportlab"),
        ("charts", "draw_chart.py", "matplotlib"),
    ):
        told = await desk.run(f"/usr/bin/python3 -I -S /mnt/skills/{skill}/scripts/{script} x y")
        assert told.end == Exited(1)
        assert told.stderr.decode().startswith(f"{package} is missing in this computer"), told


async def test_data_is_profiled_loaded_and_queried_with_nothing_but_python(desk: Desk) -> None:
    nested = {"items": [{"id": 1, "tags": ["a"]}, {"id": 2, "extra": True}]}
    await desk.workspace.write("things.json", chunks(json.dumps(nested).encode()))
    profile = (await use(desk, "data-analysis", "profile_data.py orders.csv")).text
    assert "orders: 4 rows x 4 columns" in profile
    assert "- total: number; 3 distinct; 1 missing; 7 to 20, mean 12.5" in profile
    assert "- zip: text" in profile, "a leading zero makes a column text"
    loaded = (await use(desk, "data-analysis", "load_sqlite.py work.db orders.csv things.json")).text
    assert '- things: 2 rows; "id" INTEGER, "tags" TEXT, "extra" INTEGER' in loaded
    query = 'query.py work.db "SELECT country, SUM(total) FROM orders GROUP BY 1 ORDER BY 2 DESC" --output out.csv'
    assert (await use(desk, "data-analysis", query)).text.splitlines()[:3] == [
        "country | SUM(total)",
        "FR | 20.0",
        "DE | 10.5",
    ]
    assert await content(desk.workspace, "out.csv") == b"country,SUM(total)\r\nFR,20.0\r\nDE,10.5\r\nIT,7.0\r\n"
    refused = await desk.run("python3 /mnt/skills/data-analysis/scripts/query.py work.db 'DROP TABLE orders'")
    assert b"readonly" in refused.stderr
    assert "- orders: 4 rows" in (await use(desk, "data-analysis", "profile_data.py work.db")).text


async def test_a_workbook_is_made_inspected_and_checked(equipped: Desk) -> None:
    columns = [{"header": "Month"}, {"header": "Units"}, {"header": "Revenue", "format": "#,##0.00"}]
    rows = [["2026-01", 120, "=B2*9.5"], ["2026-02", 150, "=B3*9.5"]]
    sales = {"name": "Sales", "columns": columns, "rows": rows, "total": {"sum": ["Units", "Revenue"]}}
    spec = {"sheets": [sales, {"name": "Raw", "csv": "/mnt/data/orders.csv"}]}
    await equipped.workspace.write("spec.json", chunks(json.dumps(spec).encode()))
    await equipped.workspace.write("orders.csv", chunks((ORDERS + "=1+1,x,1,2\n").encode()))
    await use(equipped, "spreadsheets", "make_workbook.py spec.json out.xlsx")
    shown = (await use(equipped, "spreadsheets", "inspect_workbook.py out.xlsx --rows 1")).text
    assert "Sales: 4 rows x 3 columns" in shown
    await use(equipped, "spreadsheets", "check_workbook.py out.xlsx")
    book = openpyxl.load_workbook(io.BytesIO(await content(equipped.workspace, "out.xlsx")))
    assert book.sheetnames == ["Sales", "Raw"]
    assert [cell.value for cell in book["Sales"][4]] == ["Total", "=SUM(B2:B3)", "=SUM(C2:C3)"]
    assert (book["Sales"]["C2"].number_format, book["Sales"].freeze_panes) == ("#,##0.00", "A2")
    assert [cell.value for cell in book["Raw"][2]] == ["DE", "2026-01-01", 10.5, "01234"]
    assert book["Raw"]["A6"].data_type == "s", "what comes from a CSV file does not compute"
    broken = (
        "import openpyxl as o\nb = o.load_workbook('out.xlsx')\nb['Sales']['A2'] = '=Gone!A1+(1'\nb.save('bad.xlsx')"
    )
    assert (await equipped.python(broken)).end == Exited(0)
    found = await equipped.run("python3 /mnt/skills/spreadsheets/scripts/check_workbook.py bad.xlsx")
    assert found.end == Exited(1)
    assert "'Gone'" in found.text
    assert "2 problems" in found.text


async def test_charts_are_pictures(equipped: Desk) -> None:
    for kind in ("line", "bar", "barh", "scatter", "hist", "box", "pie"):
        command = f"draw_chart.py orders.csv --kind {kind} --x country --y total --aggregate sum --output {kind}.png"
        told = (await use(equipped, "charts", command)).text
        assert told == f"{kind}.png: {kind}, 1 series, 3 points, 7 to 20"
        picture = await content(equipped.workspace, f"{kind}.png")
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", picture[16:24])
        assert 600 < width < 2400, kind
        assert 400 < height < 1600, kind
    await use(
        equipped, "charts", "draw_chart.py orders.csv --kind line --x day --y total --group country --output a.svg"
    )
    assert b"<svg" in await content(equipped.workspace, "a.svg")
    wrong = await equipped.run(
        "python3 /mnt/skills/charts/scripts/draw_chart.py orders.csv --kind bar --y x --output b.png"
    )
    assert b"there is no column 'x'; there are: country, day, total, zip" in wrong.stderr


async def test_documents_are_made_and_read(equipped: Desk) -> None:
    await use(equipped, "charts", "draw_chart.py orders.csv --kind bar --x country --y total --output totals.png")
    await use(equipped, "documents", "make_docx.py report.md out.docx --title Quarter")
    await use(equipped, "documents", "make_pdf.py report.md out.pdf --title Quarter")
    with zipfile.ZipFile(io.BytesIO(await content(equipped.workspace, "out.docx"))) as parts:
        text = "".join(ElementTree.fromstring(parts.read("word/document.xml")).itertext())
        pictures = [name for name in parts.namelist() if name.startswith("word/media/")]
    assert "Sales grew in all countries & regions: ünï." in text
    assert len(pictures) == 1
    reader = pypdf.PdfReader(io.BytesIO(await content(equipped.workspace, "out.pdf")))
    first, second = (page.extract_text() for page in reader.pages)
    for words in ("Quarter", "Findings", "Sales grew in all countries & regions: ünï.", "10.5", "Totals"):
        assert words in first
    assert "Outlook" in second
    assert len(reader.pages[0].images) == 1
    for name in ("out.docx", "out.pdf"):
        read = (await use(equipped, "documents", f"read_document.py {name}")).text
        assert "Findings" in read
        assert "Quoted." in read
    await use(equipped, "documents", "pdf_pages.py merge out.pdf out.pdf --output all.pdf")
    await use(equipped, "documents", "pdf_pages.py take all.pdf --pages 2,3-4 --output part.pdf")
    await use(equipped, "documents", "pdf_pages.py rotate part.pdf --by 90 --pages 1 --output turned.pdf")
    turned = pypdf.PdfReader(io.BytesIO(await content(equipped.workspace, "turned.pdf")))
    assert [page.rotation for page in turned.pages] == [90, 0, 0]
    assert "Findings" in turned.pages[1].extract_text()
