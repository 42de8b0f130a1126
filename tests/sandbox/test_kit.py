"""The data packages: installed whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deskhand.sandboxes import kit


def test_without_an_index_nothing_is_left_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(kit.KitError, match="pip could not install the data packages"):
        kit.install(lambda words: None, tmp_path / "kit")
    assert os.listdir(tmp_path / "kit") == ["lock"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(kit.KitError, match="cannot be kept in"):
        kit.install(lambda words: None, tmp_path / "file" / "kit")


def test_every_package_is_pinned() -> None:
    lines = [line for line in kit.PACKAGES.read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert all(line.count("==") == 1 for line in lines)
    assert {"numpy", "pandas", "matplotlib", "openpyxl", "python-docx", "pypdf", "reportlab", "tabulate", "pillow"} <= {
        line.partition("==")[0] for line in lines
    }


def test_the_command_line_says_where_the_packages_are() -> None:
    told = subprocess.run([sys.executable, "-m", "deskhand", "kit", "path"], capture_output=True, text=True)
    found = kit.finding()
    assert (told.returncode, told.stdout) == (0 if found.ok else 1, found.detail + "\n")
