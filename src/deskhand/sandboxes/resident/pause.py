"""Stand still: every process of the container is stopped for as long as a connection stays open."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix as os
import time

from .processes import signal_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .connection import Connection

TICK_S = 0.002
PATIENT_TICKS = 25


class Pause:
    """From the request until the end of its connection. What is started meanwhile is stopped as well."""

    def __init__(self, agent: Agent, connection: Connection) -> None:
        self.agent = agent
        self.connection = connection
        self.alarm = 0.0
        self.ticks = 0

    def start(self) -> None:
        self.agent.pauses += 1
        self.agent.timed.add(self)
        self.on_alarm(time.monotonic())

    def on_alarm(self, now: float) -> None:
        signal_all(_signal.SIGSTOP)
        self.ticks += 1
        if not moving(wait=self.ticks < PATIENT_TICKS):
            self.agent.timed.discard(self)
            self.connection.send(b"Q", b"")
        else:
            self.alarm = now + TICK_S

    def abandon(self) -> None:
        self.agent.timed.discard(self)
        self.agent.pauses -= 1
        if not self.agent.pauses:
            signal_all(_signal.SIGCONT)
        self.connection.done()

    def resume(self) -> None:
        """The connection can be written to again, of which this has no need."""


def moving(wait: bool) -> bool:
    """Whether any process still runs.

    Who has called vfork(2) waits for its child to call execve(2), which is never when that is stopped before: the
    parent cannot be stopped, and does nothing. It looks like one that writes to a disk, which should end soon: without
    `wait`, whoever is not to be interrupted and has a stopped child is taken to stand still.
    """
    waiting, stopped = set(), set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open("/proc/" + name + "/stat", "rb", 0) as file:
                state, parent = file.read(1024).rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state in (b"T", b"t"):
            stopped.add(parent)
        elif state == b"D" and not wait:
            waiting.add(name.encode())
        elif state not in (b"Z", b"X"):
            return True
    return not waiting <= stopped
