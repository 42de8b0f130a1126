"""Open files below a directory without ever leaving it, whatever the container does to the path meanwhile.

openat2(2) with RESOLVE_BENEATH is the kernel's own answer: no `..`, no absolute or magic link leads out, and there is
no window between a check and its use. Its number is the same on every architecture (Linux 5.6 and newer).
"""

import ctypes
import os
import stat
import struct
from pathlib import Path
from typing import Final

SYS_OPENAT2: Final = 437
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x01, 0x02, 0x04, 0x08
RESOLVE_IN_ROOT: Final = 0x10
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_QUIET: Final = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_AGAIN: Final = 11
_ATTEMPTS: Final = 32

_libc = ctypes.CDLL(None, use_errno=True)


def open_file(root: int, path: str) -> int:
    """Open a regular file for reading. Raises `OSError`; `IsADirectoryError` for anything but a regular file."""
    fd = _openat2(root, path, os.O_RDONLY | _QUIET, 0, _INSIDE)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise IsADirectoryError(f"{path!r} is not a regular file")


def describe(root: int, path: str) -> os.stat_result:
    """Stat a regular file without opening it, so its mode does not matter. Raises `OSError` as `open_file` does."""
    fd = _openat2(root, path, os.O_PATH | os.O_CLOEXEC, 0, _INSIDE)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise IsADirectoryError(f"{path!r} is not a regular file")
    return status


def open_folder(root: int, path: str, *, follow: bool) -> int:
    """Open a folder; with `follow` through links that stay inside. Raises `OSError`."""
    resolve = _INSIDE if follow else _INSIDE | RESOLVE_NO_SYMLINKS
    return _openat2(root, path, os.O_RDONLY | os.O_DIRECTORY | _QUIET, 0, resolve)


def create_file(folder: int, name: str, mode: int) -> int:
    """Create a file that must not exist, in an open folder. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _QUIET
    return _openat2(folder, name, flags, mode, _INSIDE | RESOLVE_NO_SYMLINKS)


def resolve(root: Path, path: str) -> str | None:
    """Follow a path as if `root` were the root directory; return where it ends, from there, or None if nowhere."""
    here = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _openat2(here, path, os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except OSError:
        return None
    finally:
        os.close(here)
    try:
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(root.resolve()))
    finally:
        os.close(fd)


def _openat2(folder: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = struct.pack("=QQQ", flags, mode, resolve)
    for _ in range(_ATTEMPTS):
        fd = _libc.syscall(SYS_OPENAT2, folder, os.fsencode(path), how, len(how))
        if fd >= 0:
            return int(fd)
        if ctypes.get_errno() != _AGAIN:  # EAGAIN: a rename elsewhere raced with the resolution of `..`
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), path)
