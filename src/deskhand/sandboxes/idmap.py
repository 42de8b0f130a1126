"""Mount a disk whose files belong to one user so that the host, and the container, see them as another's.

Every container has a host uid of its own, and a disk that was copied from another container's holds that one's. Instead
of giving each file a new owner, the mount translates, which costs 2 ms however many files there are.

Sources: mount_setattr(2) (MOUNT_ATTR_IDMAP, Linux 5.12; ext4 since then), user_namespaces(7), and the kernel's
Documentation/filesystems/mount_api.rst for fsopen, fsconfig, fsmount and move_mount.
"""

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from . import mounting
from .layout import root_uid

FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR = 430, 431, 432, 442
SET_FLAG, SET_STRING, CREATE = 0, 1, 6
CLOEXEC: Final = 1
NOSUID, NODEV, NOATIME, IDMAP = 0x2, 0x4, 0x10, 0x100000
AT_EMPTY_PATH: Final = 0x1000
UNSHARE: Final = ("/usr/bin/unshare", "--user", "/bin/cat")
PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Owners:
    """Who owns the files on the disk itself, and who owns them as they are seen.

    Each stands for two uids (`layout.root_uid`). The host's root stays who it is.
    """

    stored: int
    seen: int


def supported() -> bool:
    """Tell whether this kernel and host can do it."""
    numbers = [int(word) for word in os.uname().release.split("-")[0].split(".")[:2] if word.isdigit()]
    return tuple(numbers) >= (5, 12) and os.access(UNSHARE[0], os.X_OK)


def mount_mapped(device: str, target: Path, owners: Owners) -> None:
    """Mount the ext4 file system on `device` at `target`, all or nothing. Raises `OSError`."""
    call = partial(mounting.system_call, target)
    with _owned(call(FSOPEN, b"ext4", CLOEXEC)) as opened:
        call(FSCONFIG, opened, SET_STRING, b"source", device.encode(), 0)
        call(FSCONFIG, opened, SET_FLAG, b"noinit_itable", None, 0)
        call(FSCONFIG, opened, CREATE, None, None, 0)
        with _owned(call(FSMOUNT, opened, CLOEXEC, NOSUID | NODEV | NOATIME)) as mount:
            with _user_namespace(owners) as namespace:
                attributes = struct.pack("=QQQQ", IDMAP, 0, 0, namespace)
                call(MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, attributes, len(attributes))
            mounting.put(mount, target)


@contextmanager
def _user_namespace(owners: Owners) -> Iterator[int]:
    """A user namespace that says who is who, held by a process that ends with its standard input."""
    holder = subprocess.Popen(UNSHARE, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert holder.stdin is not None
    with holder, closing(holder.stdin):
        _wait_until_apart(holder.pid)
        users = [(0, 0), (owners.stored, owners.seen), (root_uid(owners.stored), root_uid(owners.seen))]
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text("".join(f"{stored} {seen} 1\n" for stored, seen in users))
        with _owned(os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)) as namespace:
            yield namespace


def _wait_until_apart(pid: int) -> None:
    ours = os.readlink("/proc/self/ns/user")
    deadline = time.monotonic() + PATIENCE_S
    while os.readlink(f"/proc/{pid}/ns/user") == ours:
        if time.monotonic() > deadline:
            raise TimeoutError("no user namespace was made")
        time.sleep(0.0002)


@contextmanager
def _owned(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
