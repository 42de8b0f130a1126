"""Kinds of files, and the small Markdown: pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.documents.kinds import kind_of
from deskhand.documents.markdown import bullet, heading, sections, table
from deskhand.documents.text import decode, decode_page
from deskhand.ports.documents import UnreadableDocument


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", b"junk before\n%PDF-1.4", "pdf"),
        ("a.txt", b" " * 2000 + b"%PDF-1.4", "text"),
        ("a.html", b"PK\x03\x04", "package"),
        ("a.HTM", b"plain", "html"),
        ("noname", b"\xef\xbb\xbf <!-- c --> <!DOCTYPE  html>", "html"),
        ("noname", b"<html lang=en>", "html"),
        ("noname", b"<htmlish>", "text"),
        ("a.xml", b"<?xml version='1.0'?><x/>", "text"),
        ("empty", b"", "text"),
        ("noname", b"<!-- a -->" * 100 + b"<html>", "html"),
        ("noname", b"<!---->" * 200 + b"x", "text"),  # a row of comments may end in 2^n ways
    ],
)
def test_a_kind_is_found_by_what_is_in_a_file_first(name: str, data: bytes, kind: str) -> None:
    assert kind_of(name, data) == kind


@given(st.text(max_size=20), st.binary(max_size=200))
def test_every_file_has_a_kind_or_words(name: str, data: bytes) -> None:
    try:
        assert kind_of(name, data) in {"pdf", "package", "html", "text"}
    except UnreadableDocument as exc:
        assert exc.message.endswith(".")  # noqa: PT017  both are fine


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff")))
def test_text_is_read_as_it_was_written(text: str) -> None:
    assert decode(text.encode()) == text
    assert decode(b"\xff\xfe" + text.encode("utf-16-le")) == text
    assert decode(b"\xfe\xff" + text.encode("utf-16-be")) == text


def page(encoding: bytes, said: bytes) -> bytes:
    return b"<html><meta charset=" + encoding + b">" + said


@pytest.mark.parametrize("encoding", [b"windows-1251", b"CP1251", b"Windows_1251"])
def test_a_page_says_how_it_is_encoded(encoding: bytes) -> None:
    assert decode_page(page(encoding, "привет".encode("cp1251"))).endswith("привет")


@pytest.mark.parametrize(
    "encoding", [b"undefined", b"idna", b"punycode", b"unicode_escape", b"raw-unicode-escape", b"utf-7", b"hex", b"x"]
)
@pytest.mark.parametrize("said", [b"\\ud800 +2AA- \xff", b"\\ud800 +2AA- \0"])
def test_what_is_no_encoding_of_pages_is_not_tried(encoding: bytes, said: bytes) -> None:
    """Python has codecs that fail in ways of their own, make lone surrogates, or take the square of the size."""
    with pytest.raises(UnreadableDocument):
        decode_page(page(encoding, said))


@given(st.lists(st.lists(st.text(max_size=8), max_size=5), max_size=5))
def test_tables_have_as_many_columns_in_each_row(rows: list[list[str]]) -> None:
    lines = table(rows).split("\n") if table(rows) else []
    columns = {line.replace("\\|", "").count("|") for line in lines}
    assert len(columns) <= 1
    assert bool(lines) == any(cell.strip() for row in rows for cell in row)


def test_blocks_are_cut_at_headings_and_lists_stay_together() -> None:
    blocks = [heading(1, "A\n b"), "text", bullet("x"), bullet("y", 1), "", heading(9, "B"), heading(2, " ")]
    found = [section.text for section in sections(blocks)]
    assert found == ["# A b\n\ntext\n\n- x\n  - y", "###### B"]
