"""What containers have on the host whether or not anything runs: their records, their folders, their disks.

Nothing here knows of processes. Whoever takes a disk away, or another one in its place, has ended them before.
"""

import os
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxGone, SandboxUnavailable, Snapshot

from . import disk, idmap, images, layout, mounting, rootfs, snapshots
from .layout import DiskKind, Layout, Place, Record
from .roots import Root
from .sizes import in_words
from .snapshots import Kept, Vault
from .spares import Kind
from .users import Users
from .workspace import Site

MOST_FILES: Final = 1_000_000
"""Up to so many are counted on a disk that has no ceiling on files."""


class Disks:
    """The disks of an installation and what it has written down of their containers, with its snapshots in `vault`.

    Blocking; for worker threads. Who works on one container locks it; others may look for its files meanwhile.
    """

    def __init__(self, layout: Layout, users: Users, vault: Vault) -> None:
        self._layout = layout
        self._users = users
        self._vault = vault
        self._mounting = threading.RLock()

    def known(self) -> list[str]:
        """The ids of all containers of which anything is left, also on a host that was restarted."""
        names = set()
        for folder in (self._layout.containers, self._layout.running):
            if folder.is_dir():
                names |= {name for name in os.listdir(folder) if layout.CONTAINER_ID.fullmatch(name)}
        return sorted(names)

    def require(self, place: Place, container_id: str) -> Record:
        """What is known of a container. Raises `SandboxGone` if it is not there, or not all of it."""
        record = layout.load(place)
        if record is None or not record.ready:
            raise SandboxGone(f"container {container_id!r} does not exist")
        return record

    def plan(self, container_id: str, kind: Kind, origin: Kept | None) -> Record:
        """Decide what disk and which user a new container gets: those that `kind` asks for, or a copy of `origin`."""
        limits, engine = kind
        disk_kind: DiskKind = "image" if limits.disk_bytes and disk.images_possible() else "directory"
        record = Record(container_id, self._users.draw(), disk_kind, limits, engine=engine)
        if origin is None:
            return record
        return replace(record, disk=origin.disk, disk_uid=snapshots.disk_uid(origin, record.uid))

    def make(self, place: Place, record: Record, root: Root, origin: Kept | None) -> None:
        """Make what `record`, a plan, says, where nothing is yet. Raises `OSError`, `SandboxUnavailable`."""
        place.data.mkdir(mode=0o700, parents=True)
        layout.save(place, record)
        self._make_place(place)
        if origin is not None:
            snapshots.copy_back(origin, place.image if origin.disk == "image" else place.disk, record)
            self.mounted(place, record)
        else:
            self._make_disk(place, record, root)
        layout.save(place, replace(record, ready=True))

    def rename(self, old: Place, new: Place, container_id: str) -> bool:
        """Make the container at `old` the one of this id at `new`; False if there is none at `old` any more."""
        record = layout.load(old)
        if record is None:
            return False
        disk.erase(new.data)  # what an interrupted allocation has left
        disk.erase(new.runtime)
        layout.save(old, replace(record, container_id=container_id))
        old.data.rename(new.data)
        old.runtime.rename(new.runtime)
        return True

    def site(self, place: Place, container_id: str) -> Site:
        """Where a container's workspace is. Raises `SandboxGone`."""
        with self._mounting:
            record = self.require(place, container_id)
            return Site(self.mounted(place, record) / "data", self._users.become(record))

    def mounted(self, place: Place, record: Record) -> Path:
        """The container's disk on the host, mounted again if the host was restarted."""
        with self._mounting:
            if record.replacing:
                snapshots.exchange(place, record)
            if record.disk == "image" and not place.disk.is_mount():
                self._make_place(place)
                disk.check_image(place.image)
                owners = None if record.disk_uid is None else idmap.Owners(record.disk_uid, record.uid)
                disk.mount_image(place.image, place.disk, owners)
            if record.replacing:
                layout.save(place, replace(record, replacing=False))
        return place.disk

    def overflow(self, place: Place, record: Record) -> str:
        """Say that a disk without a ceiling of its own is fuller than it may be; "" if it is not."""
        limits = record.limits
        if record.disk == "image" or not limits.disk_bytes:
            return ""
        used, files = disk.usage(place.disk, limits.disk_inodes or MOST_FILES)
        if limits.disk_inodes and files >= limits.disk_inodes:
            return f"disk full: the container may have {limits.disk_inodes} files, and no folder that is closed to it"
        return f"disk full: the container has {in_words(limits.disk_bytes)}" if used >= limits.disk_bytes else ""

    def snapshot(self, place: Place, record: Record, snapshot_id: str) -> Snapshot:
        """Keep a disk as it is; a directory must be at rest. Raises `SandboxUnavailable`."""
        self.mounted(place, record)
        before = self._vault.find(record.snapshot)
        if before is not None and record.mark and snapshots.change_mark(place, record) == record.mark:
            self._vault.share(before, snapshot_id)
            return Snapshot(snapshots.room(self._vault.require(snapshot_id)), same_as=record.snapshot)
        marks: list[str] = []
        owner = record.uid if record.disk_uid is None else record.disk_uid
        self._vault.keep(
            snapshot_id, record.disk, owner, lambda target: marks.append(snapshots.copy_out(place, record, target))
        )
        layout.save(place, replace(record, snapshot=snapshot_id, mark=marks[0]))
        return Snapshot(snapshots.room(self._vault.require(snapshot_id)))

    def make_next(self, place: Place, record: Record, snapshot_id: str) -> Record:
        """Make the next disk of a container from a snapshot; return what `exchange` takes.

        Raises `SnapshotGone`, `SandboxUnavailable`.
        """
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
        return record

    def exchange(self, place: Place, record: Record) -> None:
        """Put the next disk of a container that is stopped in the place of its disk. Old or new, whoever is killed."""
        with self._mounting:
            layout.save(place, record)  # from here on it is the new one
            self.mounted(place, record)

    def open_egress(self, place: Place, container_id: str) -> None:
        """Make the folder of a container's way out, which only its own user can pass through. Raises `SandboxGone`."""
        record = self.require(place, container_id)
        self._make_place(place)
        if (uid := self._users.become(record)) is not None:
            os.chown(place.egress, uid, uid)

    def forget(self, place: Place) -> None:
        """Remove a container's record: whoever looks for its files from now on finds none, and mounts nothing."""
        with self._mounting:
            # Removed, not rewritten: a full disk must not keep what would free it.
            place.record.unlink(missing_ok=True)

    def erase(self, place: Place) -> None:
        """Remove all that a forgotten container has left, its disk first. Idempotent."""
        disk.shut_down(place.disk, place.image)
        mounting.unmount(place.terminals)
        disk.erase(place.runtime)
        disk.erase(place.data)
        self.close_runtime()

    def make_runtime(self) -> None:
        """Make the folders that a container's own user must be able to pass through (but not list)."""
        with self._mounting:
            self._layout.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._layout.running.exists():
                self._open_runtime()

    def _open_runtime(self) -> None:
        runtime = self._layout.runtime
        for path in (layout.RUNTIME_PARENT if self._users.are_own else runtime, runtime):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o711)
        if self._users.are_own:
            with suppress(OSError):  # not allowed, as mounting disks is not
                mounting.bind_to_itself(runtime)
        self._layout.running.mkdir()
        self._layout.running.chmod(0o711)

    def close_runtime(self) -> None:
        """The last container takes with it what they were mounted in, unless something else is."""
        with self._mounting:
            if not self._in_use() and not mounting.holds_mounts(self._layout.runtime):
                mounting.unmount(self._layout.runtime)
                if self._layout.running.exists():
                    self._layout.running.rmdir()

    def clear_runtime(self) -> None:
        """Remove what only containers need, unless there are any."""
        with self._mounting:
            if not self._in_use():
                images.release(self._layout)
                mounting.unmount(self._layout.skeleton)
                mounting.unmount(self._layout.runtime)
                disk.erase(self._layout.runtime)

    def _in_use(self) -> bool:
        return self._layout.running.exists() and any(self._layout.running.iterdir())

    def _make_place(self, place: Place) -> None:
        """Make the folders of a container that are not on its disk and that it can read."""
        with self._mounting:
            self.make_runtime()
            for path, mode in ((place.runtime, 0o711), (place.skills, 0o755), (place.egress, 0o700)):
                path.mkdir(exist_ok=True)
                path.chmod(mode)

    def _make_disk(self, place: Place, record: Record, root: Root) -> None:
        if record.disk == "image":
            disk.clone(disk.make_template(self._layout.templates, record.limits), place.image)
            disk.mount_new_image(place.image, place.disk)
        else:
            place.disk.mkdir()
        rootfs.populate(place.disk, record.uid, root.python, root.version)
