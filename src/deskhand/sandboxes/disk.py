"""The writable file system of a container, with a ceiling on bytes and files.

As root it is a sparse ext4 image on a loop device: mounting costs a few milliseconds, the ceiling is the size of the
file system, and a full one hurts nobody else. Otherwise it is a plain directory, whose ceiling can only be polled.

Sources: loop(4), mount(2), mke2fs(8), ext4(5).
"""

import errno
import fcntl
import os
import secrets
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import Limits, SandboxUnavailable

from . import mounting
from .idmap import Owners, mount_mapped

LOOP_CONFIGURE, LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH = 0x8004587D, 2
LO_FLAGS_AUTOCLEAR: Final = 4
FICLONE: Final = 0x40049409
COPIED_AT_ONCE: Final = 64 << 20
LOOP_CONFIG: Final = struct.Struct("=II QQQQQ IIII 64s 64s 32s QQ 64x")
IMAGE_MEND: Final = "run Deskhand as root on a kernel with loop devices, and: apt-get install e2fsprogs"
SMALLEST_IMAGE: Final = 4 << 20
E2FSCK_MENDED: Final = 3
"""Exit codes of e2fsck(8) that say that all is well now."""


def images_possible() -> bool:
    """Tell whether this process can mount images at all (a container of its own often may not)."""
    return os.geteuid() == 0 and os.access("/dev/loop-control", os.W_OK) and _mkfs() is not None


def make_template(templates: Path, limits: Limits) -> Path:
    """Return an empty file system of the given size, made once for each size. Raises `SandboxUnavailable`."""
    template = templates / f"{limits.disk_bytes}-{limits.disk_inodes}.img"
    if template.exists():
        return template
    templates.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = template.with_name(f"{template.name}.{secrets.token_hex(4)}")  # containers are allocated side by side
    with draft.open("wb") as file:
        file.truncate(max(limits.disk_bytes, SMALLEST_IMAGE))
    inodes = ["-N", str(limits.disk_inodes)] if limits.disk_inodes else []
    features = ["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"]
    mkfs = _mkfs() or "mkfs.ext4"
    made = subprocess.run(
        [mkfs, "-q", "-F", "-m", "0", "-b", "4096", *inodes, *features, str(draft)], capture_output=True, timeout=60
    )
    if made.returncode != 0:
        draft.unlink()
        raise SandboxUnavailable(f"mkfs.ext4 failed: {made.stderr.decode(errors='replace').strip()}")
    draft.rename(template)
    return template


def clone(source: Path, target: Path, deadline: float = float("inf")) -> None:
    """Copy a sparse file, as a whole at once where the file system can share blocks (ioctl_ficlonerange(2)).

    Raises `TimeoutError` if that is not done at `deadline` (monotonic seconds), and `OSError`.
    """
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
            return
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ETXTBSY):
                raise
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        for start, end in _extents(reader.fileno(), size):
            at = start
            while at < end:
                if time.monotonic() > deadline:
                    raise TimeoutError("there is too much to copy")
                count = min(end - at, COPIED_AT_ONCE)
                at += os.copy_file_range(reader.fileno(), writer.fileno(), count, at, at)


def mount_image(image: Path, target: Path, owners: Owners | None = None) -> None:
    """Mount `image` unless it is already mounted there, seen as `owners` say. Raises `SandboxUnavailable`.

    An image that some other mount namespace still holds is mounted from the same loop device: two devices over one file
    would be two file systems that know nothing of each other.
    """
    if target.is_mount():
        return
    device = _attached(image)
    if device is None:
        mount_new_image(image, target, owners)
        return
    target.mkdir(parents=True, exist_ok=True)
    _mount(device, target, owners)


def mount_new_image(image: Path, target: Path, owners: Owners | None = None) -> None:
    """Mount an image that nobody has mounted yet: to look through every loop device takes milliseconds.

    Raises `SandboxUnavailable`.
    """
    target.mkdir(parents=True, exist_ok=True)
    device, handle = _attach(image)
    try:
        _mount(device, target, owners)
    finally:
        os.close(handle)  # the device clears itself when the last user has gone


def check_image(image: Path) -> None:
    """Repair an image that was not unmounted (the host crashed). Without a journal this reads all its metadata."""
    if _attached(image) is None:
        tool = _find("e2fsck")
        if tool is not None:
            subprocess.run([tool, "-p", str(image)], capture_output=True, timeout=300)


def repair(image: Path) -> None:
    """Make a copied image clean, whose original was in use, and drop files that were deleted there and still open.

    Raises `SandboxUnavailable` if it is damaged.
    """
    tool = _find("e2fsck")
    if tool is None:
        return
    ran = subprocess.run([tool, "-p", str(image)], capture_output=True, timeout=300)
    if ran.returncode & ~E2FSCK_MENDED:
        raise SandboxUnavailable(f"the copy of a disk is damaged: {ran.stdout.decode(errors='replace').strip()[-500:]}")


def shut_down(target: Path, image: Path) -> None:
    """End the file system on `target` and free the room of its image, although somebody may still have files open.

    Else a download that stalls would keep the disk of a container that is gone. What is open answers EIO from now on.
    """
    if target.is_mount():
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # it has been shut down before
            fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("=I", EXT4_GOING_FLAGS_NOLOGFLUSH))
        os.close(root)
    mounting.unmount(target)
    if image.exists():
        os.truncate(image, 0)


def usage(directory: Path, most: int) -> tuple[int, int]:
    """Add up bytes and files below a plain directory, giving up after `most` files.

    A folder that cannot be looked into (no permission, too deep) could hide anything, so it counts as `most` files.
    """
    total, files, waiting = 0, 0, [directory]
    while waiting and files < most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # went away meanwhile
        except OSError:
            return total, max(files, most)
    return total, files


def erase(directory: Path) -> None:
    """Remove a directory tree that a hostile process has built: any depth, any modes. Raises `SandboxUnavailable`.

    rm(1) and chmod(1) walk with fts(3), which neither follows links nor recurses. Nothing may run in the tree any more.
    """
    if not directory.exists():
        return
    removal = [_find("rm") or "rm", "-rf", "--one-file-system", "--", str(directory)]
    if subprocess.run(removal, capture_output=True, check=False).returncode != 0:
        subprocess.run(
            [_find("chmod") or "chmod", "-R", "u+rwx", "--", str(directory)], capture_output=True, check=False
        )
        again = subprocess.run(removal, capture_output=True, check=False)
        if again.returncode != 0:
            raise SandboxUnavailable(f"cannot remove {directory}: {again.stderr.decode(errors='replace')[:500]}")


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def _attach(image: Path) -> tuple[str, int]:
    """Give `image` a loop device; the returned descriptor keeps it until it is mounted."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    name = os.fsencode(image)[-63:]
    try:
        for _ in range(64):
            number = _free_number()
            device = f"/dev/loop{number}"
            try:
                handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            except OSError as exc:
                raise SandboxUnavailable(f"cannot open {device}: {exc.strerror}") from exc
            config = LOOP_CONFIG.pack(backing, 4096, 0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
            try:
                fcntl.ioctl(handle, LOOP_CONFIGURE, config)
                return device, handle
            except OSError as exc:
                os.close(handle)
                if exc.errno != errno.EBUSY:  # EBUSY: somebody else took the number meanwhile
                    raise SandboxUnavailable(f"cannot set up {device}: {exc.strerror}") from exc
        raise SandboxUnavailable("no loop device could be had in 64 attempts")
    finally:
        os.close(backing)


def _free_number() -> int:
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise SandboxUnavailable(f"cannot open /dev/loop-control: {exc.strerror}") from exc
    try:
        return fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    finally:
        os.close(control)


def _attached(image: Path) -> str | None:
    """The loop device that already holds `image`."""
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if entry.read_text().rstrip("\n") == str(image):
                return f"/dev/{entry.parent.parent.name}"
        except OSError:
            continue
    return None


def _mount(device: str, target: Path, owners: Owners | None) -> None:
    if owners is not None:
        try:
            mount_mapped(device, target, owners)
        except OSError as exc:
            raise SandboxUnavailable(f"cannot mount {device} on {target} for another owner: {exc.strerror}") from exc
        return
    try:
        # noinit_itable: no background thread that would write zeros into the sparse image.
        mounting.mount(device, target, "ext4", mounting.NOSUID | mounting.NODEV | mounting.NOATIME, "noinit_itable")
    except OSError as exc:
        raise SandboxUnavailable(f"cannot mount {device} on {target}: {exc.strerror}") from exc


def _mkfs() -> str | None:
    return _find("mkfs.ext4")


def _find(tool: str) -> str | None:
    folders = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
    return next((f"{folder}/{tool}" for folder in folders if os.access(f"{folder}/{tool}", os.X_OK)), None)
