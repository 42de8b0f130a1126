"""The catalogue of attacks: ids, what is attempted, what must happen.

The ids are those of a survey of how sandboxes are tested and how they have failed; what our own attempts have added
continues the numbers of its group. A case may have several tests; each is a row of `docs/reference/attacks.md`.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeVar

import pytest

GROUPS: Final = {
    "H": "The boundary to the host and its kernel",
    "R": "Resources and faults",
    "F": "Files, uploads, skills",
    "N": "Network",
    "S": "Secrets",
    "C": "Control plane and tenancy",
    "L": "Life cycle and snapshots",
    "Y": "Python",
}


def _numbered(group: str, *numbers: int) -> set[str]:
    return {f"{group}{number:02}" for number in numbers}


MUST: Final[frozenset[str]] = frozenset().union(
    _numbered("H", *range(1, 16), 19, 24, 25),
    _numbered("R", *range(1, 10), 15),
    _numbered("F", *range(1, 11), 15, 16),
    _numbered("N", *range(1, 16), 18, 20, 22, 24, 25, 26, 28, 30),
    _numbered("S", *range(1, 7), 8, 12),
    _numbered("C", 1, 2, 3, 4, 5, 9),
    _numbered("L", 2, 3, 10, 12),
    _numbered("Y", 1, 4),
)
"""What a first release must hold against."""

NOT_BUILT: Final = {
    "N29": "preview URLs are not built: nothing that listens in a container can be reached from outside (N28)",
    "K01-K08": "there is no cluster engine",
}

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One test of one attack."""

    id: str
    test: str
    attempt: str
    expect: str


def case(case_id: str, attempt: str, expect: str) -> Callable[[Test], Test]:
    """Mark a test as one of `case_id`: what it attempts, and what must happen."""
    return pytest.mark.case(case_id, attempt, expect)


def all_cases() -> Sequence[Case]:
    """Every case that has a test, by id."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"{__package__}.{path.stem}")
        for name, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                marks = getattr(value, "pytestmark", [])
                found += [Case(mark.args[0], name, *mark.args[1:]) for mark in marks if mark.name == "case"]
    return sorted(found)
