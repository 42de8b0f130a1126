"""What a container sees besides the host's read-only /usr: a small /etc, a home, a Python environment, the agent.

Nothing of the host's /etc is shown but data that programs under /usr need to start (`HOST_ETC`), and never a file that
an operator may have put a credential into (pip.conf, npmrc, gitconfig, netrc, ssl/private, maven, wgetrc).
"""

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

UID: Final = 1000
USER: Final = "agent"
HOME: Final = "/home/agent"
VENV: Final = "/opt/venv"
SUPPORT: Final = "/opt/deskhand"
KIT: Final = "/opt/kit"
EGRESS: Final = "/opt/egress"
HOSTNAME: Final = "deskhand"
PYTHON: Final = "/usr/bin/python3"
PYTHON_MEND: Final = "apt-get install python3"

BOOT: Final = f"import sys; sys.path.insert(0, '{SUPPORT}'); from resident.agent import main; main()"

ENVIRONMENT: Final = {
    "PATH": f"{VENV}/bin:{HOME}/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "USER": USER,
    "LOGNAME": USER,
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TMPDIR": "/tmp",
    "VIRTUAL_ENV": VENV,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}

HOST_ETC: Final = (
    "alternatives", "ca-certificates", "fonts", "groff", "ghostscript", "ImageMagick-6", "ImageMagick-7", "java-*",
    "libreoffice", "papersize", "perl", "php", "python3", "python3.*", "R", "ssl/certs", "ssl/openssl.cnf", "terminfo",
    "texmf", "vim", "X11",
)  # fmt: skip
"""Shown read-only when the host has them."""

COPIED_ETC: Final = (
    "ld.so.cache", "ld.so.conf", "localtime", "mime.types", "magic", "magic.mime", "protocols", "services", "inputrc",
    "papersize", "locale.alias",
)  # fmt: skip
"""Copied, because they are links or are replaced (not rewritten) on the host."""

WRITTEN_ETC: Final = {
    "passwd": (
        f"root:x:0:0:root:/root:/usr/sbin/nologin\n{USER}:x:{UID}:{UID}:{USER}:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n",
    "hostname": f"{HOSTNAME}\n",
    "host.conf": "multi on\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
    "shells": "/bin/sh\n/bin/bash\n",
    "resolv.conf": "",
}

LINKED_ETC: Final = {"os-release": "../usr/lib/os-release", "mtab": "../proc/self/mounts"}

PIP_SCRIPT: Final = f"#!{VENV}/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"


@dataclass(frozen=True, slots=True)
class Shared:
    """The read-only tree that all containers of this version of Deskhand and of the host have in common."""

    path: Path
    binds: tuple[str, ...]
    python: str

    @property
    def etc(self) -> Path:
        return self.path / "etc"

    @property
    def support(self) -> Path:
        return self.path / "support"

    @property
    def blank(self) -> Path:
        return self.path / "blank"


def agent(python: str) -> tuple[str, ...]:
    """The command line of a container's first process."""
    return (python, "-I", "-S", "-c", BOOT)


def python_version() -> str | None:
    """Return the version of the host's /usr python, such as "3.11"; None if there is none that is new enough."""
    found = re.fullmatch(r"python(3\.(\d+))", Path(PYTHON).resolve().name)
    if found is None or int(found[2]) < 9 or not os.access(PYTHON, os.X_OK):
        return None
    return found[1]


def build_shared(runtime: Path) -> Shared:
    """Make the shared tree unless it is there. Blocking; about a second the first time when pip must be unpacked.

    The name holds a digest of the content, so a running container keeps the tree it was started with.
    Raises `SandboxUnavailable` if the host has no usable Python.
    """
    python = python_version()
    if python is None:
        raise SandboxUnavailable(f"containers need {PYTHON} 3.9 or newer on the host: {PYTHON_MEND}")
    resident = {path.name: path.read_bytes() for path in sorted(Path(__file__).with_name("resident").glob("*.py"))}
    copied = {name: Path("/etc", name).read_bytes() for name in COPIED_ETC if Path("/etc", name).is_file()}
    binds = host_binds()
    digest = hashlib.sha256(repr((resident, copied, binds, python, WRITTEN_ETC)).encode()).hexdigest()[:12]
    path = runtime / f"shared-{digest}"
    shared = Shared(path, binds, python)
    if not path.exists():
        draft = Shared(path.with_name(f"{path.name}.{secrets.token_hex(4)}"), binds, python)
        _fill(draft, resident, copied)
        try:
            draft.path.rename(path)
        except OSError:  # somebody else was faster
            shutil.rmtree(draft.path)
    return shared


def host_binds() -> tuple[str, ...]:
    """Which of `HOST_ETC` this host has, relative to /etc."""
    etc = Path("/etc")
    return tuple(sorted(str(p.relative_to(etc)) for pattern in HOST_ETC for p in etc.glob(pattern)))


def populate(disk: Path, uid: int, interpreter: str, python: str) -> None:
    """Make the folders of a container's own disk and its Python environment, all owned by `uid`. About 1 ms.

    `interpreter` is its path in the container and `python` its version, such as "3.11".

    The environment is what `python -m venv` makes (PEP 405), without a copy of pip: `pyvenv.cfg` beside a link to the
    interpreter, and the host's packages visible below its own.
    """
    disk.chmod(0o700)
    owned = [disk]
    for name, mode in FOLDERS.items():
        path = disk / name.format(python=python)
        path.mkdir(exist_ok=True)
        path.chmod(mode)
        owned.append(path)
    venv = disk / "venv"
    version = f"home = {interpreter.rpartition('/')[0]}\ninclude-system-site-packages = true\nversion = {python}\n"
    site = venv / "lib" / f"python{python}" / "site-packages"
    for path, text in (
        (venv / "pyvenv.cfg", version),
        (site / "deskhand-pip.pth", f"{SUPPORT}/pip\n"),
        (site / "deskhand-kit.pth", f"{KIT}\n"),
        (venv / "bin" / "pip", PIP_SCRIPT),
        (venv / "bin" / "pip3", PIP_SCRIPT),
    ):
        path.write_text(text)
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)
        owned.append(path)
    for name, target in (("python", interpreter), ("python3", "python"), (f"python{python}", "python")):
        link = venv / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        owned.append(link)
    if os.geteuid() == 0:
        for path in owned:
            os.chown(path, uid, uid, follow_symlinks=False)


FOLDERS: Final = {
    "data": 0o755,
    "home": 0o755,
    "tmp": 0o1777,
    "shm": 0o1777,
    "run": 0o755,
    "venv": 0o755,
    "venv/bin": 0o755,
    "venv/lib": 0o755,
    "venv/lib/python{python}": 0o755,
    "venv/lib/python{python}/site-packages": 0o755,
}
"""The folders of a disk, parents first, and their modes. /tmp and /dev/shm are on the disk and not in memory, where
their pages would be charged to the container without being reclaimable and would bring the OOM killer upon the agent.
"""


def _fill(shared: Shared, resident: dict[str, bytes], copied: dict[str, bytes]) -> None:
    shutil.rmtree(shared.path, ignore_errors=True)
    shared.etc.mkdir(parents=True)
    shared.support.mkdir()
    shared.blank.touch()
    for name, text in WRITTEN_ETC.items():
        (shared.etc / name).write_text(text)
    for name, data in copied.items():
        (shared.etc / name).write_bytes(data)
    for name, target in LINKED_ETC.items():
        (shared.etc / name).symlink_to(target)
    for name in shared.binds:
        point = shared.etc / name
        point.parent.mkdir(parents=True, exist_ok=True)
        if Path("/etc", name).is_dir():
            point.mkdir(exist_ok=True)
        else:
            point.touch()
    (shared.support / "resident").mkdir()
    for name, data in resident.items():
        (shared.support / "resident" / name).write_bytes(data)
    _compile(shared.support / "resident")
    (shared.support / "pip").mkdir()
    _unpack_pip(shared.support / "pip")
    for path in (shared.path, *shared.path.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _compile(package: Path) -> None:
    """Compile what every container starts with, once (PEP 552: unchecked, as the tree never changes)."""
    mode = ("--invalidation-mode", "unchecked-hash")
    subprocess.run([PYTHON, "-I", "-m", "compileall", "-q", *mode, str(package)], check=False, timeout=60)


def _unpack_pip(target: Path) -> None:
    """Provide pip if the host's Python has none of its own that containers would see anyway."""
    if Path("/usr/lib/python3/dist-packages/pip").is_dir():
        return
    wheels = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    spec = importlib.util.find_spec("ensurepip")
    if not wheels and spec is not None and spec.origin is not None:
        wheels = sorted(Path(spec.origin).with_name("_bundled").glob("pip-*.whl"))
    if wheels:
        with zipfile.ZipFile(wheels[-1]) as wheel:
            wheel.extractall(target)
