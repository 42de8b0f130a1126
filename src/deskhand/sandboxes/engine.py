"""What all isolation engines share: disks, records, ceilings, and a resident agent that commands are sent to.

Everything that exists of a container is written down before it is made (`layout.Record`), so that a server killed at
any step leaves nothing that `sweep` does not find. A container outlives its server and is found again by `attach`.

Here is who may work on which container when; what is done to its disk is in `disks`, to its processes in `computers`.
"""

import asyncio
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from deskhand.locks import Locks
from deskhand.ports.sandbox import (
    Bundle,
    EngineReport,
    Limits,
    Outlet,
    SandboxError,
    SandboxSpec,
    SandboxUnavailable,
    Snapshot,
)

from . import cgroups, layout, orders, rootfs, snapshots
from .computer import Computer
from .computers import Computers, is_running, kill_unrecorded
from .disks import Disks
from .fairness import Fairness
from .ground import Ground, system_call_filter
from .interpreters import Interpreter
from .launcher import Launcher
from .launchers import Launchers
from .layout import Layout, Place, Record, Running
from .probe import probe
from .roots import HostRoot, Root, from_host
from .skills import Shelf
from .snapshots import Vault
from .spares import Kind, Spares
from .threads import finish, own_thread
from .users import Users
from .workspace import DirectoryWorkspace
from .zygote import Nursery, Stage

COPIES: Final = 2
"""Disks that are copied at once: each takes a thread, and bandwidth that commands need as well."""
SPARE: Final = "warm-"
SPARE_DELAY_S: Final = 0.05
"""How long whoever took a spare computer has the processors for itself, before the next one is started."""

SPARE_PAUSE_S: Final = 30.0
"""How long to wait before the next try after a spare computer could not be started."""

log = structlog.get_logger()


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
        self._users = Users(os.geteuid())
        self._layout = layout.layout(root, as_root=self._users.are_own)
        self._choose_cgroups = choose_cgroups
        self._choose_root = choose_root
        self._launchers = Launchers(launchers, self._layout)
        self._vault = Vault(self._layout.snapshots)
        self._disks = Disks(self._layout, self._users, self._vault)
        self._computers = Computers(self._disks, self._users, self._launchers, self._lend)
        self._shelf = Shelf(self._layout.skills)
        self._spares: Spares | None = None
        self._nursery = Nursery()
        self._ground: Ground | None = None
        self._preparing = asyncio.Lock()
        self._copying = asyncio.Semaphore(COPIES)
        self._locks = Locks()

    async def probe(self) -> EngineReport:
        def choose() -> cgroups.Cgroups:
            return self._choose_cgroups(self._layout.installation)

        first, *others = await asyncio.gather(*(probe(self, launcher, choose) for launcher in self._launchers))
        return replace(first, others=others)

    async def allocate(self, container_id: str, limits: Limits, origin: str | None = None, engine: str = "") -> None:
        place = self._layout.place(container_id)
        kind = (limits, self._launchers.name(engine))
        async with self._locks.of(container_id):
            if origin is not None:
                async with self._copying:
                    await self._make(container_id, place, kind, origin)
            elif not await self._claim(container_id, place, kind):
                await self._make(container_id, place, kind)

    def workspace(self, container_id: str) -> DirectoryWorkspace:
        place, disks = self._layout.place(container_id), self._disks
        return DirectoryWorkspace(
            lambda: disks.site(place, container_id),
            lambda: disks.overflow(place, disks.require(place, container_id)),
        )

    async def keep_warm(self, count: int) -> None:
        self._spares = spares = Spares()
        making = ""
        try:
            while True:
                kind = await spares.wanted(count)
                await asyncio.sleep(SPARE_DELAY_S)
                making = f"{SPARE}{secrets.token_hex(8)}"
                try:
                    await self._warm(making, kind)
                except (SandboxError, OSError) as exc:
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

    async def keep_fair(self) -> None:
        groups = await asyncio.to_thread(self._choose_cgroups, self._layout.installation)
        if "cpu" in groups.missing:
            return
        fairness, over = Fairness(groups, len(os.sched_getaffinity(0))), threading.Event()
        with own_thread() as thread:
            watching = asyncio.get_running_loop().run_in_executor(thread, fairness.watch, over)
            try:
                await asyncio.shield(watching)
            finally:
                over.set()
                await asyncio.wait([watching])

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
            self._disks.mounted(place, self._disks.require(place, container_id))
            return self._shelf.lend(bundle.digest, target)

        async with self._locks.of(container_id):
            if await finish(lend):
                return
            archive = b"".join([chunk async for chunk in bundle.open()])
            await finish(lambda: self._shelf.add(bundle.digest, archive))
            if not await finish(lend):
                raise SandboxUnavailable(f"skill bundle {bundle.digest} was removed while it was put into a container")

    async def outlet(self, container_id: str) -> Outlet:
        place = self._layout.place(container_id)
        async with self._locks.of(container_id):
            await finish(lambda: self._disks.open_egress(place, container_id))
        return orders.outlet(place)

    async def start(self, spec: SandboxSpec) -> Computer:
        place = self._layout.place(spec.container_id)
        ground = await self._prepared()
        async with self._locks.of(spec.container_id):
            if (spare := await self._adopt(place, spec)) is not None:
                return spare
            return await self._computers.start(ground, place, spec)

    async def attach(self, container_id: str) -> Computer | None:
        place = self._layout.place(container_id)
        async with self._locks.of(container_id):
            record = await asyncio.to_thread(layout.load, place)
            if record is None or record.warm or not is_running(record):
                return None
            await asyncio.to_thread(snapshots.thaw, place.disk)
            return await self._computers.answering(place, record)

    async def destroy(self, container_id: str) -> None:
        place = self._layout.place(container_id)
        async with self._locks.of(container_id):
            await finish(lambda: self._destroy(place))
        await finish(self._shelf.tidy)

    async def snapshot(self, container_id: str, snapshot_id: str) -> Snapshot:
        place = self._layout.place(container_id)
        async with self._locks.of(container_id):
            record = await asyncio.to_thread(self._disks.require, place, container_id)
            async with self._copying, self._computers.at_rest(place, record):
                return await finish(
                    lambda: self._disks.snapshot(place, record, snapshot_id), lambda _: self._vault.drop(snapshot_id)
                )

    async def restore(self, container_id: str, snapshot_id: str) -> None:
        place = self._layout.place(container_id)

        def replace_disk() -> None:
            record = self._disks.make_next(place, self._disks.require(place, container_id), snapshot_id)
            self._computers.end(place, record)
            self._disks.exchange(place, record.stopped())

        async with self._locks.of(container_id), self._copying:
            await finish(replace_disk)

    async def drop_snapshot(self, snapshot_id: str) -> None:
        await finish(lambda: self._vault.drop(snapshot_id))

    async def sweep_snapshots(self, keep: Collection[str]) -> Sequence[str]:
        return await finish(lambda: self._vault.sweep(keep))

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        found = await asyncio.to_thread(self._disks.known)
        doomed = [name for name in found if name not in keep]
        for name in doomed:
            await self.destroy(name)
        for name in found:
            await asyncio.to_thread(snapshots.thaw, self._layout.place(name).disk)
        if len(doomed) == len(found):
            self._ground = None
            self._launchers.disarm()
            await finish(self._disks.clear_runtime)
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
        async with self._locks.of(spare):
            await self._make(spare, place, kind)
        await self.start(SandboxSpec(spare, kind[0]))

        def mark() -> None:
            layout.save(place, replace(self._disks.require(place, spare), warm=True))

        await finish(mark)

    async def _claim(self, container_id: str, place: Place, kind: Kind) -> bool:
        """Make a spare container the one of this id, if there is a spare. A rename: some hundred microseconds."""
        if self._spares is None or await asyncio.to_thread(layout.load, place) is not None:
            return False
        spare_id = self._spares.take(kind)
        if spare_id is None:
            return False
        spare = self._layout.place(spare_id)
        claimed = await finish(lambda: self._disks.rename(spare, place, container_id))
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
            if is_running(record) and spec == SandboxSpec(spec.container_id, record.limits):
                return record
            self._computers.stop(place, record)
            return None

        record = await finish(unmark)
        return None if record is None else await self._computers.answering(place, record)

    async def _prepared(self) -> Ground:
        async with self._preparing:
            ground = self._ground
            if ground is None:
                # To its end, whoever is cancelled meanwhile: two at once would make the same folders.
                ground = self._ground = await finish(self._prepare)
            return ground

    def _prepare(self) -> Ground:
        filter_ = system_call_filter(os.uname().machine)
        self._disks.make_runtime()
        try:
            root = self._choose_root(self._layout)
            shared = rootfs.build_shared(self._layout.runtime)
            return Ground(shared, root, filter_, self._choose_cgroups(self._layout.installation))
        except BaseException:
            self._disks.close_runtime()
            raise

    def _allocate(self, place: Place, container_id: str, kind: Kind, root: Root, origin: str | None) -> None:
        record = layout.load(place)
        if record is not None and record.ready:
            return
        kept = None if origin is None else self._vault.require(origin)
        self._destroy(place)  # what an interrupted allocation has left
        self._disks.make(place, self._disks.plan(container_id, kind, kept), root, kept)

    def _destroy(self, place: Place) -> None:
        record = layout.load(place)
        if record is not None:
            self._computers.end(place, record)
            self._disks.forget(place)
        elif self._users.are_own and place.disk.exists():
            kill_unrecorded(place)
            cgroups.remove(self._choose_cgroups(self._layout.installation).plan(place.runtime.name))
        self._disks.erase(place)

    async def _lend(self, running: Running) -> Interpreter | None:
        return await self._nursery.lend(running, (await self._prepared()).filter)

    def _stage(self, ground: Ground) -> Stage | None:
        """What interpreters are made on in advance; None where they could not be put into containers."""
        bwrap = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
        root = ground.root
        if not self._users.are_own or bwrap is None:
            return None
        if not isinstance(root, HostRoot) or root.kit is None:
            return None
        self._layout.python.mkdir(exist_ok=True)
        rootfs.populate(self._layout.python, os.geteuid(), root.python, root.version)
        return Stage(Path(bwrap), ground.shared.support, self._layout.python / "venv", root.kit)
