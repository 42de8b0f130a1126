"""Which containers give way to the others: those that fill the processors, and those full of processes.

The kernel gives everybody the same time, but not at once: a command of a millisecond waits for the turns (about 3 ms
each) of whoever fills the processors, and each wakeup of a fork bomb's children comes before it. The group of such a
container is therefore marked idle: it gets what the others leave, all of it if they leave all, and makes room the
moment that one of them wakes up. This is among containers: nothing else on the host comes before them, as the group
that holds them all is an ordinary one.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.idle; Linux 5.15).
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

LOOK_S: Final = 0.2
"""How often to look."""

BUSY_CPUS: Final = 0.5
"""As long as all containers together use less than that many processors, nobody looks closer."""

FULL: Final = 0.5
"""Whoever uses most gives way once containers use this share of all processors."""

LIKE_THE_BUSIEST: Final = 0.9
"""With it gives way who uses at least this share of what it uses."""

CROWDED: Final = 0.75
"""Who has this share of the processes that it may have gives way, however little they do."""

QUIET_LOOKS: Final = 5
"""A container goes on giving way for so many looks: it may only have had no chance."""

PRESSED_WEIGHT: Final = 0.25
"""What all containers together weigh while one of them gives way, where a process of the host weighs 1.

Among equals a fork bomb of 512 processes kept the host's own from running for more than a second at a time (measured on
Linux 6.18). Not always: it costs a single command a tenth.
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a container has done since the last look: processors used on average, share of its processes that exist."""

    cpus: float
    crowding: float


class Groups(Protocol):
    """The control groups of containers, in which is counted what they do and set who gives way. Blocking."""

    @property
    def gives_way(self) -> bool:
        """Whether there are any, on a host that can count and set that."""
        ...

    def containers(self) -> Sequence[str]:
        """The names of those that there are. Raises `OSError`."""
        ...

    def used_s(self, name: str = "") -> float:
        """The processor time that one has used, in seconds; that of all for "". Raises `OSError` if it is gone."""
        ...

    def crowding(self, name: str) -> float:
        """How many of the processes that it may have one has, from 0 to 1. Raises `OSError` if it is gone."""
        ...

    def set_idle(self, name: str, idle: bool) -> None:
        """Have one give way to the others, or not. Raises `OSError` if it is gone."""
        ...

    def set_weight(self, weight: float) -> None:
        """What all of them together weigh, where a process of the host weighs 1. Raises `OSError` if all are gone."""
        ...


def giving_way(loads: Mapping[str, Load], processors: int, before: Mapping[str, int]) -> Mapping[str, int]:
    """Decide who gives way, with the number of looks since each had to. `before` is the last answer."""
    crowded = {name for name, load in loads.items() if load.crowding >= CROWDED}
    others = {name: load.cpus for name, load in loads.items() if name not in crowded}
    least = max(BUSY_CPUS, LIKE_THE_BUSIEST * max(others.values(), default=0.0))
    if sum(others.values()) < FULL * processors:
        least = float("inf")
    must = crowded | {name for name, cpus in others.items() if cpus >= least}
    looks = {name: 0 if name in must else before.get(name, QUIET_LOOKS) + 1 for name in loads}
    return {name: quiet for name, quiet in looks.items() if quiet < QUIET_LOOKS}


class Fairness:
    """What is known of an installation's containers from one look to the next."""

    def __init__(self, groups: Groups, processors: int) -> None:
        self._groups = groups
        self._processors = processors
        self._at: float | None = None
        self._whole_s = 0.0
        self._used_s: Mapping[str, float] = {}
        self._giving_way: Mapping[str, int] = {}

    def watch(self, over: threading.Event) -> None:
        """Look now and then until it is `over`, in a thread of its own that comes before others where that is allowed.

        Who is to end that nobody else gets a turn must get one: a bomb held up its own discovery for eight seconds.
        """
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
        while not over.wait(LOOK_S):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """See who must give way at `now` (monotonic seconds), and have it do so.

        One file is read as long as containers together do little, however many there are. Blocking.
        """
        whole = 0.0
        with suppress(OSError):  # the last of them was removed meanwhile
            whole = self._groups.used_s() if self._groups.gives_way else 0.0
        at, whole_before = self._at, self._whole_s
        self._at, self._whole_s = now, whole
        if at is None:
            self._forget_the_last()
        elif self._giving_way or whole - whole_before >= BUSY_CPUS * (now - at):
            self._judge(now - at)
        else:
            self._used_s = {}

    def _forget_the_last(self) -> None:
        """Undo what a server has left that was killed."""
        if self._groups.gives_way:
            with suppress(OSError):
                self._groups.set_weight(1.0)
                for name in self._groups.containers():
                    self._groups.set_idle(name, False)

    def _judge(self, since: float) -> None:
        before, loads = self._giving_way, self._loads(since)
        self._giving_way = giving_way(loads, self._processors, before)
        for name in before.keys() ^ self._giving_way.keys():
            with suppress(OSError):
                self._groups.set_idle(name, name in self._giving_way)
        if bool(before) != bool(self._giving_way):
            with suppress(OSError):
                self._groups.set_weight(PRESSED_WEIGHT if self._giving_way else 1.0)

    def _loads(self, since: float) -> Mapping[str, Load]:
        loads: dict[str, Load] = {}
        used: dict[str, float] = {}
        with suppress(OSError):
            for name in self._groups.containers():
                with suppress(OSError):
                    used[name] = self._groups.used_s(name)
                    cpus = (used[name] - self._used_s.get(name, used[name])) / since
                    loads[name] = Load(cpus, self._groups.crowding(name))
        self._used_s = used
        return loads
