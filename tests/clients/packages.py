"""The clients that come from npm: installed once beside their scripts, in the versions that package.json names."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..conftest import KEY, Server

FOLDER = Path(__file__).parent / "node"
SECONDS = 110
"""The longest a script may take."""


@dataclass(frozen=True)
class Packages:
    """What is installed. Node is among it, as the clients want a newer one than many systems have."""

    programs: Path

    @property
    def path(self) -> str:
        """A search path on which `node` is the one installed here."""
        return f"{self.programs}:{os.environ['PATH']}"

    def check(self, script: str, server: Server, **environ: str) -> None:
        """Run a script of checks against a server. Raises `AssertionError` with what it said if one of them failed."""
        ran = subprocess.run(
            [self.programs / "node", script],
            cwd=FOLDER,
            env={**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY, **environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "ok  " in ran.stdout, "the script checked nothing"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder waiting until the block ends."""
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(folder_fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder_fd)


def install() -> Packages:
    """Install what is missing or of another version. Processes that want it at once wait for one of them.

    Raises `FileNotFoundError` if there is no npm, `CalledProcessError` if it failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm")
    wanted = (FOLDER / "package.json").read_bytes()
    installed = FOLDER / "node_modules" / ".installed.json"
    with locked(FOLDER):
        if not installed.exists() or installed.read_bytes() != wanted:
            shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
            subprocess.run([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=FOLDER, check=True)
            installed.write_bytes(wanted)
    return Packages(FOLDER / "node_modules" / ".bin")
