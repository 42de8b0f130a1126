"""What all isolation engines share: disks, records, ceilings, and a resident agent that commands are sent to.

Everything that exists of a container is written down before it is made (`layout.Record`), so that a server killed at
any step leaves nothing that `sweep` does not find. A container outlives its server and is found again by `attach`.
"""

import asyncio
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from deskhand.ports.sandbox import (
    Bundle,
    EngineReport,
    Limits,
    Outlet,
    SandboxError,
    SandboxGone,
    SandboxSpec,
    SandboxUnavailable,
    Snapshot,
)

from . import cgroups, disk, idmap, images, layout, processes, rootfs, seccomp, snapshots, spawn
from .computer import Computer, size
from .connection import Channel, dial, dial_inside
from .interpreters import Interpreter
from .launcher import Birth, Blueprint, Launcher
from .layout import Layout, Place, Record
from .probe import probe
from .processes import Identity
from .protocol import Settings, settings_frame
from .roots import HostRoot, Root, from_host
from .skills import Shelf
from .spares import Kind, Spares
from .threads import finish
from .workspace import DirectoryWorkspace, Site
from .zygote import Nursery, Stage

FIRST_UID: Final = 0x7000_0000
UIDS: Final = 0x1000_0000
"""Host uids for containers: drawn at random from a range that systemd's UIDS-GIDS.md lists as unused. Each container
has two of its own, the even one for its user and the odd one for its root, which only OCI runtimes need, so that
RLIMIT_NPROC and file permissions are never shared between two."""

PROXY_SOCKET: Final = "proxy.sock"
PROXY_PORT: Final = 3128
START_PATIENCE_S: Final = 10.0
ANSWER_PAUSE_S: Final = 0.002
KILL_PATIENCE_S: Final = 10.0
REAP_PATIENCE_S: Final = 1.0
SMALLEST_OPEN_FILES: Final = 64
COPIES: Final = 2
"""Disks that are copied at once: each takes a thread, and bandwidth that commands need as well."""
SPARE: Final = "warm-"
SPARE_PAUSE_S: Final = 30.0
"""How long to wait before the next try after a spare computer could not be started."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ground:
    """What all containers of this engine stand on; found out at the first start."""

    shared: rootfs.Shared
    root: Root
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
    roots do not meet. The first of the launchers, which have different names, starts what asks for none of them.
    `choose_cgroups` is for tests of hosts without cgroups; `choose_root` finds (or makes) the containers' read-only
    files.
    """

    def __init__(
        self,
        root: Path,
        launchers: Sequence[Launcher],
        choose_cgroups: Callable[[str], cgroups.Cgroups] = cgroups.detect,
        choose_root: Callable[[Layout], Root] = from_host,
    ) -> None:
        self._as_root = os.geteuid() == 0
        self._layout = layout.layout(root, as_root=self._as_root)
        self._launchers = {launcher.name: launcher for launcher in launchers}
        self._default = launchers[0].name
        self._armed: set[str] = set()
        self._choose_cgroups = choose_cgroups
        self._choose_root = choose_root
        self._shelf = Shelf(self._layout.skills)
        self._spares: Spares | None = None
        self._nursery = Nursery()
        self._ground: Ground | None = None
        self._preparing = asyncio.Lock()
        self._vault = snapshots.Vault(self._layout.snapshots)
        self._copying = asyncio.Semaphore(COPIES)
        self._mounting = threading.RLock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._monitors: dict[int, int] = {}

    async def probe(self) -> EngineReport:
        def choose() -> cgroups.Cgroups:
            return self._choose_cgroups(self._layout.installation)

        first, *others = await asyncio.gather(*(probe(self, launcher, choose) for launcher in self._launchers.values()))
        return replace(first, others=others)

    async def allocate(self, container_id: str, limits: Limits, origin: str | None = None, engine: str = "") -> None:
        place = self._layout.place(container_id)
        kind = (limits, engine or self._default)
        async with self._lock(container_id):
            if origin is not None:
                async with self._copying:
                    await self._make(container_id, place, kind, origin)
            elif not await self._claim(container_id, place, kind):
                await self._make(container_id, place, kind)

    def workspace(self, container_id: str) -> DirectoryWorkspace:
        place = self._layout.place(container_id)

        def locate() -> Site:
            with self._mounting:
                record = self._require(place, container_id)
                return Site(self._mounted(place, record) / "data", record.uid if self._as_root else None)

        return DirectoryWorkspace(locate, lambda: self._overflow(place, self._require(place, container_id)))

    async def keep_warm(self, count: int) -> None:
        self._spares = spares = Spares()
        making = ""
        try:
            while True:
                kind = await spares.wanted(count)
                making = f"{SPARE}{secrets.token_hex(8)}"
                try:
                    await self._warm(making, kind)
                except SandboxError as exc:
                    log.warning("sandbox.no_spare", error=str(exc))
                    await self.destroy(making)
                    await asyncio.sleep(SPARE_PAUSE_S)
                else:
                    spares.add(kind, making)
                    making = ""
        finally:
            self._spares = None
            for spare in (*spares.clear(), making):
                if spare:
                    await self.destroy(spare)

    def expect_python(self) -> None:
        self._nursery.expect()

    @property
    def has_warm_python(self) -> bool:
        """True if interpreters are ready."""
        return self._nursery.is_ready

    async def keep_python_warm(self) -> None:
        async def find_stage() -> Stage | None:
            ground = await self._prepared()
            return await finish(lambda: self._stage(ground))

        await self._nursery.keep(find_stage)

    async def provide(self, container_id: str, bundle: Bundle) -> None:
        place = self._layout.place(container_id)
        target = place.skills / bundle.folder

        def lend() -> bool:
            self._mounted(place, self._require(place, container_id))
            return self._shelf.lend(bundle.digest, target)

        async with self._lock(container_id):
            if await finish(lend):
                return
            archive = b"".join([chunk async for chunk in bundle.open()])
            await finish(lambda: self._shelf.add(bundle.digest, archive))
            if not await finish(lend):
                raise SandboxUnavailable(f"skill bundle {bundle.digest} was removed while it was put into a container")

    async def outlet(self, container_id: str) -> Outlet:
        place = self._layout.place(container_id)

        def prepare() -> None:
            record = self._require(place, container_id)
            self._make_runtime()
            self._make_place(place)
            if self._as_root:
                os.chown(place.egress, record.uid, record.uid)

        async with self._lock(container_id):
            await finish(prepare)
        return Outlet(place.egress / PROXY_SOCKET, rootfs.EGRESS, f"http://127.0.0.1:{PROXY_PORT}")

    async def start(self, spec: SandboxSpec) -> Computer:
        place = self._layout.place(spec.container_id)
        ground = await self._prepared()
        async with self._lock(spec.container_id):
            if (spare := await self._adopt(place, spec)) is not None:
                return spare
            launched = await finish(lambda: self._launch(ground, place, spec), lambda late: self._give_up(place, late))
            computer = self._computer(place, launched.record)
            try:
                async with asyncio.timeout(START_PATIENCE_S):
                    await _first_answer(computer)
            except (SandboxError, TimeoutError) as exc:
                words = await finish(lambda: self._give_up(place, launched))
                raise SandboxUnavailable(self._launcher(launched.record).explain(words)) from exc
            except BaseException:
                await finish(lambda: self._give_up(place, launched))
                raise
            os.close(launched.stderr)
            return computer

    async def attach(self, container_id: str) -> Computer | None:
        place = self._layout.place(container_id)
        async with self._lock(container_id):
            record = await asyncio.to_thread(layout.load, place)
            if record is None or record.warm or record.running is None:
                return None
            if not processes.is_alive(record.running.init):
                return None
            await asyncio.to_thread(snapshots.thaw, place.disk)
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
        await finish(self._shelf.tidy)

    async def snapshot(self, container_id: str, snapshot_id: str) -> Snapshot:
        place = self._layout.place(container_id)
        async with self._lock(container_id):
            record = await asyncio.to_thread(self._require, place, container_id)
            async with self._copying, self._at_rest(place, record):
                return await finish(
                    lambda: self._snapshot(place, record, snapshot_id), lambda _: self._vault.drop(snapshot_id)
                )

    async def restore(self, container_id: str, snapshot_id: str) -> None:
        place = self._layout.place(container_id)
        async with self._lock(container_id), self._copying:
            await finish(lambda: self._restore(place, self._require(place, container_id), snapshot_id))

    async def drop_snapshot(self, snapshot_id: str) -> None:
        await finish(lambda: self._vault.drop(snapshot_id))

    async def sweep_snapshots(self, keep: Collection[str]) -> Sequence[str]:
        return await finish(lambda: self._vault.sweep(keep))

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        found = await asyncio.to_thread(self._known)
        doomed = [name for name in found if name not in keep]
        for name in doomed:
            await self.destroy(name)
        for name in found:
            await asyncio.to_thread(snapshots.thaw, self._layout.place(name).disk)
        if len(doomed) == len(found):
            self._ground = None
            self._armed.clear()
            await finish(self._clear)
        return doomed

    async def _make(self, container_id: str, place: Place, kind: Kind, origin: str | None = None) -> None:
        root = (await self._prepared()).root
        try:
            await finish(lambda: self._allocate(place, container_id, kind, root, origin))
        except OSError as exc:
            await finish(lambda: self._destroy(place))
            raise SandboxUnavailable(
                f"no container can be made: {exc.strerror or exc}. Free disk space under {self._layout.data}, or "
                "mend what it stands on."
            ) from exc

    async def _warm(self, spare: str, kind: Kind) -> None:
        """Start a container that nobody has asked for yet, and put it on hold."""
        place = self._layout.place(spare)
        async with self._lock(spare):
            await self._make(spare, place, kind)
        await self.start(SandboxSpec(spare, kind[0]))

        def mark() -> None:
            layout.save(place, replace(self._require(place, spare), warm=True))

        await finish(mark)

    async def _claim(self, container_id: str, place: Place, kind: Kind) -> bool:
        """Make a spare container the one of this id, if there is a spare. A rename: some hundred microseconds."""
        if self._spares is None or await asyncio.to_thread(layout.load, place) is not None:
            return False
        spare_id = self._spares.take(kind)
        if spare_id is None:
            return False
        spare = self._layout.place(spare_id)

        def rename() -> bool:
            record = layout.load(spare)
            if record is None:
                return False
            disk.erase(place.data)  # what an interrupted allocation has left
            disk.erase(place.runtime)
            layout.save(spare, replace(record, container_id=container_id))
            spare.data.rename(place.data)
            spare.runtime.rename(place.runtime)
            return True

        claimed = await finish(rename)
        if not claimed:
            await self.destroy(spare_id)
        return claimed

    async def _adopt(self, place: Place, spec: SandboxSpec) -> Computer | None:
        """The computer that was started before `spec` was known, if it is what `spec` asks for."""

        def unmark() -> Record | None:
            record = layout.load(place)
            if record is None or not record.warm:
                return None
            record = replace(record, warm=False)
            layout.save(place, record)
            alive = record.running is not None and processes.is_alive(record.running.init)
            if alive and spec == SandboxSpec(spec.container_id, record.limits):
                return record
            self._stop(place, record)
            return None

        record = await finish(unmark)
        if record is None:
            return None
        computer = self._computer(place, record)
        try:
            await computer.ping()
        except SandboxError:
            await finish(lambda: self._stop(place, record))
            return None
        return computer

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
        root = self._choose_root(self._layout)
        shared = rootfs.build_shared(self._layout.runtime)
        return Ground(shared, root, seccomp.program(machine), self._choose_cgroups(self._layout.installation))

    def _launcher(self, record: Record) -> Launcher:
        """How a container is started. Raises `SandboxUnavailable`."""
        name = record.engine or self._default
        if name not in self._launchers:
            has = ", ".join(self._launchers)
            raise SandboxUnavailable(f"the container needs the engine {name!r}, and this server has: {has}")
        return self._launchers[name]

    def _armed_launcher(self, record: Record, root: Root) -> Launcher:
        """The same, once it has looked at this host."""
        launcher = self._launcher(record)
        with self._mounting:
            if launcher.name not in self._armed:
                launcher.prepare(self._layout, root)
                self._armed.add(launcher.name)
        return launcher

    def _clear(self) -> None:
        """Remove what only containers need, when there are none."""
        images.release(self._layout)
        disk.erase(self._layout.runtime)

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
        for path, mode in ((place.runtime, 0o711), (place.skills, 0o755), (place.egress, 0o700)):
            path.mkdir(exist_ok=True)
            path.chmod(mode)

    def _allocate(self, place: Place, container_id: str, wanted: Kind, root: Root, origin: str | None) -> None:
        limits, engine = wanted
        record = layout.load(place)
        if record is not None and record.ready:
            return
        kept = None if origin is None else self._vault.require(origin)
        self._destroy(place)  # what an interrupted allocation has left
        self._make_runtime()
        place.data.mkdir(mode=0o700, parents=True)
        kind: layout.DiskKind = "image" if limits.disk_bytes and disk.images_possible() else "directory"
        uid = FIRST_UID + 2 * secrets.randbelow(UIDS // 2) if self._as_root else os.geteuid()
        record = Record(container_id, uid, kind, limits, engine=engine)
        if kept is not None:
            record = replace(record, disk=kept.disk, disk_uid=snapshots.disk_uid(kept, uid))
        layout.save(place, record)
        self._make_place(place)
        if kept is not None:
            snapshots.copy_back(kept, place.image if kept.disk == "image" else place.disk, record)
            self._mounted(place, record)
        else:
            self._make_disk(place, record, root)
        layout.save(place, replace(record, ready=True))

    def _make_disk(self, place: Place, record: Record, root: Root) -> None:
        if record.disk == "image":
            disk.clone(disk.make_template(self._layout.templates, record.limits), place.image)
            disk.mount_image(place.image, place.disk)
        else:
            place.disk.mkdir()
        rootfs.populate(place.disk, record.uid, root.python, root.version)

    @asynccontextmanager
    async def _at_rest(self, place: Place, record: Record) -> AsyncIterator[None]:
        """Inside, nothing changes a disk that cannot be frozen: the processes of its container stand still."""
        if record.disk == "image" or record.running is None or not processes.is_alive(record.running.init):
            yield
            return
        socket = self._launcher(record).agent_socket(place)
        with _dialler(place, socket)(socket) as channel:
            await channel.pause()
            yield

    def _snapshot(self, place: Place, record: Record, snapshot_id: str) -> Snapshot:
        self._mounted(place, record)
        before = self._vault.find(record.snapshot)
        if before is not None and record.mark and snapshots.change_mark(place, record) == record.mark:
            self._vault.share(before, snapshot_id)
            return Snapshot(snapshots.room(before), same_as=record.snapshot)
        marks: list[str] = []
        owner = record.uid if record.disk_uid is None else record.disk_uid
        try:
            self._vault.keep(
                snapshot_id, record.disk, owner, lambda target: marks.append(snapshots.copy_out(place, record, target))
            )
        except OSError as exc:
            raise SandboxUnavailable(f"the snapshot could not be kept: {exc.strerror or exc}") from exc
        layout.save(place, replace(record, snapshot=snapshot_id, mark=marks[0]))
        return Snapshot(snapshots.room(self._vault.require(snapshot_id)))

    def _restore(self, place: Place, record: Record, snapshot_id: str) -> None:
        kept = self._vault.require(snapshot_id, record.disk)
        upcoming = place.next_image if record.disk == "image" else place.next_disk
        record = replace(record, disk_uid=snapshots.disk_uid(kept, record.uid), snapshot="", mark="", replacing=True)
        try:
            self._make_place(place)
            upcoming.unlink(missing_ok=True) if record.disk == "image" else disk.erase(upcoming)
            snapshots.copy_back(kept, upcoming, record)
            snapshots.sync(upcoming)
        except OSError as exc:
            raise SandboxUnavailable(f"the snapshot could not be restored: {exc.strerror or exc}") from exc
        self._end(place, record)
        with self._mounting:
            layout.save(place, record.stopped())  # from here on it is the new one
            self._mounted(place, record.stopped())

    def _require(self, place: Place, container_id: str) -> Record:
        record = layout.load(place)
        if record is None or not record.ready:
            raise SandboxGone(f"container {container_id!r} does not exist")
        return record

    def _mounted(self, place: Place, record: Record) -> Path:
        """The container's disk on the host, mounted again if the host was restarted."""
        with self._mounting:
            if record.replacing:
                snapshots.exchange(place, record)
            if record.disk == "image" and not place.disk.is_mount():
                self._make_runtime()
                self._make_place(place)
                disk.check_image(place.image)
                owners = None if record.disk_uid is None else idmap.Owners(record.disk_uid, record.uid)
                disk.mount_image(place.image, place.disk, owners)
            if record.replacing:
                layout.save(place, replace(record, replacing=False))
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
        launcher = self._armed_launcher(record, ground.root)
        self._mounted(place, record)
        group = ground.cgroups.plan(spec.container_id)
        record = replace(record, limits=spec.limits, group=group)
        layout.save(place, record)
        try:
            ground.cgroups.create(group, launcher.ceilings(spec.limits))
            return self._spawn(ground, launcher, place, record, spec)
        except OSError as exc:
            self._stop(place, layout.load(place) or record)
            raise SandboxUnavailable(f"container {spec.container_id!r} could not be started: {exc}") from exc
        except BaseException:
            self._stop(place, layout.load(place) or record)
            raise

    def _spawn(self, ground: Ground, launcher: Launcher, place: Place, record: Record, spec: SandboxSpec) -> Launched:
        """Start the agent. It waits for its settings, which it gets when it is written down and in its cgroups."""
        uid = record.uid if self._as_root else None
        blueprint = Blueprint(spec.container_id, place, uid, ground.shared, ground.root, ground.filter, spec.limits)
        orders = settings(spec, record.disk, ground.cgroups.missing, ground.root.environment)
        birth = launcher.launch(blueprint, START_PATIENCE_S)
        orders = replace(orders, filter=birth.filter, address=birth.address)
        if birth.monitor is not None:
            self._monitors[birth.init] = birth.monitor
        with ExitStack() as undo:
            undo.callback(os.close, birth.stderr)
            try:
                launched = self._hand_over(place, record, birth, orders)
            except OSError as exc:  # it died meanwhile, and the reason is in its complaint
                words = spawn.complaint(birth.stderr) or str(exc)
                raise SandboxUnavailable(launcher.explain(words)) from exc
            finally:
                os.close(birth.stdin)
            undo.pop_all()
            return launched

    def _hand_over(self, place: Place, record: Record, birth: Birth, orders: Settings) -> Launched:
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
        launcher = self._launcher(record)
        lend = self._lend if launcher.level == "namespace" else _lend_nothing
        socket = launcher.agent_socket(place)
        reach = _dialler(place, socket)
        return Computer(record.container_id, socket, record.limits, record.running, reach, full, lend)

    async def _lend(self, running: layout.Running) -> Interpreter | None:
        return await self._nursery.lend(running, (await self._prepared()).filter)

    def _stage(self, ground: Ground) -> Stage | None:
        """What interpreters are made on in advance; None where they could not be put into containers."""
        bwrap = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
        root = ground.root
        if not self._as_root or bwrap is None:
            return None
        if not isinstance(root, HostRoot) or root.kit is None:
            return None
        self._layout.python.mkdir(exist_ok=True)
        rootfs.populate(self._layout.python, os.geteuid(), root.python, root.version)
        return Stage(Path(bwrap), ground.shared.support, self._layout.python / "venv", root.kit)

    def _stop(self, place: Place, record: Record) -> Record:
        """End a computer, if there is one, and write that down. Raises `SandboxUnavailable` if it will not die."""
        self._end(place, record)
        stopped = record.stopped()
        if stopped != record:
            layout.save(place, stopped)
        return stopped

    def _end(self, place: Place, record: Record) -> None:
        """End a computer, if there is one, with its cgroups. Raises `SandboxUnavailable` if it will not die."""
        snapshots.thaw(place.disk)
        doomed = [record.init] if record.init is not None else []
        if record.group is not None and record.init is None and self._as_root:
            doomed = processes.kill_owned((record.uid, layout.root_uid(record.uid)), KILL_PATIENCE_S)
        stuck = [identity for identity in doomed if not processes.kill(identity, KILL_PATIENCE_S)]
        empty = record.group is None or cgroups.remove(record.group, KILL_PATIENCE_S)
        self._reap(doomed)
        if stuck or not empty:
            raise SandboxUnavailable(f"processes of container {record.container_id!r} do not die; try again later")
        if (launcher := self._launchers.get(record.engine or self._default)) is not None:
            launcher.clean(place)
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
            processes.kill_owned((uid, layout.root_uid(uid)), KILL_PATIENCE_S)
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


def _dialler(place: Place, socket: Path) -> Callable[[Path], AbstractContextManager[Channel]]:
    """How to reach an agent: with care, if its socket is not where only the host can put one."""
    return dial if socket == place.socket else dial_inside


async def _lend_nothing(_: layout.Running) -> Interpreter | None:
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


def settings(
    spec: SandboxSpec, kind: layout.DiskKind, missing: Collection[str], environment: Mapping[str, str]
) -> Settings:
    """Decide what the agent limits by itself: what no cgroup or file system limits for the whole container."""
    limits = spec.limits
    return Settings(
        open_files=max(limits.open_files, SMALLEST_OPEN_FILES) if limits.open_files else 0,
        processes=limits.pids + cgroups.AGENT_PROCESSES if limits.pids else 0,
        file_bytes=limits.disk_bytes if kind == "directory" else 0,
        data_bytes=limits.memory_bytes if "memory" in missing else 0,
        env={**rootfs.ENVIRONMENT, **environment, **spec.env},
        relay=f"{PROXY_PORT}:{rootfs.EGRESS}/{PROXY_SOCKET}" if spec.proxied else "",
    )
