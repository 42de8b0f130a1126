"""Where concrete classes are chosen and put together. Nothing else builds them."""

import fcntl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from .api.app import build_app
from .api.auth import Keys
from .api.containers import ContainersApi
from .api.contexts import ContextsApi
from .api.conversations import ConversationsApi
from .api.egress import EgressApi
from .api.exec import ExecApi
from .api.files import FilesApi
from .api.forward import Forwarding
from .api.health import HealthApi
from .api.models import ModelsApi
from .api.responses import ResponsesApi
from .api.skills import SkillsApi
from .api.snapshots import SnapshotsApi
from .api.terminal import TerminalApi
from .api.webhooks import WebhooksApi
from .api.websocket import Connections, SocketLimits, WebSocketApi
from .core.errors import DeskhandError
from .egress.authority import Authority
from .egress.bounds import Bounds
from .egress.dialer import Dialer, client_trust
from .egress.files import keep_private
from .egress.hosts import BadHost, normalise
from .egress.journal import Journal
from .egress.policy import parse_ceiling
from .egress.post import Poster
from .egress.proxy import Proxy
from .egress.sealing import load_sealer
from .engine.admission import Admission
from .engine.attachments import Attachments
from .engine.auto_snapshots import AutoSnapshots
from .engine.background import beside
from .engine.background_runs import BackgroundRuns
from .engine.compaction import Compactions
from .engine.container_files import ContainerFiles
from .engine.container_order import ContainerPolicy
from .engine.containers import Containers
from .engine.contexts import Contexts
from .engine.continuation import Continuations
from .engine.conversations import Conversations
from .engine.curated_skills import read_curated
from .engine.deliveries import Deliveries
from .engine.egress import Egress, EgressPolicy
from .engine.feeds import Feeds
from .engine.files import Files
from .engine.forks import Forks
from .engine.hosts import Hosts
from .engine.idempotency import Idempotency
from .engine.ids import new_id
from .engine.placement import Placement
from .engine.retention import Retention
from .engine.run import Ceilings
from .engine.signing import Signing
from .engine.skills import Skills
from .engine.snapshots import SnapshotPolicy, Snapshots
from .engine.storage_health import StorageHealth
from .engine.supervisor import Supervisor
from .engine.tokens import TokenScale
from .engine.watch import Watch
from .engine.webhooks import Webhooks
from .keys import Keyring
from .models.registry import Models
from .ports.runs import Seat
from .ports.sandbox import STRENGTH, EngineReport, Level, Limits, SandboxEngine
from .ports.wakeups import Wakeups
from .sandboxes.registry import build
from .settings import Settings
from .store.blobs import DiskBlobs
from .store.containers import SqlContainers
from .store.conversations import SqlConversations
from .store.database import Database
from .store.deliveries import SqlDeliveries
from .store.egress import SqlEgress
from .store.files import SqlFiles
from .store.idempotency import SqlIdempotency
from .store.memory import Discard, EndingLog, MemoryLog
from .store.probe import SqlProbe
from .store.responses import SqlResponses
from .store.retention import SqlRetention
from .store.runs import SqlRuns
from .store.skills import SqlSkills
from .store.snapshots import SqlSnapshots
from .store.sqlite import SqliteDatabase
from .store.wakeups import LocalWakeups
from .store.webhooks import SqlWebhooks
from .tools.commands import CommandLimits


class DataDirectoryInUse(DeskhandError):
    """Another server keeps its things here. Two would end each other's runs."""


class IsolationTooWeak(DeskhandError):
    """An engine isolates less than the operator's minimum. Nothing is downgraded in silence."""


class MissingPackage(DeskhandError):
    """A setting needs a package that is not installed with Deskhand by itself."""


class BadNetworkSetting(DeskhandError):
    """A setting of the network cannot be used."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server's parts that the command line talks about."""

    app: ASGIApp
    supervisor: Supervisor
    report: EngineReport
    models: Sequence[str]
    max_message_bytes: int
    farewell: Callable[[], Awaitable[None]]
    """Tells clients that stay connected to go, and waits until they have."""


@asynccontextmanager
async def application(settings: Settings, keyring: Keyring) -> AsyncIterator[Served]:
    """The whole server but its socket. Raises `DataDirectoryInUse`, `StoreUnavailable`."""
    data = settings.data_dir
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(data))
        engine = _engine(settings)
        report = await engine.probe()
        require_isolation(report, settings.min_isolation)
        database, wakeups = await stack.enter_async_context(_database(settings))
        upstreams = await stack.enter_async_context(Models(settings))
        seat = Seat(new_id("process"), _host(data), settings.advertise_url or "")
        runs = SqlRuns(database)
        responses, container_store = SqlResponses(database), SqlContainers(database, seat.host)
        blobs = DiskBlobs(data / "blobs")
        files = Files(SqlFiles(database), blobs, settings.max_file_bytes)
        skill_blobs = DiskBlobs(data / "skills")
        skills = Skills(SqlSkills(database), skill_blobs, read_curated())
        snapshots = Snapshots(SqlSnapshots(database), engine, _snapshot_policy(settings))
        egress = _egress(settings, SqlEgress(database), engine)
        containers = Containers(
            container_store,
            engine,
            report,
            _policy(settings),
            snapshots,
            skills=skill_blobs.open,
            egress=egress,
            hosts=Hosts(seat.host, runs),
        )
        auto_snapshots = AutoSnapshots(containers, snapshots)
        forks = Forks(containers, snapshots, auto_snapshots, container_store, responses)
        container_files = ContainerFiles(containers, container_store, files)
        ended = auto_snapshots.ended if settings.auto_snapshots else None
        supervisor = Supervisor(seat.process, responses, Discard(), settings.max_concurrent_runs, ended)
        attachments = Attachments(files, container_files)
        compactions, scale = Compactions(load_sealer(settings.secret_key, data)), TokenScale()
        conversation_store = SqlConversations(database)
        continuations = Continuations(responses, conversation_store)
        conversations = Conversations(conversation_store, continuations, attachments)
        admission = Admission(
            continuations,
            upstreams,
            containers,
            Placement(containers, files, container_files, skills, egress),
            attachments,
            container_files,
            _command_limits(settings),
            _ceilings(settings),
            compactions,
            scale,
        )
        contexts = Contexts(
            admission,
            upstreams,
            attachments,
            compactions,
            scale,
            _command_limits(settings),
            settings.max_concurrent_runs,
            settings.max_run_seconds,
        )
        feeds = Feeds(runs, wakeups)
        background = BackgroundRuns(
            seat.process,
            supervisor,
            admission,
            responses,
            runs,
            feeds,
            wakeups,
            EndingLog,
            settings.max_background_runs,
        )
        watch = Watch(seat, runs, background, supervisor, wakeups, containers.let_go)
        forwarding = await stack.enter_async_context(Forwarding.open())
        retention = Retention(SqlRetention(database), settings.response_retention_days)
        idempotency = Idempotency(SqlIdempotency(database), responses, load_sealer(settings.secret_key, data))
        storage = StorageHealth(SqlProbe(database), blobs)
        outbox, signing = SqlDeliveries(database), Signing(load_sealer(settings.secret_key, data))
        private_hosts = _private_hosts(settings)
        deliveries = Deliveries(outbox, signing, Poster(Dialer(client_trust(), private_hosts)))
        webhooks = Webhooks(SqlWebhooks(database), outbox, deliveries, signing, private_hosts)
        await stack.enter_async_context(snapshots.serving())
        await stack.enter_async_context(egress.serving())
        await stack.enter_async_context(containers.serving())
        await stack.enter_async_context(auto_snapshots.serving())
        await stack.enter_async_context(beside(files.expire_forever()))
        await stack.enter_async_context(beside(skills.collect_forever()))
        await stack.enter_async_context(beside(conversations.collect_forever()))
        await stack.enter_async_context(deliveries.serving())
        await stack.enter_async_context(retention.serving())
        await stack.enter_async_context(idempotency.serving())
        await stack.enter_async_context(storage.serving())
        if report.usable:
            await stack.enter_async_context(beside(engine.keep_python_warm()))
        if settings.warm_containers and report.usable:
            await stack.enter_async_context(beside(engine.keep_warm(settings.warm_containers)))
        await stack.enter_async_context(supervisor.serving())
        await stack.enter_async_context(watch.keeping())
        routes = [
            *ResponsesApi(
                admission,
                supervisor,
                background,
                responses,
                runs,
                feeds,
                MemoryLog,
                EndingLog,
                settings.max_body_bytes,
            ).routes(),
            *ContextsApi(contexts, settings.max_body_bytes).routes(),
            *ConversationsApi(conversations, settings.max_body_bytes).routes(),
            *ContainersApi(containers, container_files, files, skills, egress, forks, settings.max_body_bytes).routes(),
            *EgressApi(containers, egress, settings.max_body_bytes).routes(),
            *ExecApi(containers, _command_limits(settings), settings.max_body_bytes).routes(),
            *SnapshotsApi(forks, snapshots, settings.max_body_bytes).routes(),
            *FilesApi(files).routes(),
            *WebhooksApi(webhooks).routes(),
            *SkillsApi(skills).routes(),
            *ModelsApi(upstreams, int(time.time())).routes(),
            *HealthApi(containers, supervisor, storage).routes(),
        ]
        connections = Connections(settings.max_websockets)
        socket_limits = SocketLimits(settings.websocket_seconds, settings.max_body_bytes)
        sockets = [
            *WebSocketApi(admission, supervisor, MemoryLog, socket_limits, connections).routes(),
            *TerminalApi(containers).routes(),
        ]
        yield Served(
            build_app(routes, sockets, Keys(keyring.keys), idempotency, forwarding, _largest_body(settings)),
            supervisor,
            report,
            await upstreams.names(),
            settings.max_body_bytes,
            connections.farewell,
        )


async def end_containers(settings: Settings) -> None:
    """End every container of an installation that nobody serves any more. They outlive their server by design."""
    await _engine(settings).sweep(())


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
    try:
        from .store.postgres import PostgresDatabase
        from .store.postgres_wakeups import PostgresWakeups
    except ModuleNotFoundError as exc:
        raise MissingPackage(f"DESKHAND_DATABASE_URL needs {exc.name}: pip install 'deskhand[postgres]'") from exc
    async with PostgresDatabase.open(settings.database_url) as postgres:
        async with PostgresWakeups(settings.database_url).serving() as wakeups:
            yield postgres, wakeups


def _largest_body(settings: Settings) -> int:
    """The largest request body of any kind: a form has a file and some fields."""
    return max(settings.max_body_bytes, settings.max_file_bytes + (1 << 20))


def _host(data_dir: Path) -> str:
    """The name of this installation, made at its first start: no two processes share a data directory."""
    return keep_private(data_dir / "host_id", lambda: new_id("host").encode()).decode().strip()


def _private_hosts(settings: Settings) -> frozenset[str]:
    """Hosts with private addresses that may be called. Raises `BadNetworkSetting`."""
    try:
        return frozenset(normalise(host) for host in settings.allow_private_hosts)
    except BadHost as exc:
        raise BadNetworkSetting(f"allow_private_hosts: {exc}") from None


def _egress(settings: Settings, store: SqlEgress, engine: SandboxEngine) -> Egress:
    """The containers' ways out. Raises `BadNetworkSetting`."""
    try:
        ceiling = parse_ceiling(settings.network_allowed_domains, settings.network_mirrors)
        pinned = {normalise(host): normalise(address) for host, address in settings.network_hosts.items()}
    except BadHost as exc:
        raise BadNetworkSetting(f"network_allowed_domains, network_mirrors, network_hosts: {exc}") from None
    proxy = Proxy(
        Authority.kept(settings.data_dir),
        Dialer(client_trust(), _private_hosts(settings), pinned),
        Journal(store),
        new_id,
        Bounds(container_bytes=settings.network_max_bytes),
    )
    sealer = load_sealer(settings.secret_key, settings.data_dir)
    return Egress(store, engine, proxy, sealer, EgressPolicy(ceiling, settings.network_record_days))


def _engine(settings: Settings) -> SandboxEngine:
    data = settings.data_dir
    names = (settings.engine, *settings.more_engines)
    return build(names, data / "sandboxes", settings.container_image, data / "images")


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


def _snapshot_policy(settings: Settings) -> SnapshotPolicy:
    return SnapshotPolicy(
        settings.snapshots_per_container, settings.snapshot_retention_days, settings.snapshot_max_bytes
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
