"""Where concrete classes are chosen and put together. Nothing else builds them."""

import fcntl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from .api.app import build_app
from .api.auth import Keys
from .api.containers import ContainersApi
from .api.files import FilesApi
from .api.health import HealthApi
from .api.models import ModelsApi
from .api.responses import ResponsesApi
from .core.errors import DeskhandError
from .engine.admission import Admission
from .engine.attachments import Attachments
from .engine.background import beside
from .engine.container_files import ContainerFiles
from .engine.containers import ContainerPolicy, Containers
from .engine.files import Files
from .engine.placement import Placement
from .engine.run import Ceilings
from .engine.supervisor import Supervisor
from .keys import Keyring
from .models.registry import Models
from .ports.sandbox import EngineReport, Limits
from .sandboxes.registry import ENGINES
from .settings import Settings
from .store.blobs import DiskBlobs
from .store.containers import SqlContainers
from .store.database import Database
from .store.files import SqlFiles
from .store.memory import Discard, EndingLog, MemoryLog
from .store.responses import SqlResponses
from .tools.commands import CommandLimits


class DataDirectoryInUse(DeskhandError):
    """Another server keeps its things here. Two would end each other's runs."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server's parts that the command line talks about."""

    app: ASGIApp
    supervisor: Supervisor
    report: EngineReport
    models: Sequence[str]


@asynccontextmanager
async def application(settings: Settings, keyring: Keyring) -> AsyncIterator[Served]:
    """The whole server but its socket. Raises `DataDirectoryInUse`, `StoreUnavailable`."""
    data = settings.data_dir
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(data))
        engine = ENGINES[settings.engine](data / "sandboxes")
        report = await engine.probe()
        database = await stack.enter_async_context(Database.open(data / "deskhand.sqlite"))
        upstreams = await stack.enter_async_context(Models(settings))
        responses, container_store = SqlResponses(database), SqlContainers(database)
        files = Files(SqlFiles(database), DiskBlobs(data / "blobs"), settings.max_file_bytes)
        containers = Containers(container_store, engine, report, _policy(settings))
        container_files = ContainerFiles(containers, container_store, files)
        supervisor = Supervisor(responses, Discard(), settings.max_concurrent_runs)
        admission = Admission(
            responses,
            upstreams,
            containers,
            Placement(containers, files, container_files),
            Attachments(files, container_files),
            _command_limits(settings),
            _ceilings(settings),
        )
        await stack.enter_async_context(containers.serving())
        await stack.enter_async_context(beside(files.expire_forever()))
        await stack.enter_async_context(supervisor.serving())
        routes = [
            *ResponsesApi(admission, supervisor, responses, MemoryLog, EndingLog, settings.max_body_bytes).routes(),
            *ContainersApi(containers, container_files, files, settings.max_body_bytes).routes(),
            *FilesApi(files).routes(),
            *ModelsApi(upstreams, int(time.time())).routes(),
            *HealthApi(containers, supervisor).routes(),
        ]
        yield Served(build_app(routes, Keys(keyring.keys)), supervisor, report, await upstreams.names())


async def end_containers(settings: Settings) -> None:
    """End every container of an installation that nobody serves any more. They outlive their server by design."""
    await ENGINES[settings.engine](settings.data_dir / "sandboxes").sweep(())


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


def _policy(settings: Settings) -> ContainerPolicy:
    limits = Limits(
        pids=settings.container_pids,
        cpus=settings.container_cpus,
        disk_bytes=settings.container_disk_bytes,
        disk_inodes=settings.container_disk_inodes,
    )
    return ContainerPolicy(
        settings.container_idle_minutes,
        settings.container_max_memory,
        settings.max_live_containers,
        settings.container_on_expired,
        limits,
    )


def _command_limits(settings: Settings) -> CommandLimits:
    return CommandLimits(
        timeout_s=settings.command_timeout_seconds,
        max_timeout_s=settings.command_max_timeout_seconds,
        output_characters=settings.command_output_characters,
        max_output_characters=settings.command_max_output_characters,
    )


def _ceilings(settings: Settings) -> Ceilings:
    return Ceilings(settings.max_turns, settings.max_run_seconds, settings.max_run_tokens)
