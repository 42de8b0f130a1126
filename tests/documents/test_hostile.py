"""Files made by enemies: each ends in words, soon, and leaves nothing behind; what is almost like it is read."""

import asyncio
import io
import re
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from deskhand.documents.apart import ApartDocuments
from deskhand.documents.bounds import DocumentBounds
from deskhand.ports.documents import UnreadableDocument

from .made import changed, made_docx, made_pdf, made_pptx, made_xlsx, package_of, part, pdf_of

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DTD = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
LAUGHS = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %s "%s">' % (chr(98 + n).encode(), b"&%s;" % chr(97 + n).encode() * 10) for n in range(12)
)


async def refused(documents: ApartDocuments, name: str, data: bytes, words: str) -> None:
    with pytest.raises(UnreadableDocument, match=words) as caught:
        await documents.read(name, data, pictures=3)
    assert caught.value.code in {"invalid_file", "unsupported_file"}


async def told(documents: ApartDocuments, name: str, data: bytes) -> str:
    """The text of a file, or the code of why it cannot be read: for files with which both are fine."""
    try:
        return (await documents.read(name, data, pictures=3)).text
    except UnreadableDocument as exc:
        return exc.code


def filled(prefix: bytes, filler: bytes, size: int, suffix: bytes = b"") -> bytes:
    return prefix + filler * (size // len(filler)) + suffix


def test_the_base_of_these_tests_is_sound() -> None:
    assert b"Sales rose" in part(made_docx(), "document")


async def test_a_part_that_unpacks_to_very_much(documents: ApartDocuments) -> None:
    def bomb(size: int) -> bytes:
        text = part(made_docx(), "document").replace(b"Sales rose", filled(b"Sales rose", b" ", size))
        return changed(made_docx(), document=text)

    assert "Sales rose" in (await documents.read("a.docx", bomb(MIB))).text
    await refused(documents, "a.docx", bomb(70 * MIB), "too large when it is unpacked: a part of it has")


async def test_parts_that_unpack_to_very_much_together(documents: ApartDocuments) -> None:
    def bomb(count: int) -> bytes:
        media = {f"word/media/{n}.bin": bytes(30 * MIB) for n in range(count)}
        return with_more(made_docx(), media)

    assert "Sales rose" in (await documents.read("a.docx", bomb(1))).text
    await refused(documents, "a.docx", bomb(18), "its parts have")


async def test_very_many_parts(documents: ApartDocuments) -> None:
    assert "Sales rose" in (await documents.read("a.docx", with_more(made_docx(), named(500)))).text
    await refused(documents, "a.docx", with_more(made_docx(), named(10_001)), "parts; at most")


@pytest.mark.parametrize("declared", [10, 40 * MIB])
async def test_a_part_that_lies_about_its_size(documents: ApartDocuments, declared: int) -> None:
    honest = with_more(made_docx(), {"word/media/lie.bin": bytes(3 * MIB)})
    assert "Sales rose" in (await documents.read("a.docx", honest)).text
    size = struct.pack("<I", 3 * MIB)
    assert honest.count(size) == 2, "in its own header, and in the directory"
    await refused(documents, "a.docx", honest.replace(size, struct.pack("<I", declared)), "cannot be read")


async def test_a_package_in_a_package_is_not_opened(documents: ApartDocuments) -> None:
    data = made_docx()
    for _ in range(50):
        data = package_of({"a.docx": data})
    await refused(documents, "a.docx", data, "not one of Word")


@pytest.mark.parametrize("ending", ["document", "styles"])
async def test_entities_of_xml_are_not_looked_up(documents: ApartDocuments, ending: str) -> None:
    original = part(made_docx(), ending)
    body = original[original.index(b"?>") + 2 :]
    given = body.replace(b"Sales rose", b"Sales &e; rose")
    text = await told(documents, "a.docx", changed(made_docx(), **{ending: DTD + given}))
    assert text == "invalid_file" or "Annual report" in text
    assert "root:" not in text


@pytest.mark.parametrize(
    ("name", "made", "ending"),
    [("a.docx", made_docx, "document"), ("a.pptx", made_pptx, "slide1"), ("a.xlsx", made_xlsx, "sheet1")],
)
async def test_a_billion_laughs(documents: ApartDocuments, name: str, made: Callable[[], bytes], ending: str) -> None:
    assert (await documents.read(name, made())).text
    original = part(made(), ending)
    body = original[original.index(b"?>") + 2 :] if original.startswith(b"<?xml") else original
    laughing = re.sub(rb"(<[awx:]*t[^>]*>)", rb"\1&l;", body, count=1)
    assert laughing != body
    data = changed(made(), **{ending: LAUGHS + b"]>" + laughing})
    text = await told(documents, name, data)
    assert text == "invalid_file" or len(text) < 10_000


async def test_xml_that_is_nested_deeply(documents: ApartDocuments) -> None:
    def nested(depth: int) -> bytes:
        deep = b"<w:sdt><w:sdtContent>" * depth + b"</w:sdtContent></w:sdt>" * depth
        return changed(
            made_docx(), document=part(made_docx(), "document").replace(b"<w:sectPr", deep + b"<w:sectPr", 1)
        )

    assert "Sales rose" in (await documents.read("a.docx", nested(20))).text
    await refused(documents, "a.docx", nested(200_000), "broken")


async def test_a_reader_that_cannot_start_is_no_fault_of_the_file() -> None:
    with pytest.raises(UnreadableDocument, match="on this server") as caught:
        await ApartDocuments(DocumentBounds(memory_bytes=1 << 70)).read("a.pdf", made_pdf(["x"]))
    assert caught.value.code == "server_error"


async def test_a_cell_that_claims_to_span_very_many_columns(documents: ApartDocuments) -> None:
    span = b'<w:tcPr><w:gridSpan w:val="100000000"/>'
    text = part(made_docx(), "document").replace(b"<w:tcPr>", span, 1)
    document = await documents.read("a.docx", changed(made_docx(), document=text))
    assert "| Region | Sales |" in document.text


async def test_a_sheet_with_a_cell_at_the_far_end(documents: ApartDocuments) -> None:
    sheet = part(made_xlsx(), "sheet1")
    far = b'<row r="1048576"><c r="XFD1048576"><v>7</v></c></row></sheetData>'
    lie = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', sheet)
    document = await documents.read("a.xlsx", changed(made_xlsx(), sheet1=lie.replace(b"</sheetData>", far)))
    assert "| r2 | 2 | 0.5 |" in document.text
    assert len(document.text) < 1000


async def test_a_page_that_is_nested_deeply() -> None:
    documents = ApartDocuments(DocumentBounds(cpu_s=2))
    page = b"<html><body>" + b"<div>" * 5000 + b"deep"
    assert (await documents.read("a.html", page)).text == "deep"
    worse = b"<html><body>" + b"<div>" * 300_000 + b"deep" + b"<table><tr><td>" * 1000
    assert await told(documents, "a.html", worse) == "invalid_file"


async def test_a_pdf_that_claims_very_many_pages(documents: ApartDocuments) -> None:
    data = made_pdf(["only"])
    assert (await documents.read("a.pdf", data)).text == "only"
    for count in (b"/Count 999999999", b"/Count -5"):
        lie = data.replace(b"/Count 1", count)
        assert await told(documents, "a.pdf", lie) in {"only", "invalid_file"}


async def test_a_pdf_with_very_many_pages(documents: ApartDocuments) -> None:
    many = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * 6000, 6000)
    data = pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", many, b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"])
    await refused(documents, "a.pdf", data, "has 6000 pages; at most 5000")


async def test_a_pdf_whose_pages_are_their_own_children(documents: ApartDocuments) -> None:
    loop = b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 4 /Parent 2 0 R >>"
    text = await told(documents, "a.pdf", pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", loop]))
    assert text in {"invalid_file", ""}


def streaming(content: bytes) -> bytes:
    """A PDF whose page is made of this stream, unpacked once."""
    packed = zlib.compress(content, 9)
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 600] /Contents 4 0 R "
            b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed),
        ]
    )


async def test_a_pdf_that_unpacks_to_very_much() -> None:
    documents = ApartDocuments(DocumentBounds(memory_bytes=512 * MIB, cpu_s=5))
    assert (await documents.read("a.pdf", streaming(b"BT /F1 9 Tf 9 9 Td (small) Tj ET"))).text == "small"
    bomb = streaming(b"BT /F1 9 Tf 9 9 Td (large) Tj ET" + b" " * (900 * MIB))
    assert len(bomb) < MIB
    assert await told(documents, "a.pdf", bomb) in {"invalid_file", "large", ""}


async def test_a_file_that_takes_too_long_to_compute() -> None:
    documents = ApartDocuments(DocumentBounds(cpu_s=1))
    assert (await documents.read("a.pdf", streaming(b"BT /F1 9 Tf 9 9 Td (quick) Tj ET"))).text == "quick"
    await refused(documents, "a.pdf", streaming(b"BT /F1 9 Tf 9 9 Td (slow) Tj ET\n" * 2_000_000), "too long")


async def test_a_file_that_takes_too_long_at_all() -> None:
    documents = ApartDocuments(DocumentBounds(wall_s=0.001))
    await refused(documents, "a.pdf", made_pdf(["slow"]), "could not be read within")


async def test_a_file_that_takes_too_much_memory() -> None:
    text = b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 400_000
    data = changed(made_docx(), document=part(made_docx(), "document").replace(b"<w:sectPr", text + b"<w:sectPr", 1))
    small = ApartDocuments(DocumentBounds(memory_bytes=160 * MIB))
    assert "Sales rose" in (await small.read("a.docx", made_docx())).text
    await refused(small, "a.docx", data, "memory|broken")


async def test_more_text_than_is_read(documents: ApartDocuments) -> None:
    few = ApartDocuments(DocumentBounds(text_characters=1000))
    for name, data in (("a.txt", b"x" * 1001), ("a.docx", made_docx_of(1001)), ("a.pdf", made_pdf(["w" * 25] * 50))):
        assert (await documents.read(name, data)).text
        await refused(few, name, data, "at most 1000|which is 1000")


async def test_more_bytes_than_are_read() -> None:
    small = ApartDocuments(DocumentBounds(input_bytes=1000))
    assert (await small.read("a.txt", b"x" * 1000)).text
    await refused(small, "a.txt", b"x" * 1001, "at most 1000 are read")


@pytest.mark.parametrize("made", [made_docx, made_pptx, made_xlsx, lambda: made_pdf(["a", "b"])])
async def test_files_that_are_cut_off_or_damaged(documents: ApartDocuments, made: Callable[[], bytes]) -> None:
    data = made()
    assert (await documents.read("a", data)).text
    damaged = [data[:cut] for cut in (len(data) // 3, len(data) - 30)]
    damaged += [data[:at] + b"\xff" * 64 + data[at + 64 :] for at in range(100, len(data) - 200, len(data) // 5)]

    assert all(await asyncio.gather(*(told(documents, "a", given) for given in damaged)))


async def test_a_part_whose_bytes_do_not_unpack(documents: ApartDocuments) -> None:
    data = bytearray(made_docx())
    assert "Sales rose" in (await documents.read("a.docx", bytes(data))).text
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        entry = package.getinfo("word/document.xml")
    names, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
    start = entry.header_offset + 30 + names + extra
    data[start : start + 8] = b"\xff" * 8
    await refused(documents, "a.docx", bytes(data), "cannot be read")


async def test_whoever_gives_up_leaves_no_process(documents: ApartDocuments) -> None:
    slow = streaming(b"BT /F1 9 Tf 9 9 Td (slow) Tj ET\n" * 2_000_000)
    task = asyncio.create_task(documents.read("a.pdf", slow))
    for _ in range(500):
        if readers():
            break
        await asyncio.sleep(0.01)
    assert readers()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not readers()


async def test_only_so_many_are_read_at_a_time() -> None:
    documents = ApartDocuments(DocumentBounds(at_once=2))
    seen = 0

    async def watch() -> None:
        nonlocal seen
        while True:
            seen = max(seen, len(readers()))
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(documents.read("a.pdf", made_pdf(["x"])) for _ in range(8)))
    watching.cancel()
    assert 1 <= seen <= 2


PROBE = """
import os, socket, sys
from deskhand.documents import confinement
confinement.limit(1 << 30, 5)
if sys.argv[1] == "confined":
    confinement.confine()
def tried(step):
    try:
        step()
        return "can"
    except Exception:
        return "cannot"
def connect():
    with socket.socket() as s:
        s.settimeout(5)
        s.connect(("127.0.0.1", int(sys.argv[2])))
print(*[f"{name}={tried(step)}" for name, step in dict(
    connect=connect, read=lambda: open(sys.argv[3]).read(), fork=lambda: os.fork() or os._exit(0),
    write=lambda: open("/dev/shm/deskhand-probe", "w").write("x"), root=lambda: os.setuid(0) or os.chroot("/"),
).items()])
"""


async def test_a_reader_can_do_nothing_but_compute(tmp_path: Path) -> None:
    """What code that has taken over a parser could do, and what it could do without the confinement."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        async def can(how: str) -> set[str]:
            command = (sys.executable, "-I", "-c", PROBE, how, str(port), str(secret))
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env={})
            said, _ = await process.communicate()
            return {pair.split("=")[0] for pair in said.decode().split() if pair.endswith("=can")}

        assert {"connect", "read", "fork"} <= await can("free")
        assert await can("confined") == set()


def readers() -> list[int]:
    """Readers of this process that are running."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"deskhand.documents.reader" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def with_more(package: bytes, parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO(package)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for name, content in parts.items():
            opened.writestr(name, content)
    return file.getvalue()


def named(count: int) -> dict[str, bytes]:
    return {f"word/media/{n}.bin": b"" for n in range(count)}


def made_docx_of(characters: int) -> bytes:
    text = part(made_docx(), "document").replace(b"Sales rose", b"x" * characters)
    return changed(made_docx(), document=text)
