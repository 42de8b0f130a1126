"""What a server stands on: its data directory, database, bytes, isolation engine and upstreams."""

import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DeskhandError
from ..documents.apart import ApartDocuments
from ..egress.files import keep_private
from ..egress.sealing import Sealer, load_sealer
from ..engine.ids import new_id
from ..models.registry import Models
from ..ports.documents import Documents
from ..ports.runs import Seat
from ..ports.sandbox import STRENGTH, EngineReport, Level, SandboxEngine
from ..ports.store import BlobStore
from ..ports.wakeups import Wakeups
from ..sandboxes.registry import build
from ..settings import Settings, needed_for
from ..store.blobs import DiskBlobs
from ..store.database import Database
from ..store.sqlite import SqliteDatabase
from ..store.wakeups import LocalWakeups
from .embeddings import local_embedders


class DataDirectoryInUse(DeskhandError):
    """Another server keeps its things here. Two would end each other's runs."""


class IsolationTooWeak(DeskhandError):
    """An engine isolates less than the operator's minimum. Nothing is downgraded in silence."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What everything else is built on. `seat` is the place of this process among those of its database."""

    settings: Settings
    engine: SandboxEngine
    report: EngineReport
    database: Database
    wakeups: Wakeups
    files: BlobStore
    skills: BlobStore
    upstreams: Models
    sealer: Sealer
    seat: Seat
    documents: Documents


@asynccontextmanager
async def backing(settings: Settings) -> AsyncIterator[Backing]:
    """Open all of it, until the block ends. Raises `DeskhandError` for what is missing or in the way."""
    with locked(settings.data_dir):
        engine = isolation(settings)
        report = await engine.probe()
        require_isolation(report, settings.min_isolation)
        async with (
            _database(settings) as (database, wakeups),
            local_embedders(settings) as local,
            Models(settings, local) as upstreams,
        ):
            files, skills = _blobs(settings)
            sealer = load_sealer(settings.secret_key, settings.data_dir)
            seat = Seat(new_id("process"), _host(settings.data_dir), settings.advertise_url)
            documents = ApartDocuments()
            yield Backing(
                settings, engine, report, database, wakeups, files, skills, upstreams, sealer, seat, documents
            )


def isolation(settings: Settings) -> SandboxEngine:
    """The engine that settings choose."""
    data = settings.data_dir
    names = (settings.engine, *settings.more_engines)
    return build(names, data / "sandboxes", settings.container_image, data / "images")


def require_isolation(report: EngineReport, least: Level) -> None:
    """Raise `IsolationTooWeak` if an engine that would be used isolates less than the operator wants."""
    for found in (report, *report.others):
        if found.usable and found.level not in STRENGTH[STRENGTH.index(least) :]:
            raise IsolationTooWeak(
                f"min_isolation is {least!r}, and the engine {found.engine!r} isolates at level {found.level!r}. "
                "Choose a stronger engine (DESKHAND_ENGINE, DESKHAND_MORE_ENGINES) or lower DESKHAND_MIN_ISOLATION."
            )


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process, made if it is missing. Raises `DataDirectoryInUse`."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUse(
                f"Another Deskhand server is using {str(data_dir)!r}. Stop it, or give this one its own --data-dir."
            ) from None
        yield


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[tuple[Database, Wakeups]]:
    """The database, and what wakes the other processes that use it. Raises `StoreUnavailable`, `MissingPackage`."""
    if settings.database_url is None:
        async with SqliteDatabase.open(settings.data_dir / "deskhand.sqlite") as sqlite:
            yield sqlite, LocalWakeups()
        return
    with needed_for("database_url", "postgres"):
        from ..store.postgres import PostgresDatabase
        from ..store.postgres_wakeups import PostgresWakeups
    async with PostgresDatabase.open(settings.database_url) as postgres:
        async with PostgresWakeups(settings.database_url).serving() as wakeups:
            yield postgres, wakeups


def _blobs(settings: Settings) -> tuple[BlobStore, BlobStore]:
    """Where the bytes of files are, and those of skills. Raises `StoreUnavailable`, `MissingPackage`."""
    files, skills = settings.data_dir / "blobs", settings.data_dir / "skills"
    if settings.blob_url is None:
        return DiskBlobs(files), DiskBlobs(skills)
    with needed_for("blob_url", "s3"):
        from ..store.s3_blobs import S3Blobs, S3Place, by_content, by_upload
    place = S3Place(
        settings.blob_url,
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key,
        settings.s3_secret_key,
    )
    return (
        S3Blobs(place, "files", files / "incoming", by_upload),
        S3Blobs(place, "skills", skills / "incoming", by_content),
    )


def _host(data_dir: Path) -> str:
    """The name of this installation, made at its first start: no two processes share a data directory."""
    return keep_private(data_dir / "host_id", lambda: new_id("host").encode()).decode().strip()
