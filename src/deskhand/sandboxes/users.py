"""The host users of containers.

A container of a server that is root has two of its own, the even one for its user and the odd one for its root, which
only OCI runtimes need, so that RLIMIT_NPROC and file permissions are never shared between two.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from .layout import Record, root_uid

FIRST_UID: Final = 0x7000_0000
UIDS: Final = 0x1000_0000
"""Host uids for containers: drawn at random from a range that systemd's UIDS-GIDS.md lists as unused."""


@dataclass(frozen=True, slots=True)
class Users:
    """Whom containers run as, with the server's own effective uid: only root can give them users of their own."""

    server: int

    @property
    def are_own(self) -> bool:
        """True if each container has users of its own, False if all are the server's."""
        return self.server == 0

    def draw(self) -> int:
        """The uid of a new container."""
        return FIRST_UID + 2 * secrets.randbelow(UIDS // 2) if self.are_own else self.server

    def become(self, record: Record) -> int | None:
        """The uid that a container's processes and files get; None to leave them the server's."""
        return record.uid if self.are_own else None


def both(uid: int) -> tuple[int, int]:
    """The two host users of the container that has this uid."""
    return uid, root_uid(uid)


def is_drawn(uid: int) -> bool:
    """Tell whether a uid is one that only a container can have."""
    return FIRST_UID <= uid < FIRST_UID + UIDS
