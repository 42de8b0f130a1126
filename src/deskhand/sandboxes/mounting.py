"""Mounts of the mount namespace that the calling thread is in.

Sources: mount(2), umount2(2), unshare(2), mount_namespaces(7); for open_tree and move_mount the kernel's
Documentation/filesystems/mount_api.rst.
"""

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, NOATIME, BIND = 1, 2, 4, 8, 32, 1024, 4096
_RECURSIVE, _PRIVATE, _SLAVE = 1 << 14, 1 << 18, 1 << 19
_DETACH, _NOFOLLOW = 2, 8
_NEW_MOUNT_NAMESPACE: Final = 0x20000
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_CLONE_TREE, _CLOEXEC, _FROM_EMPTY_PATH, _AT_FDCWD = 1, os.O_CLOEXEC, 4, -100

_libc: Final = ctypes.CDLL(None, use_errno=True)


def mount(source: str | Path, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system of a kind. Raises `OSError`."""
    data, name = options.encode() or None, kind.encode() if kind else None
    if _libc.mount(os.fsencode(source), os.fsencode(target), name, flags, data) != 0:
        raise _failure(target)


def bind_to_itself(folder: Path) -> None:
    """Make a folder a mount, so that all that will be mounted in it can be taken away at once; no other mount
    namespace is told of what comes. Raises `OSError`.
    """
    mount(folder, folder, None, BIND)
    mount("none", folder, None, _PRIVATE)


def leave_namespace() -> None:
    """Give the calling thread mounts of its own: it is told of changes, and tells nobody of its own. Raises `OSError`.

    The thread must end with what it does: it cannot come back.
    """
    if _libc.unshare(_NEW_MOUNT_NAMESPACE) != 0:
        raise _failure(Path("/"))
    mount("none", Path("/"), None, _RECURSIVE | _SLAVE)


def copy(target: Path) -> int:
    """A descriptor of a copy of what is mounted at `target`, for `put`. The caller owns it. Raises `OSError`."""
    return system_call(target, _OPEN_TREE, _AT_FDCWD, os.fsencode(target), _CLONE_TREE | _CLOEXEC)


def put(made: int, target: Path) -> None:
    """Mount what `copy`, or fsmount, has made. Raises `OSError`."""
    system_call(target, _MOVE_MOUNT, made, b"", _AT_FDCWD, os.fsencode(target), _FROM_EMPTY_PATH)


def system_call(target: Path, number: int, *arguments: int | bytes | None) -> int:
    """Do one of the calls that the C library has no function for; its result. Raises `OSError` about `target`."""
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise _failure(target)
    return result


def detach(target: Path) -> None:
    """Take the uppermost mount off `target`, with all that is mounted below. Raises `OSError`."""
    if _libc.umount2(os.fsencode(target), _DETACH | _NOFOLLOW) != 0:
        raise _failure(target)


def holds_mounts(folder: Path) -> bool:
    """Tell whether something is mounted below a folder, which may be a mount itself."""
    points = (line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return any(point.startswith(f"{folder}/") for point in points)


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
    try:
        while True:  # there may be several, and os.path.ismount does not see a bind mount within one file system
            detach(target)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOENT) and target.is_mount():
            raise SandboxUnavailable(f"cannot unmount {target}: {exc.strerror}") from exc


def _failure(target: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), str(target))
