"""The catalogue is complete, and the page that shows it does not lag behind."""

from . import table
from .cases import GROUPS, MUST, NOT_BUILT, all_cases
from .differences import DIFFERENCES

MEND = "run python -m tests.attacks.table"


def test_every_must_have_case_has_a_test() -> None:
    assert MUST - {case.id for case in all_cases()} == set()
    assert {case.id[0] for case in all_cases()} <= set(GROUPS)
    assert not set(NOT_BUILT) & {case.id for case in all_cases()}


def test_no_test_is_without_a_case_or_told_apart_from_another() -> None:
    cases = all_cases()
    assert len({(case.id, case.test) for case in cases}) == len(cases)
    assert all(case.attempt and case.expect for case in cases)


def test_the_page_shows_every_case() -> None:
    text = table.PAGE.read_text()
    missing = [case for case in all_cases() if table.row(case) not in text]
    assert not missing, f"{MEND}: {missing}"
    shown = [line for line in text.splitlines() if line.startswith("| ") and line[2] in GROUPS and line[3:5].isdigit()]
    assert len(shown) == len(all_cases()), MEND


def test_the_page_shows_every_difference_and_no_failure() -> None:
    text = table.PAGE.read_text()
    tests = {case.test for case in all_cases()}
    assert {test for _, test in DIFFERENCES} <= tests
    assert {engine for engine, _ in DIFFERENCES} <= set(table.ENGINE_NAMES)
    assert not [
        line for line in text.splitlines() if line.startswith("| ") and "FAILS |" in line and line[3:5].isdigit()
    ]
    known = {engine for (_, engine), verdict in table.read(text).verdicts.items() if verdict != "not run"}
    for (engine, _), difference in DIFFERENCES.items():
        assert engine not in known or difference.reason in text, f"{MEND} {engine}: {difference.reason}"
