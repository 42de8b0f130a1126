"""Root file systems from OCI images: a layout folder, a tarball, or a registry; unpacked once, shared read-only.

Fetching and unpacking is done by skopeo(1) and umoci(1). An image is kept under the digest of its manifest and appears
by one rename, complete or not at all. Nothing of it is ever run on the host, and links in it are never followed there:
what Deskhand adds to it is written through openat2(2) beneath it.

Sources: the OCI image specification 1.0 (config.md, image-layout.md); containers-transports(5).
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

from . import beneath, disk, mounting
from .layout import Layout
from .mounts import POINTS
from .rootfs import HOME, UID, USER, VENV, WRITTEN_ETC
from .roots import ImageRoot

MEND: Final = "apt-get install skopeo umoci"
MAX_BYTES: Final = 32 << 30
MAX_FILES: Final = 2_000_000
PATIENCE_S: Final = 1800.0
LOOK_S: Final = 2.0
"""How often a fetch or an unpacking is looked at for its size."""

FINISH: Final = 1
"""Counts up when what is added to an unpacked image changes."""

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN: Final = frozenset(("HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "TMPDIR", "HOSTNAME"))
"""Variables that an image does not choose."""

ETC: Final = ("hosts", "hostname", "resolv.conf")
LOCAL: Final = ("localhost", "127.", "[::1]")
PYTHON_NAME: Final = re.compile(r"python(3\.(\d+))")
PINNED: Final = re.compile(r"@sha256:([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that do the work."""

    skopeo: str
    umoci: str


def image_root(reference: str, images: Path) -> Callable[[Layout], ImageRoot]:
    """How to get the root that `reference` names. What is returned blocks, and raises `SandboxUnavailable`."""
    return lambda layout: unpacked(reference, images, layout)


def unpacked(reference: str, images: Path, layout: Layout) -> ImageRoot:
    """Fetch and unpack an image into `images` unless that was done before, and put it where containers can reach it."""
    source = locate(reference)
    key = f"{_digest(source)[:32]}-{FINISH}"
    home = images / key
    if not home.exists():
        images.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = images / f".{key}.{secrets.token_hex(4)}"
        try:
            _make(source, draft)
            draft.rename(home)
        except OSError:
            if not home.exists():  # else somebody else was faster
                raise
        finally:
            disk.erase(draft)
    about = json.loads((home / "about.json").read_text())
    path = _exposed(home / "root", layout, key)
    return ImageRoot(path, about["version"], about["python"], about["environment"])


def release(layout: Layout) -> None:
    """Take images away from where containers reached them. For when there are no containers."""
    for point in layout.runtime.glob("image-*"):
        mounting.unmount(point)


def locate(reference: str) -> str:
    """Name an image as skopeo does. Raises `SandboxUnavailable` for a path at which there is none."""
    path = Path(reference).expanduser()
    if (path / "oci-layout").is_file():
        return f"oci:{path}"
    if path.is_file():
        return f"{_kind_of_archive(path)}:{path}"
    if path.is_absolute() or reference.startswith((".", "~")) or path.exists():
        raise SandboxUnavailable(f"container_image: at {reference!r} is no OCI layout folder and no image tarball")
    return f"docker://{reference}"


def environment(variables: Sequence[str]) -> Mapping[str, str]:
    """What the configuration of an image (`Env`) makes of a container's environment, beside what is Deskhand's."""
    given = dict(pair.partition("=")[::2] for pair in variables if "=" in pair and "\0" not in pair)
    path = f"{VENV}/bin:{HOME}/.local/bin:{given.pop('PATH', '') or DEFAULT_PATH}"
    return {**{name: value for name, value in given.items() if name and name not in OWN}, "PATH": path}


def accounts(passwd: str, ours: str) -> str:
    """The image's own /etc/passwd (or group) without whoever has our user's name or number, and `ours`."""
    kept = []
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] != USER and fields[2] != str(UID):
            kept.append(line)
    taken = {line.split(":")[0] for line in kept}
    added = [line for line in ours.splitlines() if line.split(":")[0] not in taken]
    return "\n".join([*kept, *added, ""])


def _make(source: str, draft: Path) -> None:
    """Fill `draft` with an image: its files and what must be known of it."""
    tools = _tools()
    draft.mkdir(mode=0o700)
    store, root = draft / "layout", draft / "root"
    _run([tools.skopeo, "copy", "--quiet", *_trust(source, "--src-tls-verify"), source, f"oci:{store}:image"], draft)
    config = _config(tools, store)
    # Rootless even for root: files belong to nobody who is inside, and no device is made.
    _run([tools.umoci, "raw", "unpack", "--rootless", "--image", f"{store}:image", str(root)], draft)
    disk.erase(store)
    variables = environment(config)
    about = {**_finish(root, variables["PATH"]), "environment": variables}
    (draft / "about.json").write_text(json.dumps(about))
    draft.chmod(0o755)


def _config(tools: Tools, store: Path) -> Sequence[str]:
    said = _run([tools.skopeo, "inspect", "--config", f"oci:{store}:image"], store)
    variables = (json.loads(said).get("config") or {}).get("Env") or []
    return [variable for variable in variables if isinstance(variable, str)]


def _finish(root: Path, search: str) -> Mapping[str, str]:
    """Add what a container needs to an unpacked image; find its Python. Raises `SandboxUnavailable`."""
    root.chmod(0o755)
    with _closing(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as here:
        for point in (*POINTS, "/var/tmp"):
            _make_folder(here, point)
        for name in ETC:
            _write(here, name, WRITTEN_ETC[name])
        for name in ("passwd", "group"):
            _write(here, name, accounts(_read(root, f"etc/{name}"), WRITTEN_ETC[name]))
    for folder in search.split(":"):
        found = beneath.resolve(root, f"{folder}/python3")
        match = PYTHON_NAME.fullmatch(found.rpartition("/")[2]) if found else None
        if match and int(match[2]) >= 9:
            return {"python": f"{folder}/python3", "version": match[1]}
    raise SandboxUnavailable("the image has no python3 of version 3.9 or newer on its PATH; containers need one")


def _make_folder(root: int, path: str) -> None:
    """Make a folder and those above it. Raises `SandboxUnavailable` if the image has a link or a file there."""
    done = ""
    for name in path.strip("/").split("/"):
        parent = beneath.open_folder(root, done or ".", follow=False)
        with _closing(parent):
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                pass
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise SandboxUnavailable(f"the image has something that is no folder at {path!r}; containers need one")
        done = f"{done}/{name}".lstrip("/")


def _write(root: int, name: str, text: str) -> None:
    """Put a file into /etc in place of whatever is there."""
    with _closing(beneath.open_folder(root, "etc", follow=False)) as etc:
        try:
            os.unlink(name, dir_fd=etc)
        except FileNotFoundError:
            pass
        with open(beneath.create_file(etc, name, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)


def _read(root: Path, path: str) -> str:
    """A small text file of the image, "" if it has none."""
    with _closing(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as here:
        try:
            with open(beneath.open_file(here, path), encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20)
        except OSError:
            return ""


def _exposed(root: Path, layout: Layout, key: str) -> Path:
    """Where containers see an image. The data directory may be closed to their users, whom a server that is root has.

    So it is bound elsewhere, read-only and without devices or set-user-id bits.
    """
    if layout.runtime.is_relative_to(layout.data):
        return root
    point = layout.runtime / f"image-{key}"
    point.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not point.samefile(root):
        mounting.bind_read_only(root, point)
    return point


def _digest(source: str) -> str:
    """The digest of an image's manifest: as it is pinned, else as it is now."""
    pinned = PINNED.search(source)
    if pinned is not None:
        return pinned[1]
    inspect = [_tools().skopeo, "inspect", "--raw", *_trust(source, "--tls-verify"), source]
    return hashlib.sha256(_run(inspect, None)).hexdigest()


def _trust(source: str, option: str) -> Sequence[str]:
    """A registry on this very host is asked without TLS, as Docker does."""
    local = source.removeprefix("docker://").startswith(LOCAL) and source.startswith("docker://")
    return [f"{option}=false"] if local else []


def _kind_of_archive(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.removeprefix("./") == "oci-layout":
                    return "oci-archive"
                if member.name.removeprefix("./") == "manifest.json":
                    return "docker-archive"
    except (OSError, tarfile.TarError) as exc:
        raise SandboxUnavailable(f"container_image: {str(path)!r} cannot be read as a tarball: {exc}") from exc
    raise SandboxUnavailable(f"container_image: {str(path)!r} holds no image: neither of OCI nor of `docker save`")


def _tools() -> Tools:
    found = [shutil.which(name, path="/usr/local/bin:/usr/bin:/bin") for name in ("skopeo", "umoci")]
    if found[0] is None or found[1] is None:
        raise SandboxUnavailable(f"container_image needs skopeo and umoci: {MEND}")
    return Tools(found[0], found[1])


def _run(argv: Sequence[str], folder: Path | None) -> bytes:
    """Run a tool, while what it makes in `folder` is not too large; return what it prints."""
    deadline = time.monotonic() + PATIENCE_S
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
        ended = False
        while not ended:
            try:
                said, complaint = tool.communicate(timeout=LOOK_S)
                ended = True
            except subprocess.TimeoutExpired:
                pass
            excess = _excess(folder) if time.monotonic() < deadline else "it took too long"
            if excess:
                tool.kill()
                raise SandboxUnavailable(f"the image was given up: {excess}")
    if tool.returncode != 0:
        words = complaint.decode(errors="replace").strip().splitlines()
        raise SandboxUnavailable(f"the image cannot be had: {' '.join(words[-3:])[:1000]}")
    return said


def _excess(folder: Path | None) -> str:
    if folder is None:
        return ""
    used, files = disk.usage(folder, MAX_FILES)
    if used > MAX_BYTES or files >= MAX_FILES:
        return f"it has more than {MAX_BYTES >> 30} GiB or {MAX_FILES} files"
    return ""


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    """Close a descriptor when the block ends."""
    try:
        yield fd
    finally:
        os.close(fd)
