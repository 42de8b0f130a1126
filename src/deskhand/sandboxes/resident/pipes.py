"""The pipes on which commands write."""

from __future__ import annotations

import fcntl
import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent

F_SETPIPE_SZ = 1031
READ_SIZE = 256 << 10
PIPE_SIZE = 1 << 20


def widen(fd: int) -> None:
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # over the user's share of pipe memory (pipe(7)): slower, not wrong


def discard(agent: Agent, fd: int) -> None:
    try:
        data = os.read(fd, READ_SIZE)
    except BlockingIOError:
        return
    if not data:
        agent.unwatch(fd)
        os.close(fd)
