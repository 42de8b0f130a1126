"""Which files a text names, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.citations import (
    MAX_CHARACTERS,
    MAX_CITATIONS,
    MAX_FILES,
    MAX_LOOKS,
    Citable,
    Source,
    cite,
    is_worth_citing,
)

TABLE = Citable("cntr_1", "cfile_1", "/mnt/data/table.csv")
DEEP = Citable("cntr_1", "cfile_2", "/mnt/data/out/table.csv")
BARE = Citable("cntr_1", "cfile_3", "/mnt/data/a")
NEW = Citable("cntr_1", "cfile_4", "/mnt/data/new.png", new=True)


def named(text: str, *files: Citable, final: bool = False) -> list[tuple[str, str]]:
    """The ids that are cited, each with the text that its range covers."""
    return [(c["file_id"], text[c["start_index"] : c["end_index"]]) for c in cite(text, files, final=final)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[table](sandbox:/mnt/data/table.csv)", ["sandbox:/mnt/data/table.csv"]),
        ("at /mnt/data/table.csv.", ["/mnt/data/table.csv"]),
        ("see table.csv.", ["table.csv"]),
        ("`table.csv`", ["table.csv"]),
        ("sandbox:/mnt/data/table.csv sandbox:/mnt/data/table.csv", ["sandbox:/mnt/data/table.csv"] * 2),
        ("table.csv, or sandbox:/mnt/data/table.csv", ["sandbox:/mnt/data/table.csv"]),
        ("no mention", []),
        ("mytable.csv", []),
        ("table.csv.gz", []),
        ("table.csvs", []),
        ("other/table.csv", []),
        ("sandbox:/mnt/data/table.csv/more", []),
    ],
)
def test_a_file_is_cited_where_it_is_named(text: str, expected: list[str]) -> None:
    assert named(text, TABLE) == [("cfile_1", covered) for covered in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as in report.pdf, and (report.pdf)", [("r", 16), ("r", 33)]),
        ("from annual report.pdf", [("a", 22)]),
        ("report.pdfs, my-report.pdf, report.pdf.gz", []),
        ("根据report.pdf，可以", [("r", 12)]),
        ("根据report.pdf的内容", [("r", 12)]),
        ("参见年度报告.pdf。", [("y", 10)]),
        ("参见报告.pdf。", [("b", 8)]),
        ("you can upload it to upload/x", []),
        ("as said (upload), and in `upload`（upload）", [("u", 15), ("u", 32), ("u", 40)]),
    ],
)
def test_a_file_that_was_searched_is_cited_behind_its_name(text: str, expected: list[tuple[str, int]]) -> None:
    names = {"r": "report.pdf", "a": "annual report.pdf", "b": "报告.pdf", "y": "年度报告.pdf", "u": "upload"}
    files = [Source(file_id, name) for file_id, name in names.items()]
    assert [(c["file_id"], c["index"]) for c in cite(text, files, final=True)] == expected
    assert all(c["filename"] == names[c["file_id"]] for c in cite(text, files, final=True))


def test_a_name_is_found_in_either_spelling_of_its_accents() -> None:
    (cited,) = cite("see Übersicht.pdf", [Source("file-a", "U\u0308bersicht.pdf")], final=True)
    assert (cited["index"], cited["filename"]) == (17, "U\u0308bersicht.pdf")
    assert len(cite("see U\u0308bersicht.pdf", [Source("file-a", "Übersicht.pdf")], final=True)) == 1


def test_files_of_one_name_are_all_cited() -> None:
    files = [Source("file-a", "report.pdf"), Source("file-b", "report.pdf")]
    assert [c["file_id"] for c in cite("(report.pdf)", files, final=True)] == ["file-a", "file-b"]


def test_files_of_one_name_are_told_apart_by_their_paths() -> None:
    text = "sandbox:/mnt/data/out/table.csv"
    assert named(text, TABLE, DEEP) == [("cfile_2", text)]


def test_a_name_without_a_suffix_is_a_word_and_no_mention() -> None:
    assert named("a word", BARE) == []
    assert named("at /mnt/data/a now", BARE) == [("cfile_3", "/mnt/data/a")]


def test_the_final_text_also_gets_the_new_files_that_it_does_not_name() -> None:
    assert named("done: table.csv", TABLE, NEW, final=True) == [("cfile_1", "table.csv"), ("cfile_4", "")]
    assert named("done: table.csv", TABLE, NEW) == [("cfile_1", "table.csv")]
    assert named("new.png", NEW, final=True) == [("cfile_4", "new.png")]


def test_citations_are_bounded() -> None:
    files = [Citable("c", f"cfile_{n}", f"/mnt/data/{n}.txt", new=True) for n in range(MAX_CITATIONS * 3)]
    assert len(cite("sandbox:/mnt/data/1.txt " * 1000, files, final=True)) == MAX_CITATIONS


def test_of_too_many_files_the_new_ones_and_the_least_deep_are_looked_for() -> None:
    deep = [Citable("c", f"cfile_{n}", f"/mnt/data/deep/{n}.txt") for n in range(MAX_FILES)]
    text = f"new.png, table.csv, 7.txt, {MAX_FILES - 1}.txt"
    assert [covered for _, covered in named(text, *deep, TABLE, NEW)] == ["new.png", "table.csv", "7.txt"]


def test_a_text_is_searched_so_far_and_no_further() -> None:
    filler = " " * (MAX_CHARACTERS - len("table.csv"))
    assert named(f"{filler}table.csv", TABLE) == [("cfile_1", "table.csv")]
    assert named(f"{filler} table.csv", TABLE) == []
    assert named(f"{filler}   new.png", NEW, final=True) == [("cfile_4", "")]


def test_a_name_is_looked_for_at_so_many_places_and_no_more() -> None:
    assert named("my-table.csv " * (MAX_LOOKS - 1) + "table.csv", TABLE) == [("cfile_1", "table.csv")]
    assert named("my-table.csv " * MAX_LOOKS + "table.csv", TABLE) == []


@pytest.mark.parametrize(("path", "worth"), [("a.csv", True), (".cache/x", False), ("p/__pycache__/m.pyc", False)])
def test_by_products_are_not_worth_citing(path: str, worth: bool) -> None:
    assert is_worth_citing(path) is worth


@given(st.text(), st.lists(st.text(alphabet="ab./()[]*+\\ é", min_size=1, max_size=12), max_size=5))
def test_whatever_names_and_texts_are_ranges_are_in_order_and_within(text: str, names: list[str]) -> None:
    files = [Citable("c", str(n), f"/mnt/data/{name}", new=True) for n, name in enumerate(names)]
    ranges = [(c["start_index"], c["end_index"]) for c in cite(text, files, final=True)]
    assert ranges == sorted(ranges, key=lambda pair: pair[0])
    assert all(0 <= start <= end <= len(text) for start, end in ranges)
