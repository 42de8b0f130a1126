"""Content of skills stays as long as something needs it, and no longer; containers get it, and live without it."""

import base64
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deskhand.engine.container_order import ContainerPolicy, Order
from deskhand.engine.container_skills import dumped, parsed
from deskhand.engine.containers import Containers
from deskhand.engine.curated_skills import read_curated
from deskhand.engine.skill_bundle import SkillBundle, read_archive
from deskhand.engine.skills import UNUSED_SECONDS, Skills
from deskhand.engine.snapshots import SnapshotPolicy, Snapshots
from deskhand.ports.sandbox import Command, Limits, Output
from deskhand.ports.store import SnapshotRecord
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.store.blobs import DiskBlobs
from deskhand.store.containers import SqlContainers
from deskhand.store.skills import SqlSkills
from deskhand.store.snapshots import SqlSnapshots
from deskhand.store.sqlite import SqliteDatabase
from deskhand.testing.conformance_records import container_record
from deskhand.wire.skills import InlineSkill, InlineSource, SkillReference

from ..sandbox.conftest import needs_bwrap

pytestmark = pytest.mark.anyio

OWNER = "proj"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Room:
    """Skills over real stores."""

    root: Path
    clock: Clock
    skills: Skills
    store: SqlSkills
    containers: SqlContainers
    snapshots: SqlSnapshots
    blobs: DiskBlobs

    def stored(self) -> int:
        """How many contents are on disk."""
        return sum(path.is_file() for path in (self.root / "skills").rglob("*"))

    async def collected_later(self) -> int:
        self.clock.now += UNUSED_SECONDS + 1
        await self.skills.collect()
        return self.stored()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = Clock()
    async with SqliteDatabase.open(tmp_path / "db.sqlite") as database:
        store, blobs = SqlSkills(database), DiskBlobs(tmp_path / "skills")
        skills = Skills(store, blobs, read_curated(), clock)
        yield Room(tmp_path, clock, skills, store, SqlContainers(database), SqlSnapshots(database), blobs)


def zipped(text: str = "body") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("s/SKILL.md", f"---\nname: seen\ndescription: d\n---\n{text}")
    return packed.getvalue()


def bundle(text: str = "body") -> SkillBundle:
    return read_archive(zipped(text))


async def test_content_goes_with_the_last_version_that_has_it(room: Room) -> None:
    one = await room.skills.create(OWNER, bundle())
    two = await room.skills.create(OWNER, bundle())
    await room.skills.add_version(OWNER, two.id, bundle("other"), default=True)
    assert room.stored() == 2
    await room.skills.delete(OWNER, one.id)
    assert await room.collected_later() == 2
    await room.skills.delete_version(OWNER, two.id, "1")
    await room.skills.collect()
    assert room.stored() == 1, "content of deleted versions has waited long enough already"
    await room.skills.delete(OWNER, two.id)
    assert await room.collected_later() == 0


async def test_content_that_was_stored_and_never_named_goes(room: Room) -> None:
    source = InlineSource(type="base64", media_type="application/zip", data=base64.b64encode(zipped()).decode())
    await room.skills.resolve(OWNER, [InlineSkill(name="seen", description="d", source=source)], "skills")
    await room.skills.collect()
    assert room.stored() == 1, "its container may be about to be stored"
    assert await room.collected_later() == 0


async def test_content_stays_while_a_container_may_need_it(room: Room) -> None:
    asked = [SkillReference(skill_id="deskhand-charts")]
    record = container_record(OWNER)
    await room.containers.add(replace(record, skills=dumped(await room.skills.resolve(OWNER, asked, "skills"))))
    assert await room.collected_later() == 1
    snapshot = SnapshotRecord("csnap_1", OWNER, record.id, "", automatic=False, created_at=1, bytes=1)
    await room.snapshots.add(snapshot)
    await room.containers.set_state(record.id, "expired")
    assert await room.collected_later() == 1, "it can be restored from its snapshot"
    await room.snapshots.delete(OWNER, snapshot.id)
    assert await room.collected_later() == 0


@asynccontextmanager
async def computers(room: Room) -> AsyncIterator[Containers]:
    engine = BubblewrapEngine(room.root / "sandboxes")
    policy = ContainerPolicy(limits=Limits(disk_bytes=64 << 20, disk_inodes=1000))
    snapshots = Snapshots(room.snapshots, engine, SnapshotPolicy(), room.clock)
    report = await engine.probe()
    containers = Containers(room.containers, engine, report, policy, snapshots, room.clock, skills=room.blobs.open)
    async with containers.serving():
        yield containers
        for record in await room.containers.live():
            await containers.delete(record.owner, record.id)
    await engine.sweep(())


async def printed(containers: Containers, container_id: str, command: str) -> str:
    sandbox = await containers.sandbox(OWNER, container_id)
    events = [event async for event in sandbox.exec(Command(("sh", "-c", command), 30, 1000, 1000))]
    return b"".join(event.data for event in events if isinstance(event, Output)).decode()


@needs_bwrap
async def test_a_container_lives_without_a_skill_whose_content_is_lost(room: Room) -> None:
    lost = await room.skills.create(OWNER, bundle("lost"))
    asked = [SkillReference(skill_id=lost.id), SkillReference(skill_id="deskhand-charts")]
    skills = await room.skills.resolve(OWNER, asked, "skills")
    await room.blobs.delete(skills[0].digest)
    async with computers(room) as containers:
        record = await containers.create(OWNER, Order(skills=dumped(skills)))
        assert await printed(containers, record.id, "ls /mnt/skills") == "charts-1\n"


@needs_bwrap
async def test_a_reserved_and_a_running_container_get_further_skills(room: Room) -> None:
    async with computers(room) as containers:
        record = await containers.reserve(OWNER, Order(), where="")
        for name in ("charts", "documents"):
            asked = [SkillReference(skill_id=f"deskhand-{name}")]
            await containers.equip(OWNER, record.id, await room.skills.resolve(OWNER, asked, "skills"))
            assert f"{name}-1\n" in await printed(containers, record.id, "ls /mnt/skills")
        kept = await room.containers.get(OWNER, record.id)
        assert kept is not None
        assert [skill.folder for skill in parsed(kept.skills)] == ["charts-1", "documents-1"]
