"""V4A diffs: what is found, what is kept, what is refused."""

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.errors import ToolFailure
from deskhand.tools.v4a import MAX_LINES, MAX_SEARCHES, create, update

FILE = "class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n"


def test_a_new_file_is_its_added_lines() -> None:
    assert create("+one\n+\n+two") == "one\n\ntwo\n"
    assert create("") == ""
    with pytest.raises(ToolFailure, match="line 2"):
        create("+one\ntwo")


def test_an_anchor_chooses_between_equal_places() -> None:
    diff = "@@ class B:\n     def f(self):\n-        return 1\n+        return 2"
    assert update(FILE, diff) == FILE[::-1].replace("1", "2", 1)[::-1]
    nested = "@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2"
    assert update(FILE, nested) == update(FILE, diff)


def test_several_hunks_are_found_one_after_another() -> None:
    hunk = "@@\n-        return 1\n+        return 2"
    assert update(FILE, f"{hunk}\n{hunk}") == FILE.replace("1", "2")


def test_blanks_that_a_model_lost_do_not_matter_and_are_kept() -> None:
    assert update("a  \n\tb\nc\n", " a\n b\n-c\n+d") == "a  \n\tb\nd\n"


def test_line_ends_and_a_missing_last_newline_stay() -> None:
    assert update("a\r\nb\r\n", "-b\n+c\n+d") == "a\r\nc\r\nd\r\n"
    assert update("a\nb", "-b\n+c") == "a\nc"


def test_lines_without_context_are_appended_or_follow_their_anchor() -> None:
    assert update("a\nb\n", "+c") == "a\nb\nc\n"
    assert update("a\nb\n", "@@ a\n+c") == "a\nc\nb\n"


def test_the_end_of_the_file_can_be_demanded() -> None:
    assert update("x\ny\nx\n", "@@\n-x\n+z\n*** End of File") == "x\ny\nz\n"


@pytest.mark.parametrize(
    ("diff", "words"),
    [
        ("-nowhere\n+x", "not in the file"),
        ("@@ nowhere\n-a\n+b", "no line 'nowhere'"),
        (" a\n b", "changes nothing"),
        ("", "changes nothing"),
        ("?a", "begins with none of"),
        ("@@\n-a\n+c\n@@\n-a\n+d", "after line 1"),
    ],
)
def test_what_cannot_be_applied_says_why(diff: str, words: str) -> None:
    with pytest.raises(ToolFailure, match=words):
        update("a\nb\n", diff)


def test_a_file_of_too_many_lines_is_left_to_the_shell() -> None:
    assert update("\n" * MAX_LINES, "+end").count("\n") == MAX_LINES + 1
    with pytest.raises(ToolFailure, match="use the shell"):
        update("\n" * (MAX_LINES + 1), "+end")


@pytest.mark.parametrize("hunk", ["@@\n-x\n+y\n", "@@ x\n"])
def test_a_diff_that_looks_for_too_much_is_to_be_several(hunk: str) -> None:
    text = "x\n" * 2 * MAX_SEARCHES
    assert update(text, hunk * (MAX_SEARCHES - 1) + "@@\n-x\n+z\n").count("z") == 1
    with pytest.raises(ToolFailure, match="several edits"):
        update(text, hunk * MAX_SEARCHES + "@@\n-x\n+z\n")


TEXTS = st.lists(st.text("ab ", max_size=3), min_size=1, max_size=12)


@given(TEXTS, TEXTS)
def test_a_diff_with_whole_context_makes_one_text_of_the_other(old: list[str], new: list[str]) -> None:
    lines = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    diff = "\n".join(line[0] + line[2:] for line in lines)
    if old == new:
        return
    assert update("\n".join(old), diff) == "\n".join(new)
