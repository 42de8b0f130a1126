"""What an engine does not hold against, with the reason. Each is shown in `docs/reference/attacks.md`.

A test of a difference is run all the same and must fail: a difference that is none any more is to be deleted here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Difference:
    """Why an engine differs. `run` is False where trying would hurt more than the container itself."""

    reason: str
    run: bool = True


OPEN: Final[Mapping[str, Difference]] = {
    "test_a_neighbour_still_gets_a_terminal": Difference(
        "open: the terminals of all containers come out of one count (kernel.pty.max), and no container has a share"
    ),
}
"""What fresh eyes have found and nobody has mended yet, by name of the test."""

DIFFERENCES: Final[Mapping[tuple[str, str], Difference]] = {
    **{(engine, test): difference for test, difference in OPEN.items() for engine in ("bubblewrap", "crun", "runc")},
}
"""By engine and name of the test."""
