"""The crash test, for some seconds; `make crash` runs it for as long as one likes."""

import os
import shutil
from pathlib import Path

import pytest

from ..crash import crash

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("postgres", [False, True], ids=["sqlite", "postgres"])
def test_no_run_is_lost_and_no_event_is_untrue(tmp_path: Path, postgres: bool) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}")
    counts = crash(tmp_path, 5, seed, postgres, print)
    print(dict(counts))
    assert counts["kills"] + counts["stops"] + counts["database kills"] == 5
    assert counts["events"] > 100
    assert counts["commands"] > 0
