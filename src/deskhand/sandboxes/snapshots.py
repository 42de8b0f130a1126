"""Snapshots: the disks of containers as they were, each whole or not there at all.

A snapshot is made under a hidden name and gets its own by a rename, so that whoever is killed at whatever step leaves
no half of one. Snapshots of a disk that has not changed share their blocks (hard links: nobody ever writes to them).

Sources: FIFREEZE in linux/fs.h (fsfreeze(8)); the kernel's Documentation/admin-guide/iostats.rst for sectors written,
and ext4_freeze and ext4_unfreeze in fs/ext4/super.c for what freezing writes.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxError, SandboxUnavailable, SnapshotGone

from . import disk, idmap, mounting
from .layout import CONTAINER_ID, DiskKind, Place, Record
from .processes import boot_id

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
FREEZE_S: Final = 15.0
"""How long a disk may be frozen. Less than what a server waits for a command that cannot be killed meanwhile."""

COPY_S: Final = 300.0
MOST_FILES: Final = 1_000_000
THAW_SECTORS: Final = 8
"""What ext4 writes when it is thawed: its superblock, a block of 4096 bytes. Known, so that it is no change."""

NAMES: Final[dict[DiskKind, str]] = {"image": "disk.img", "directory": "disk"}
HIDDEN: Final = "."

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot that is there: its content, what kind of disk that is, and who owns the files on it."""

    content: Path
    disk: DiskKind
    uid: int


class Vault:
    """The snapshots of an installation, by id. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, snapshot_id: str) -> Kept | None:
        """The snapshot, if there is one."""
        if not CONTAINER_ID.fullmatch(snapshot_id):
            return None
        home = self._folder / snapshot_id
        try:
            raw = json.loads((home / "record.json").read_bytes())
        except FileNotFoundError:
            return None
        return Kept(home / NAMES[raw["disk"]], raw["disk"], raw["uid"])

    def require(self, snapshot_id: str, kind: DiskKind | None = None) -> Kept:
        """The snapshot. Raises `SnapshotGone`, and `SandboxUnavailable` if it is not of a disk of this kind."""
        kept = self.find(snapshot_id)
        if kept is None:
            raise SnapshotGone(f"snapshot {snapshot_id!r} does not exist")
        if kept.disk != (kind or kept.disk) or (kept.disk == "image" and not disk.images_possible()):
            raise SandboxUnavailable(f"snapshot {snapshot_id!r} is of another kind of disk; {disk.IMAGE_MEND}")
        return kept

    def keep(self, snapshot_id: str, kind: DiskKind, uid: int, fill: Callable[[Path], None]) -> None:
        """Make a snapshot of what `fill` puts at the path that it is given. Durable on return.

        Raises `SandboxUnavailable`, also for an `OSError` of `fill`.
        """
        try:
            self._keep(snapshot_id, kind, uid, fill)
        except OSError as exc:
            raise SandboxUnavailable(f"the snapshot could not be kept: {exc.strerror or exc}") from exc

    def _keep(self, snapshot_id: str, kind: DiskKind, uid: int, fill: Callable[[Path], None]) -> None:
        if not CONTAINER_ID.fullmatch(snapshot_id):
            raise SnapshotGone(f"{snapshot_id!r} is not the id of a snapshot")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._hidden(snapshot_id)
        draft.mkdir(mode=0o700)
        try:
            fill(draft / NAMES[kind])
            (draft / "record.json").write_text(json.dumps({"disk": kind, "uid": uid}))
            _make_durable(draft, kind)
            draft.rename(self._folder / snapshot_id)
            sync(self._folder)
        except BaseException:
            disk.erase(draft)
            raise

    def share(self, kept: Kept, snapshot_id: str) -> None:
        """Make a snapshot with the content of another. Raises `SandboxUnavailable`, also if that is being deleted."""

        def fill(target: Path) -> None:
            match kept.disk:
                case "image":
                    os.link(kept.content, target)
                case "directory":
                    copy_tree(kept.content, target, "--link")

        self.keep(snapshot_id, kept.disk, kept.uid, fill)

    def drop(self, snapshot_id: str) -> None:
        """Forget a snapshot. Idempotent."""
        if not CONTAINER_ID.fullmatch(snapshot_id):
            return
        doomed = self._hidden(snapshot_id)
        with suppress(FileNotFoundError):
            (self._folder / snapshot_id).rename(doomed)
            disk.erase(doomed)

    def sweep(self, keep: Collection[str]) -> Sequence[str]:
        """Forget every snapshot that is not in `keep`, and every draft; return the ids that were forgotten."""
        found = sorted(os.listdir(self._folder)) if self._folder.is_dir() else []
        for name in found:
            if name.startswith(HIDDEN):
                disk.erase(self._folder / name)
            elif name not in keep:
                self.drop(name)
        return [name for name in found if not name.startswith(HIDDEN) and name not in keep]

    def _hidden(self, snapshot_id: str) -> Path:
        return self._folder / f"{HIDDEN}{snapshot_id}.{secrets.token_hex(4)}"


def copy_out(place: Place, record: Record, target: Path) -> str:
    """Copy the disk of a container to `target`, at one moment; return the mark of that moment.

    A directory must be at rest. The mark is "" if there can be none. Raises `OSError`, `SandboxUnavailable`.
    """
    match record.disk:
        case "image":
            return _copy_image(place, target)
        case "directory":
            mark = change_mark(place, record)
            copy_tree(place.disk, target)
            return mark


def disk_uid(kept: Kept, uid: int) -> int | None:
    """Who owns the files of a snapshot on the disk of a container of `uid`, if that will be somebody else."""
    return kept.uid if kept.uid != uid and kept.disk == "image" and idmap.supported() else None


def copy_back(kept: Kept, target: Path, record: Record) -> None:
    """Copy the content of a snapshot to `target`, for the container of `record`.

    Raises `OSError`, `SandboxUnavailable`, and `SnapshotGone` if somebody deletes it at this moment.
    """
    try:
        _copy_back(kept, target, record)
    except (FileNotFoundError, SandboxUnavailable) as exc:
        if not kept.content.exists():
            raise SnapshotGone("the snapshot was deleted while it was copied") from exc
        raise


def _copy_back(kept: Kept, target: Path, record: Record) -> None:
    handed_over = kept.uid != record.uid and record.disk_uid is None
    match kept.disk:
        case "image":
            disk.clone(kept.content, target)
            if handed_over:
                _give_image(target, record.uid)
        case "directory":
            copy_tree(kept.content, target)
            if handed_over:
                _give(target, record.uid)


def exchange(place: Place, record: Record) -> None:
    """Put the next disk in the place of the disk, unless that is done already; an image is left unmounted."""
    match record.disk:
        case "image":
            if place.next_image.exists():
                disk.shut_down(place.disk, place.image)
                place.next_image.rename(place.image)
        case "directory":
            old = place.runtime / "old"
            if place.next_disk.exists():
                if place.disk.exists():
                    disk.erase(old)
                    place.disk.rename(old)
                place.next_disk.rename(place.disk)
            disk.erase(old)


def room(kept: Kept) -> int:
    """How many bytes a snapshot has, also if it shares them."""
    match kept.disk:
        case "image":
            return kept.content.stat().st_blocks * 512
        case "directory":
            return disk.usage(kept.content, MOST_FILES)[0]


def change_mark(place: Place, record: Record) -> str:
    """A word that is another one as soon as anything on the disk is; "" if there can be none.

    For an image it is how much was ever written to its loop device, once all that waits to be is; for a directory a
    digest of what its inodes say, of which the kernel alone sets the times of change.
    """
    match record.disk:
        case "image":
            root = os.open(place.disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _libc.syncfs(root)
                return _image_mark(root, 0)
            finally:
                os.close(root)
        case "directory":
            return _tree_mark(place.disk)


def thaw(target: Path) -> None:
    """Let a disk go on that a killed server has left frozen. Idempotent."""
    if not target.is_mount():
        return
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):
        fcntl.ioctl(root, FITHAW, 0)
    os.close(root)


def copy_tree(source: Path, target: Path, *options: str) -> None:
    """Copy a folder with all that cp(1) can keep, sharing blocks where the file system can. All or nothing."""
    command = ["cp", "-a", "--reflink=auto", "--sparse=auto", "--one-file-system", *options, "-T", "--"]
    try:
        ran = subprocess.run([*command, str(source), str(target)], capture_output=True, timeout=COPY_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise SandboxUnavailable(f"a disk could not be copied within {COPY_S:.0f} s") from exc
    if ran.returncode != 0:
        raise SandboxUnavailable(f"a disk could not be copied: {ran.stderr.decode(errors='replace').strip()[:500]}")


def _give(tree: Path, uid: int) -> None:
    """Make `uid` the owner of a whole tree, links not followed."""
    subprocess.run(["chown", "-hR", "--", f"{uid}:{uid}", str(tree)], check=True, capture_output=True, timeout=COPY_S)


def _give_image(image: Path, uid: int) -> None:
    """The same for a tree on an image that nobody has mounted, for kernels that cannot translate owners."""
    scratch = image.with_suffix(".mounted")
    disk.mount_image(image, scratch)
    try:
        _give(scratch, uid)
    finally:
        mounting.unmount(scratch)
        scratch.rmdir()


def _copy_image(place: Place, target: Path) -> str:
    try:
        with _frozen(place.disk) as root:
            mark = _image_mark(root, THAW_SECTORS)
            disk.clone(place.image, target, time.monotonic() + FREEZE_S)
    except TimeoutError as exc:
        raise SandboxUnavailable(
            f"the container's disk holds more than can be copied in {FREEZE_S:.0f} s; keep the data directory on XFS "
            "or Btrfs, which share blocks"
        ) from exc
    disk.repair(target)
    return mark


@contextmanager
def _frozen(target: Path) -> Iterator[int]:
    """Inside, the file system on `target` is whole on its device, and whoever writes to it waits."""
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _libc.syncfs(root)  # most of the work, while nobody has to wait yet
        try:
            fcntl.ioctl(root, FIFREEZE, 0)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise SandboxError(f"the container's disk cannot be frozen: {exc.strerror}") from exc
            fcntl.ioctl(root, FITHAW, 0)  # a killed server has left it frozen
            fcntl.ioctl(root, FIFREEZE, 0)
        try:
            yield root
        finally:
            fcntl.ioctl(root, FITHAW, 0)
    finally:
        os.close(root)


def _image_mark(root: int, upcoming: int) -> str:
    device = os.fstat(root).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    fields = Path(f"/sys/dev/block/{name}/stat").read_text().split()
    return f"{boot_id()} {name} {int(fields[6]) + upcoming}"


def _tree_mark(tree: Path) -> str:
    try:
        return _digest(tree)
    except OSError:  # a folder that is closed even to its owner could hide anything
        return ""


def _digest(tree: Path) -> str:
    digest = hashlib.sha256()
    waiting = [tree]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            status = entry.stat(follow_symlinks=False)
            told = (entry.path, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(repr(told).encode(errors="surrogateescape"))
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
    return digest.hexdigest()


def _make_durable(draft: Path, kind: DiskKind) -> None:
    match kind:
        case "image":
            for path in (*draft.iterdir(), draft):
                sync(path)
        case "directory":
            fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _libc.syncfs(fd)
            os.close(fd)


def sync(path: Path) -> None:
    """Have a file or the names in a folder on the disk itself (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
