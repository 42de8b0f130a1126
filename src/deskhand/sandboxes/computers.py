"""The processes of containers: how a computer starts, is found again, stands still, and ends with all it started.

Each step is written down in the container's record before the next, so that a server killed at any of them leaves
nothing running that the next one does not find.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxError, SandboxGone, SandboxSpec, SandboxUnavailable

from . import cgroups, layout, processes, snapshots, spawn
from .computer import Computer
from .connection import Channel, dial, dial_inside
from .disks import Disks
from .ground import Ground
from .interpreters import Interpreter
from .launcher import Birth, Blueprint, Launcher
from .launchers import Launchers
from .layout import Place, Record, Running
from .orders import settings
from .processes import Identity
from .protocol import Settings, settings_frame
from .threads import finish
from .users import Users, both, is_drawn

START_PATIENCE_S: Final = 10.0
ANSWER_PAUSE_S: Final = 0.002
KILL_PATIENCE_S: Final = 10.0
REAP_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A container whose agent has its settings, and the pipe on which it would complain."""

    record: Record
    stderr: int


class Computers:
    """The computers of an engine. Who works on one container locks it.

    `lend` gives a running container a warm interpreter, if there is one. Only containers of the level "namespace" are
    lent any.
    """

    def __init__(
        self,
        disks: Disks,
        users: Users,
        launchers: Launchers,
        lend: Callable[[Running], Awaitable[Interpreter | None]],
    ) -> None:
        self._disks = disks
        self._users = users
        self._launchers = launchers
        self._lend = lend
        self._monitors: dict[int, int] = {}

    async def start(self, ground: Ground, place: Place, spec: SandboxSpec) -> Computer:
        """Start the computer of a container and wait until it answers. Raises `SandboxGone`, `SandboxUnavailable`."""
        launched = await finish(lambda: self._launch(ground, place, spec), lambda late: self._give_up(place, late))
        computer = self._computer(place, launched.record)
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                await _first_answer(computer)
        except (SandboxError, TimeoutError) as exc:
            words = await finish(lambda: self._give_up(place, launched))
            raise SandboxUnavailable(self._launchers.require(launched.record.engine).explain(words)) from exc
        except BaseException:
            await finish(lambda: self._give_up(place, launched))
            raise
        os.close(launched.stderr)
        return computer

    async def answering(self, place: Place, record: Record) -> Computer | None:
        """The computer that `record` says runs; None if it does not answer, and then it is ended, to be started again.

        Raises `SandboxUnavailable`.
        """
        computer = self._computer(place, record)
        try:
            await computer.ping()
        except SandboxError:
            await finish(lambda: self.stop(place, record))
            return None
        return computer

    @asynccontextmanager
    async def at_rest(self, place: Place, record: Record) -> AsyncIterator[None]:
        """Inside, nothing changes a disk that cannot be frozen: the processes of its container stand still."""
        if record.disk == "image" or not is_running(record):
            yield
            return
        socket = self._launchers.require(record.engine).agent_socket(place)
        with _dialler(place, socket)(socket) as channel:
            await channel.pause()
            yield

    def stop(self, place: Place, record: Record) -> Record:
        """End a computer, if there is one, and write that down. Raises `SandboxUnavailable` if it will not die."""
        self.end(place, record)
        stopped = record.stopped()
        if stopped != record:
            layout.save(place, stopped)
        return stopped

    def end(self, place: Place, record: Record) -> None:
        """End a computer, if there is one, with its cgroups. Raises `SandboxUnavailable` if it will not die."""
        snapshots.thaw(place.disk)
        launcher = self._launchers.find(record.engine)
        doomed = [record.init] if record.init is not None else []
        if record.group is not None and record.init is None:
            if launcher is not None:
                launcher.interrupt(place)
            if self._users.are_own:
                doomed = processes.kill_owned(both(record.uid), KILL_PATIENCE_S)
        stuck = [identity for identity in doomed if not processes.kill(identity, KILL_PATIENCE_S)]
        empty = record.group is None or cgroups.remove(record.group, KILL_PATIENCE_S)
        self._reap(doomed)
        if stuck or not empty:
            raise SandboxUnavailable(f"processes of container {record.container_id!r} do not die; try again later")
        if launcher is not None:
            launcher.clean(place)
        place.socket.unlink(missing_ok=True)

    def _launch(self, ground: Ground, place: Place, spec: SandboxSpec) -> Launched:
        record = self._disks.require(place, spec.container_id)
        if is_running(record):
            raise SandboxUnavailable(f"container {spec.container_id!r} runs already")
        record = self.stop(place, record)
        launcher = self._launchers.armed(record.engine, ground.root)
        self._disks.mounted(place, record)
        group = ground.cgroups.plan(spec.container_id)
        record = replace(record, limits=spec.limits, group=group)
        layout.save(place, record)
        try:
            ground.cgroups.create(group, launcher.ceilings(spec.limits))
            return self._spawn(ground, launcher, place, record, spec)
        except OSError as exc:
            self.stop(place, layout.load(place) or record)
            raise SandboxUnavailable(f"container {spec.container_id!r} could not be started: {exc}") from exc
        except BaseException:
            self.stop(place, layout.load(place) or record)
            raise

    def _spawn(self, ground: Ground, launcher: Launcher, place: Place, record: Record, spec: SandboxSpec) -> Launched:
        """Start the agent. It waits for its settings, which it gets when it is written down and in its cgroups."""
        uid = self._users.become(record)
        blueprint = Blueprint(spec.container_id, place, uid, ground.shared, ground.root, ground.filter, spec.limits)
        orders = settings(spec, record.disk, ground.cgroups.missing, ground.root.environment)
        birth = launcher.launch(blueprint, START_PATIENCE_S)
        orders = replace(orders, filter=birth.filter, address=birth.address)
        if birth.monitor is not None:
            self._monitors[birth.init] = birth.monitor
        with ExitStack() as undo:
            undo.callback(os.close, birth.stderr)
            try:
                launched = _hand_over(place, record, birth, orders)
            except OSError as exc:  # it died meanwhile, and the reason is in its complaint
                words = spawn.complaint(birth.stderr) or str(exc)
                raise SandboxUnavailable(launcher.explain(words)) from exc
            finally:
                os.close(birth.stdin)
            undo.pop_all()
            return launched

    def _give_up(self, place: Place, launched: Launched) -> str:
        """End what has just been launched; return what it complained of."""
        try:
            return spawn.complaint(launched.stderr)
        finally:
            os.close(launched.stderr)
            self.stop(place, launched.record)

    def _computer(self, place: Place, record: Record) -> Computer:
        assert record.running is not None
        full = (lambda: self._disks.overflow(place, record)) if record.disk == "directory" else None
        launcher = self._launchers.require(record.engine)
        lend = self._lend if launcher.level == "namespace" else _lend_nothing
        socket = launcher.agent_socket(place)
        reach = _dialler(place, socket)
        return Computer(record.container_id, socket, record.limits, record.running, reach, full, lend)

    def _reap(self, dead: Collection[Identity]) -> None:
        """Collect the monitors of the dead, which end right after them, and any others that have ended."""
        for identity in dead:
            monitor = self._monitors.pop(identity.pid, None)
            if monitor is not None and not processes.reap(monitor, REAP_PATIENCE_S):
                self._monitors[identity.pid] = monitor
        for init, monitor in list(self._monitors.items()):
            if processes.reap(monitor, 0):
                self._monitors.pop(init, None)


def is_running(record: Record) -> bool:
    """Tell whether the computer lives that was started, if one was."""
    return record.running is not None and processes.is_alive(record.running.init)


def _hand_over(place: Place, record: Record, birth: Birth, orders: Settings) -> Launched:
    """Write a born container down, put it under its ceilings, and let it run. Raises `OSError` if it has died."""
    init = processes.identify(birth.init)
    if init is None:
        raise ProcessLookupError("it ended at once")
    record = replace(record, init=init)
    assert record.group is not None
    layout.save(place, record)
    cgroups.join(record.group, init.pid)
    joined: set[int] = set()
    while new := set(birth.helpers()) - joined:  # one that was not in yet may have started another meanwhile
        for pid in new:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                cgroups.join(record.group, pid)
        joined |= new
    os.write(birth.stdin, settings_frame(orders))
    return Launched(record, birth.stderr)


def _dialler(place: Place, socket: Path) -> Callable[[Path], AbstractContextManager[Channel]]:
    """How to reach an agent: with care, if its socket is not where only the host can put one."""
    return dial if socket == place.socket else dial_inside


async def _lend_nothing(_: Running) -> Interpreter | None:
    """For containers into which no process of the host can be put."""
    return None


async def _first_answer(computer: Computer) -> None:
    """Wait until the agent answers: one that makes its socket itself does so after it has got its settings."""
    while True:
        try:
            return await computer.ping()
        except SandboxGone:
            if not processes.is_alive(computer.running.init):
                raise
        await asyncio.sleep(ANSWER_PAUSE_S)


def kill_unrecorded(place: Place) -> None:
    """End what runs of a container whose record somebody has removed: its user, who owns the disk, is its mark."""
    uid = place.disk.stat().st_uid
    if is_drawn(uid):
        processes.kill_owned(both(uid), KILL_PATIENCE_S)
