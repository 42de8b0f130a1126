"""The conformance suite on bubblewrap: as the user who runs the tests and, if that is root, as an ordinary user."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
import structlog

import deskhand
from deskhand.testing.conformance_python import CHECKS as PYTHON_CHECKS
from deskhand.testing.conformance_sandbox import CHECKS, Check
from deskhand.testing.conformance_sandbox_bench import Bench, NotEnforced

from .conftest import needs_bwrap, needs_root

pytestmark = [pytest.mark.anyio, needs_bwrap]

ORDINARY_UID = 4242
PYTHON = "/usr/bin/python3"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_keeps_the_contract(bench: Bench, check: Check) -> None:
    try:
        await check(bench)
    except NotEnforced as exc:
        pytest.skip(str(exc))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach, with a copy of the packages in it (the checkout may be in /root)."""
    folder = Path(tempfile.mkdtemp(prefix="dh-"))
    folder.chmod(0o755)
    for package in (deskhand, platformdirs, structlog):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        shutil.copytree(source, folder / "src" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    os.chown(folder / "data", ORDINARY_UID, ORDINARY_UID)
    yield folder
    shutil.rmtree(folder)


def _as_ordinary_user(*argv: str, cwd: Path) -> list[str]:
    identity = [
        "setpriv",
        "--reuid",
        str(ORDINARY_UID),
        "--regid",
        str(ORDINARY_UID),
        "--clear-groups",
        "--inh-caps=-all",
    ]
    return [*identity, "env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={cwd}/src", PYTHON, "-B", *argv]


def _ordinary_python_is_new_enough() -> bool:
    question = [PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(question, check=False).returncode == 0


@needs_root
@pytest.mark.parametrize("suite", ["conformance_sandbox", "conformance_python"])
async def test_it_keeps_the_contract_as_an_ordinary_user(open_folder: Path, suite: str) -> None:
    if not _ordinary_python_is_new_enough():
        pytest.skip("the server needs Python 3.11, and an ordinary user of this host has none")
    argv = _as_ordinary_user(
        "-m",
        f"deskhand.testing.{suite}",
        "deskhand.sandboxes.bubblewrap:BubblewrapEngine",
        str(open_folder / "data"),
        cwd=open_folder,
    )
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await process.communicate()
    text = said.decode()
    assert process.returncode == 0, text
    assert text.count("ok ") >= len({"conformance_sandbox": CHECKS, "conformance_python": PYTHON_CHECKS}[suite]) - 2, (
        text
    )
    skipped = [line.split(":")[0] for line in text.splitlines() if line.startswith("skip ")]
    assert set(skipped) <= {
        "skip a_memory_hog_is_killed_alone",
        "skip a_full_disk_hurts_nobody_else",
        "skip out_of_memory_is_told_and_the_container_lives",
    }
