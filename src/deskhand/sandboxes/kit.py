"""The data packages of containers: numpy, pandas, matplotlib and what reads and writes office files.

One folder for each version of the host's Python and of the list `kit.txt`, made once, bound read-only at `rootfs.KIT`.
It does not lie in a data directory: servers share it, and containers' users, who cannot pass through the 0700 folders
around a data directory, must reach it.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from deskhand.core.errors import DeskhandError
from deskhand.ports.sandbox import Finding

from .rootfs import PYTHON, PYTHON_MEND, python_version

MEND: Final = "deskhand kit install"
PACKAGES: Final = Path(__file__).with_name("kit.txt")
ROOT_HOME: Final = Path("/var/lib/deskhand/kit")

_PRUNED: Final = ("pandas/tests", "matplotlib/tests", "numpy/**/tests", "mpl_toolkits/**/tests", "bin")
"""What nobody imports, a fifth of the whole."""
_FOREIGN_PIP: Final = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_USER", "PIP_TARGET")


class KitError(DeskhandError):
    """The data packages could not be installed; the message says why and what to do."""


def find(version: str) -> Path | None:
    """The installed kit for containers whose Python is of `version`, such as "3.11"; None if there is none."""
    try:
        path = _path(version, None)
    except KitError:
        return None
    return path if path.is_dir() else None


def finding() -> Finding:
    """Whether containers have the data packages, for doctor and `/health`."""
    version = python_version()
    if version is not None and (path := find(version)) is not None:
        return Finding("data packages", True, f"numpy, pandas, matplotlib and others, from {path}")
    return Finding("data packages", False, "Python in containers has no numpy, pandas or matplotlib", MEND)


def install(say: Callable[[str], None], home: Path | None = None) -> Path:
    """Install the kit unless it is there; `say` is told what happens. Blocking, and needs a package index.

    `home` is where kits are kept, if not in the place that all servers share. Raises `KitError`.
    """
    version = python_version()
    if version is None:
        raise KitError(f"{PYTHON} is missing or too old: {PYTHON_MEND}")
    path = _path(version, home)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _open_to_all(path.parent)
        with _alone(path.parent):
            if not path.is_dir():
                _fill(path, say)
    except OSError as exc:
        raise KitError(f"the data packages cannot be kept in {path}: {exc.strerror or exc}") from exc
    return path


def _path(version: str, home: Path | None) -> Path:
    """Where a kit is kept. Raises `KitError` for a user who has no home."""
    try:
        home = home or (ROOT_HOME if os.geteuid() == 0 else Path(platformdirs.user_cache_dir("deskhand"), "kit"))
    except RuntimeError as exc:
        raise KitError(f"there is no place for the data packages: {exc}") from exc
    digest = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:12]
    return home / f"python{version}-{os.uname().machine}-{digest}"


def _open_to_all(path: Path) -> None:
    """Let containers' users pass, whatever the umask made of our folders."""
    path.chmod(0o755)
    if path.parent == ROOT_HOME.parent:
        path.parent.chmod(0o755)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another process that installs."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(path: Path, say: Callable[[str], None]) -> None:
    """Make the kit beside its place and move it there when it is whole."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _run_pip(draft, say)
        for pattern in _PRUNED:
            for needless in draft.glob(pattern):
                shutil.rmtree(needless)
        draft.chmod(0o755)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run_pip(target: Path, say: Callable[[str], None]) -> None:
    argv = [*_pip(), "--python", PYTHON, "install", "--target", str(target), "--requirement", str(PACKAGES)]
    argv += ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN_PIP}
    env["PIP_ROOT_USER_ACTION"] = "ignore"
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.rstrip())
            if found := re.match(r"Collecting (\S+)|Processing .*/([^/-]+-[^-]+)", line):
                say((found[1] or found[2]).replace("==", " "))
            elif line.startswith("Installing"):
                say("installing")
    if pip.returncode != 0:
        raise KitError("pip could not install the data packages:\n" + "\n".join(lines[-8:]))


def _pip() -> Sequence[str]:
    """A pip to run: this environment's, the host's, or the one that Python brings along for new environments."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return [PYTHON, "-m", "pip"]
    spec = importlib.util.find_spec("ensurepip")
    bundled = sorted(Path(spec.origin).parent.glob("_bundled/pip-*.whl")) if spec and spec.origin else []
    if not bundled:
        raise KitError("there is no pip to install the data packages with: apt-get install python3-pip")
    return [sys.executable, f"{bundled[-1]}/pip"]
