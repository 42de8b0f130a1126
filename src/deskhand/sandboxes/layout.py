"""Where an installation keeps what belongs to its containers, and the record it keeps of each.

Two trees. `data` survives a reboot: records and disk images. `runtime` does not: sockets, mount points and what is
bound into containers; it must be reachable by the container's user, which a data directory under /root is not.
"""

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from deskhand.ports.sandbox import Limits, SandboxGone

from .cgroups import Group
from .processes import Identity

RUNTIME_PARENT: Final = Path("/run/deskhand")
CONTAINER_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")

DiskKind = Literal["image", "directory"]


@dataclass(frozen=True, slots=True)
class Running:
    """A computer that was started: its first process and its cgroups."""

    init: Identity
    group: Group


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a container, on disk, before anything that it describes is made.

    `group` is set before the cgroups are made and `init` before the agent may run anything, so that whoever reads the
    record can clean up whatever a killed server left. A `warm` one runs and nothing has used it yet.

    `engine` names the launcher, "" the default one of an earlier version.

    `disk_uid` owns the files on the disk itself, if that is not `uid`. `mark` says how the disk was when it was as in
    `snapshot` (`snapshots.change_mark`). `replacing` is set once the next disk is to take the place of this one.
    """

    container_id: str
    uid: int
    disk: DiskKind
    limits: Limits
    ready: bool = False
    disk_uid: int | None = None
    snapshot: str = ""
    mark: str = ""
    replacing: bool = False
    warm: bool = False
    engine: str = ""
    group: Group | None = None
    init: Identity | None = None

    @property
    def running(self) -> Running | None:
        """The computer, if one was started."""
        return None if self.init is None or self.group is None else Running(self.init, self.group)

    def stopped(self) -> "Record":
        """The record once its computer is gone."""
        return replace(self, group=None, init=None)


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one container."""

    data: Path
    runtime: Path

    @property
    def record(self) -> Path:
        return self.data / "record.json"

    @property
    def image(self) -> Path:
        return self.data / "disk.img"

    @property
    def next_image(self) -> Path:
        return self.data / "next.img"

    @property
    def next_disk(self) -> Path:
        return self.runtime / "next"

    @property
    def disk(self) -> Path:
        """Where the container's writable file system is seen on the host."""
        return self.runtime / "disk"

    @property
    def socket(self) -> Path:
        return self.runtime / "agent.sock"

    @property
    def skills(self) -> Path:
        """What the container sees, read-only, as `ports.sandbox.SKILLS`. It may be filled while the container runs."""
        return self.runtime / "skills"

    @property
    def egress(self) -> Path:
        """What the container sees, read-only, as `rootfs.EGRESS`: the egress proxy's socket and certificates."""
        return self.runtime / "egress"

    @property
    def terminals(self) -> Path:
        """Where a devpts of the container's own is mounted, if its launcher cannot do that itself."""
        return self.runtime / "pts"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of an installation."""

    data: Path
    runtime: Path
    installation: str

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    @property
    def running(self) -> Path:
        return self.runtime / "containers"

    @property
    def skeleton(self) -> Path:
        """The empty root of containers that have the host's programs, for launchers that need one; bound to itself."""
        return self.runtime / "root"

    @property
    def snapshots(self) -> Path:
        return self.data / "snapshots"

    @property
    def templates(self) -> Path:
        return self.data / "templates"

    @property
    def skills(self) -> Path:
        """Unpacked skills by digest, on the file system of every `Place.skills`."""
        return self.runtime / "skills"

    @property
    def python(self) -> Path:
        """A template of a container's folders, for interpreters that are made in advance."""
        return self.runtime / "python"

    @property
    def shared(self) -> Path:
        """What every container sees, read-only."""
        return self.runtime / "shared"

    def place(self, container_id: str) -> Place:
        """Raises `SandboxGone` for something that can not be the id of a container."""
        if not CONTAINER_ID.fullmatch(container_id):
            raise SandboxGone(f"{container_id!r} is not the id of a container")
        return Place(self.containers / container_id, self.running / container_id)


def root_uid(uid: int) -> int:
    """The second host user of a container: what an OCI runtime sets it up as, and gVisor runs as."""
    return uid ^ 1


def layout(root: Path, *, as_root: bool) -> Layout:
    """Lay an installation out. Its identity is the path of `root`: a restarted server on it is the same one."""
    resolved = root.resolve()
    installation = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:12]
    runtime = RUNTIME_PARENT / installation if as_root else resolved / "run"
    return Layout(resolved, runtime, installation)


def load(place: Place) -> Record | None:
    """Read a container's record; None if there is none (a torn one cannot be: records are renamed into place)."""
    try:
        raw = json.loads(place.record.read_bytes())
    except FileNotFoundError:
        return None
    group, init = raw["group"], raw["init"]
    return Record(
        container_id=raw["container_id"],
        uid=raw["uid"],
        disk=raw["disk"],
        limits=Limits(**raw["limits"]),
        ready=raw["ready"],
        disk_uid=raw.get("disk_uid"),
        snapshot=raw.get("snapshot", ""),
        mark=raw.get("mark", ""),
        replacing=raw.get("replacing", False),
        warm=raw.get("warm", False),
        engine=raw.get("engine", ""),
        group=Group(group["version"], group["directories"]) if group else None,
        init=Identity(**init) if init else None,
    )


def save(place: Place, record: Record) -> None:
    """Write a container's record, all or nothing."""
    raw = {
        "container_id": record.container_id,
        "uid": record.uid,
        "disk": record.disk,
        "limits": {name: getattr(record.limits, name) for name in Limits.__slots__},
        "ready": record.ready,
        "disk_uid": record.disk_uid,
        "snapshot": record.snapshot,
        "mark": record.mark,
        "replacing": record.replacing,
        "warm": record.warm,
        "engine": record.engine,
        "group": record.group and {"version": record.group.version, "directories": dict(record.group.directories)},
        "init": record.init and {"pid": record.init.pid, "started": record.init.started, "boot": record.init.boot},
    }
    draft = place.record.with_suffix(f".{secrets.token_hex(4)}")  # not one for all, which two could write at once
    draft.write_text(json.dumps(raw))
    draft.rename(place.record)
