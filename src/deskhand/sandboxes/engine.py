"""What all isolation engines share: disks, records, ceilings, and a resident agent that commands are sent to.

Everything that exists of a container is written down before it is made (`layout.Record`), so that a server killed at
any step leaves nothing that `sweep` does not find. A container outlives its server and is found again by `attach`.
"""

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from deskhand.ports.sandbox import (
    EngineReport,
    Limits,
    SandboxError,
    SandboxGone,
    SandboxSpec,
    SandboxUnavailable,
)

from . import cgroups, disk, layout, processes, rootfs, seccomp, spawn
from .computer import Computer, size
from .connection import dial
from .launcher import Birth, Blueprint, Launcher
from .layout import Place, Record
from .probe import probe
from .processes import Identity
from .protocol import Settings, settings_frame
from .threads import finish
from .workspace import DirectoryWorkspace, Site

FIRST_UID: Final = 0x7000_0000
UIDS: Final = 0x1000_0000
"""Host uids for containers: drawn at random from a range that systemd's UIDS-GIDS.md lists as unused. Each container
has its own, so that RLIMIT_NPROC and file permissions are never shared between two."""

START_PATIENCE_S: Final = 10.0
KILL_PATIENCE_S: Final = 10.0
REAP_PATIENCE_S: Final = 1.0
SMALLEST_OPEN_FILES: Final = 64


@dataclass(frozen=True, slots=True)
class Ground:
    """What all containers of this engine stand on; found out at the first start."""

    shared: rootfs.Shared
    filter: bytes
    cgroups: cgroups.Cgroups


@dataclass(frozen=True, slots=True)
class Launched:
    """A container whose agent has its settings, and the pipe on which it would complain."""

    record: Record
    stderr: int


class ResidentEngine:
    """A `SandboxEngine` that keeps all it has under `root`.

    A second engine on the same `root` (a restarted server) adopts the containers of the first. Engines with different
    roots do not meet. `choose_cgroups` is for tests that want a host without cgroups.
    """

    def __init__(
        self, root: Path, launcher: Launcher, choose_cgroups: Callable[[str], cgroups.Cgroups] = cgroups.detect
    ) -> None:
        self._as_root = os.geteuid() == 0
        self._layout = layout.layout(root, as_root=self._as_root)
        self._launcher = launcher
        self._choose_cgroups = choose_cgroups
        self._ground: Ground | None = None
        self._preparing = asyncio.Lock()
        self._mounting = threading.Lock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._monitors: dict[int, int] = {}

    async def probe(self) -> EngineReport:
        return await probe(self, self._launcher, lambda: self._choose_cgroups(self._layout.installation))

    async def allocate(self, container_id: str, limits: Limits) -> None:
        place = self._layout.place(container_id)
        async with self._lock(container_id):
            try:
                await finish(lambda: self._allocate(place, container_id, limits))
            except OSError as exc:
                await finish(lambda: self._destroy(place))
                raise SandboxUnavailable(
                    f"no container can be made: {exc.strerror or exc}. Free disk space under {self._layout.data}, or "
                    "mend what it stands on."
                ) from exc

    def workspace(self, container_id: str) -> DirectoryWorkspace:
        place = self._layout.place(container_id)

        def locate() -> Site:
            with self._mounting:
                record = self._require(place, container_id)
                return Site(self._mounted(place, record) / "data", record.uid if self._as_root else None)

        return DirectoryWorkspace(locate, lambda: self._overflow(place, self._require(place, container_id)))

    async def start(self, spec: SandboxSpec) -> Computer:
        place = self._layout.place(spec.container_id)
        ground = await self._prepared()
        async with self._lock(spec.container_id):
            launched = await finish(lambda: self._launch(ground, place, spec), lambda late: self._give_up(place, late))
            computer = self._computer(place, launched.record)
            try:
                async with asyncio.timeout(START_PATIENCE_S):
                    await computer.ping()
            except (SandboxError, TimeoutError) as exc:
                words = await finish(lambda: self._give_up(place, launched))
                raise SandboxUnavailable(self._launcher.explain(words)) from exc
            except BaseException:
                await finish(lambda: self._give_up(place, launched))
                raise
            os.close(launched.stderr)
            return computer

    async def attach(self, container_id: str) -> Computer | None:
        place = self._layout.place(container_id)
        async with self._lock(container_id):
            record = await asyncio.to_thread(layout.load, place)
            if record is None or record.running is None or not processes.is_alive(record.running.init):
                return None
            computer = self._computer(place, record)
            try:
                await computer.ping()
            except SandboxError:  # it lives and does not answer: end it, so that it can be started again
                await finish(lambda: self._stop(place, record))
                return None
            return computer

    async def destroy(self, container_id: str) -> None:
        place = self._layout.place(container_id)
        async with self._lock(container_id):
            await finish(lambda: self._destroy(place))

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        found = await asyncio.to_thread(self._known)
        doomed = [name for name in found if name not in keep]
        for name in doomed:
            await self.destroy(name)
        if len(doomed) == len(found):
            self._ground = None
            await finish(lambda: disk.erase(self._layout.runtime))
        return doomed

    def _lock(self, container_id: str) -> asyncio.Lock:
        """One lock for each container that somebody is busy with."""
        return self._locks.setdefault(container_id, asyncio.Lock())

    async def _prepared(self) -> Ground:
        async with self._preparing:
            if self._ground is None:
                self._ground = await asyncio.to_thread(self._prepare)
            return self._ground

    def _prepare(self) -> Ground:
        machine = os.uname().machine
        if not seccomp.supported(machine):
            raise SandboxUnavailable(f"there is no system call filter for {machine!r}, only for x86_64 and aarch64")
        self._make_runtime()
        self._launcher.prepare(self._layout)
        shared = rootfs.build_shared(self._layout.runtime)
        return Ground(shared, seccomp.program(machine), self._choose_cgroups(self._layout.installation))

    def _make_runtime(self) -> None:
        """Make the folders that a container's own user must be able to pass through (but not list)."""
        self._layout.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (layout.RUNTIME_PARENT if self._as_root else self._layout.runtime, self._layout.runtime):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o711)
        self._layout.running.mkdir(exist_ok=True)
        self._layout.running.chmod(0o711)

    def _make_place(self, place: Place) -> None:
        """Make the folders of a container that are not on its disk and that it can read."""
        for path, mode in ((place.runtime, 0o711), (place.skills, 0o755), (place.egress, 0o755)):
            path.mkdir(exist_ok=True)
            path.chmod(mode)

    def _allocate(self, place: Place, container_id: str, limits: Limits) -> None:
        record = layout.load(place)
        if record is not None and record.ready:
            return
        python = rootfs.python_version()
        if python is None:
            raise SandboxUnavailable(f"containers need {rootfs.PYTHON} on the host: {rootfs.PYTHON_MEND}")
        self._destroy(place)  # what an interrupted allocation has left
        self._make_runtime()
        place.data.mkdir(mode=0o700, parents=True)
        kind: layout.DiskKind = "image" if limits.disk_bytes and disk.images_possible() else "directory"
        uid = FIRST_UID + secrets.randbelow(UIDS) if self._as_root else os.geteuid()
        record = Record(container_id, uid, kind, limits)
        layout.save(place, record)
        self._make_place(place)
        if kind == "image":
            disk.copy_sparse(disk.make_template(self._layout.templates, limits), place.image)
            disk.mount_image(place.image, place.disk)
        else:
            place.disk.mkdir()
        rootfs.populate(place.disk, uid, python)
        layout.save(place, replace(record, ready=True))

    def _require(self, place: Place, container_id: str) -> Record:
        record = layout.load(place)
        if record is None or not record.ready:
            raise SandboxGone(f"container {container_id!r} does not exist")
        return record

    def _mounted(self, place: Place, record: Record) -> Path:
        """The container's disk on the host, mounted again if the host was restarted."""
        if record.disk == "image" and not place.disk.is_mount():
            self._make_runtime()
            self._make_place(place)
            disk.check_image(place.image)
            disk.mount_image(place.image, place.disk)
        return place.disk

    def _overflow(self, place: Place, record: Record) -> str:
        """Say that a disk without a ceiling of its own is fuller than it may be; "" if it is not."""
        limits = record.limits
        if record.disk == "image" or not limits.disk_bytes:
            return ""
        used, files = disk.usage(place.disk, limits.disk_inodes or 1_000_000)
        if limits.disk_inodes and files >= limits.disk_inodes:
            return f"disk full: the container may have {limits.disk_inodes} files, and no folder that is closed to it"
        return f"disk full: the container has {size(limits.disk_bytes)}" if used >= limits.disk_bytes else ""

    def _launch(self, ground: Ground, place: Place, spec: SandboxSpec) -> Launched:
        record = self._require(place, spec.container_id)
        if record.running is not None and processes.is_alive(record.running.init):
            raise SandboxUnavailable(f"container {spec.container_id!r} runs already")
        record = self._stop(place, record)
        self._mounted(place, record)
        group = ground.cgroups.plan(spec.container_id)
        record = replace(record, limits=spec.limits, group=group)
        layout.save(place, record)
        try:
            ground.cgroups.create(group, spec.limits)
            return self._spawn(ground, place, record, group, spec)
        except OSError as exc:
            self._stop(place, layout.load(place) or record)
            raise SandboxUnavailable(f"container {spec.container_id!r} could not be started: {exc}") from exc
        except BaseException:
            self._stop(place, layout.load(place) or record)
            raise

    def _spawn(self, ground: Ground, place: Place, record: Record, group: cgroups.Group, spec: SandboxSpec) -> Launched:
        """Start the agent. It waits for its settings, which it gets when it is written down and in its cgroups."""
        uid = record.uid if self._as_root else None
        blueprint = Blueprint(spec.container_id, place, uid, ground.shared, ground.filter, spec.limits)
        orders = settings(spec, record.disk, ground.cgroups.missing)
        with spawn.listen(place.socket) as listener:
            birth = self._launcher.launch(blueprint, listener, START_PATIENCE_S)
        if birth.monitor is not None:
            self._monitors[birth.init] = birth.monitor
        with ExitStack() as undo:
            undo.callback(os.close, birth.stderr)
            try:
                launched = self._hand_over(place, record, group, birth, orders)
            except OSError as exc:  # it died meanwhile, and the reason is in its complaint
                words = spawn.complaint(birth.stderr) or str(exc)
                raise SandboxUnavailable(self._launcher.explain(words)) from exc
            finally:
                os.close(birth.stdin)
            undo.pop_all()
            return launched

    def _hand_over(
        self, place: Place, record: Record, group: cgroups.Group, birth: Birth, orders: Settings
    ) -> Launched:
        """Write a born container down, put it under its ceilings, and let it run. Raises `OSError` if it has died."""
        init = processes.identify(birth.init)
        if init is None:
            raise ProcessLookupError("it ended at once")
        record = replace(record, init=init)
        layout.save(place, record)
        for pid in (*birth.helpers, init.pid):
            cgroups.join(group, pid)
        os.write(birth.stdin, settings_frame(orders))
        return Launched(record, birth.stderr)

    def _give_up(self, place: Place, launched: Launched) -> str:
        """End what has just been launched; return what it complained of."""
        try:
            return spawn.complaint(launched.stderr)
        finally:
            os.close(launched.stderr)
            self._stop(place, launched.record)

    def _computer(self, place: Place, record: Record) -> Computer:
        assert record.running is not None
        full = (lambda: self._overflow(place, record)) if record.disk == "directory" else None
        return Computer(record.container_id, place.socket, record.limits, record.running, dial, full)

    def _stop(self, place: Place, record: Record) -> Record:
        """End a computer, if there is one, and write that down. Raises `SandboxUnavailable` if it will not die."""
        self._end(place, record)
        stopped = record.stopped()
        if stopped != record:
            layout.save(place, stopped)
        return stopped

    def _end(self, place: Place, record: Record) -> None:
        """End a computer, if there is one, with its cgroups. Raises `SandboxUnavailable` if it will not die."""
        doomed = [record.init] if record.init is not None else []
        if record.group is not None and record.init is None and self._as_root:
            doomed = processes.kill_owned(record.uid, KILL_PATIENCE_S)
        stuck = [identity for identity in doomed if not processes.kill(identity, KILL_PATIENCE_S)]
        empty = record.group is None or cgroups.remove(record.group, KILL_PATIENCE_S)
        self._reap(doomed)
        if stuck or not empty:
            raise SandboxUnavailable(f"processes of container {record.container_id!r} do not die; try again later")
        self._launcher.clean(place)
        place.socket.unlink(missing_ok=True)

    def _destroy(self, place: Place) -> None:
        record = layout.load(place)
        if record is not None:
            self._end(place, record)
            with self._mounting:  # whoever looks for its files from now on finds none, and mounts nothing
                # Removed, not rewritten: a full disk must not keep what would free it.
                place.record.unlink(missing_ok=True)
        elif self._as_root and place.disk.exists():
            self._stop_unrecorded(place)
        disk.shut_down(place.disk, place.image)
        disk.erase(place.runtime)
        disk.erase(place.data)

    def _stop_unrecorded(self, place: Place) -> None:
        """End what runs of a container whose record somebody has removed: its user, who owns the disk, is its mark."""
        uid = place.disk.stat().st_uid
        if FIRST_UID <= uid < FIRST_UID + UIDS:
            processes.kill_owned(uid, KILL_PATIENCE_S)
        cgroups.remove(self._choose_cgroups(self._layout.installation).plan(place.runtime.name))

    def _known(self) -> list[str]:
        names = set()
        for folder in (self._layout.containers, self._layout.running):
            if folder.is_dir():
                names |= {name for name in os.listdir(folder) if layout.CONTAINER_ID.fullmatch(name)}
        return sorted(names)

    def _reap(self, dead: Collection[Identity]) -> None:
        """Collect the monitors of the dead, which end right after them, and any others that have ended."""
        for identity in dead:
            monitor = self._monitors.pop(identity.pid, None)
            if monitor is not None and not processes.reap(monitor, REAP_PATIENCE_S):
                self._monitors[identity.pid] = monitor
        for init, monitor in list(self._monitors.items()):
            if processes.reap(monitor, 0):
                self._monitors.pop(init, None)


def settings(spec: SandboxSpec, kind: layout.DiskKind, missing: Collection[str]) -> Settings:
    """Decide what the agent limits by itself: what no cgroup or file system limits for the whole container."""
    limits = spec.limits
    return Settings(
        open_files=max(limits.open_files, SMALLEST_OPEN_FILES) if limits.open_files else 0,
        processes=limits.pids + cgroups.AGENT_PROCESSES if limits.pids else 0,
        file_bytes=limits.disk_bytes if kind == "directory" else 0,
        data_bytes=limits.memory_bytes if "memory" in missing else 0,
        env={**rootfs.ENVIRONMENT, **spec.env},
    )
