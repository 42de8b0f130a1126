"""mount(2) and umount2(2) for this process's mount namespace."""

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, NOATIME, BIND = 1, 2, 4, 8, 32, 1024, 4096
_DETACH, _NOFOLLOW = 2, 8

_libc: Final = ctypes.CDLL(None, use_errno=True)


def mount(source: str | Path, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system of a kind. Raises `OSError`."""
    data, name = options.encode() or None, kind.encode() if kind else None
    if _libc.mount(os.fsencode(source), os.fsencode(target), name, flags, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def bind_read_only(source: Path, target: Path) -> None:
    """Show a folder at another place, where nothing can be written and no device or set-user-id bit counts.

    Raises `SandboxUnavailable`.
    """
    try:
        # The flags of a bind mount can only be set once it is there (mount(2)).
        mount(source, target, None, BIND)
        mount(source, target, None, BIND | REMOUNT | RDONLY | NOSUID | NODEV)
    except OSError as exc:
        raise SandboxUnavailable(f"cannot mount {source} on {target}: {exc.strerror}") from exc


def unmount(target: Path) -> None:
    """Take every mount off `target`. Idempotent. Raises `SandboxUnavailable`."""
    while _libc.umount2(os.fsencode(target), _DETACH | _NOFOLLOW) == 0:
        pass  # there may be several, and a bind mount within one file system does not look like one to os.path.ismount
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT) and target.is_mount():
        raise SandboxUnavailable(f"cannot unmount {target}: {os.strerror(code)}")
