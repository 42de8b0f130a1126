"""Unpacked skills, by content, and the folders in which containers see them.

A bundle is unpacked once for the installation, and a container gets hard links to it: adding a known one copies no
bytes and needs no mount, so it also works for a container that runs. The container sees them through a read-only bind
mount of its own folder and, as root made them, as somebody else's files.

Sources: link(2), rename(2), inode(7) for the link count, which says whether a container still has a bundle.
"""

import hashlib
import io
import os
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

from . import disk

MARK: Final = "SKILL.md"
UNUSED_SECONDS: Final = 3600.0
"""How long an unpacked bundle that no container has is kept for the next one."""
TIDY_SECONDS: Final = 60.0
ROOM_KEPT_PART: Final = 20
ROOM_KEPT_BYTES: Final = 256 << 20
"""One part in so many of the file system stays free, or so many bytes of a large one: it often is memory (/run), and
not for skills alone."""


class Shelf:
    """The unpacked bundles of an installation. Blocking; for worker threads, several at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._tidied = 0.0

    def add(self, digest: str, archive: bytes) -> None:
        """Unpack a bundle, all or nothing, unless it is there. Raises `SandboxUnavailable`."""
        if hashlib.sha256(archive).hexdigest() != digest:
            raise SandboxUnavailable(f"the stored content of skill bundle {digest} is damaged")
        self._root.mkdir(mode=0o700, exist_ok=True)
        draft = self._root / f"draft-{secrets.token_hex(8)}"
        try:
            self._unpack(archive, draft)
            with self._lock:
                if not (self._root / digest).exists():
                    draft.rename(self._root / digest)
        except (OSError, zipfile.BadZipFile) as exc:
            raise SandboxUnavailable(f"a skill could not be unpacked under {self._root}: {exc}") from exc
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def lend(self, digest: str, target: Path) -> bool:
        """Make `target` show a bundle, all or nothing; False if it must be added first. Raises `SandboxUnavailable`."""
        source = self._root / digest
        draft = target.parent.with_name(f"draft-{secrets.token_hex(8)}")
        with self._lock:
            try:
                if not source.exists():
                    return False
                if _same(source / MARK, target / MARK):
                    return True
                os.utime(source)
                shutil.copytree(source, draft, copy_function=os.link)
                if target.exists():
                    target.rename(draft.with_name(f"{draft.name}-old"))
                draft.rename(target)
            except OSError as exc:
                raise SandboxUnavailable(f"a skill could not be put into a container: {exc}") from exc
            finally:
                shutil.rmtree(draft, ignore_errors=True)
                shutil.rmtree(draft.with_name(f"{draft.name}-old"), ignore_errors=True)
        return True

    def tidy(self, unused_s: float = UNUSED_SECONDS) -> None:
        """Remove bundles that no container has had for `unused_s` seconds. Cheap if called often."""
        now = time.time()
        if now - self._tidied < min(TIDY_SECONDS, unused_s):
            return
        self._tidied = now
        for path in self._unused(now - unused_s):
            disk.erase(path)

    def _unused(self, before: float) -> Sequence[Path]:
        """Take unused bundles off the shelf; where they lie now."""
        if not self._root.is_dir():
            return []
        taken = []
        with self._lock:
            for path in self._root.iterdir():
                mark = path / MARK
                if path.stat().st_mtime < before and (not mark.exists() or mark.stat().st_nlink == 1):
                    taken.append(path.rename(path.with_name(f"old-{secrets.token_hex(8)}")))
        return taken

    def _unpack(self, archive: bytes, draft: Path) -> None:
        draft.mkdir(mode=0o755)
        draft.chmod(0o755)
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            self._check_room(sum(entry.file_size for entry in files.infolist()))
            for entry in files.infolist():
                _, *names = entry.filename.split("/")
                if not names or any(name in {"", ".", ".."} for name in names):
                    raise SandboxUnavailable(f"a skill bundle holds {entry.filename!r}, which is no path")
                _write(draft, names, files.read(entry), runs=bool(entry.external_attr >> 16 & 0o111))

    def _check_room(self, size: int) -> None:
        found = os.statvfs(self._root)
        kept = min(found.f_blocks * found.f_frsize // ROOM_KEPT_PART, ROOM_KEPT_BYTES)
        if found.f_bavail * found.f_frsize - size < kept:
            raise SandboxUnavailable(f"there is no room for a skill of {size} bytes under {self._root}: free some")


def _write(draft: Path, names: Sequence[str], content: bytes, *, runs: bool) -> None:
    """Write one file, which nobody can change and, if it `runs`, anybody can run. Durable: the shelf may be on a disk
    that outlives a power cut, and what is on it is not looked at again."""
    *folders, name = names
    at = draft
    for folder in folders:
        at = at / folder
        if not at.exists():
            at.mkdir()
            at.chmod(0o755)
    with (at / name).open("xb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o555 if runs else 0o444)
        file.flush()
        os.fsync(file.fileno())


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
