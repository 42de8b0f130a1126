"""The rooms of the engine, put together: computers, runs, and what is kept and told beside them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ..egress.authority import Authority
from ..egress.bounds import Bounds
from ..egress.client import CheckedTransport
from ..egress.dialer import Dialer, client_trust
from ..egress.fetch import Fetcher
from ..egress.hosts import BadHost, normalise
from ..egress.journal import Journal
from ..egress.policy import parse_ceiling
from ..egress.post import Poster
from ..egress.proxy import Proxy
from ..engine.admission import Admission
from ..engine.attachments import Attachments
from ..engine.auto_snapshots import AutoSnapshots
from ..engine.background import beside
from ..engine.background_runs import BackgroundRuns
from ..engine.chat import Chats
from ..engine.compaction import Compactions
from ..engine.completions import StoredCompletions
from ..engine.container_files import ContainerFiles
from ..engine.containers import Containers
from ..engine.contexts import Contexts
from ..engine.continuation import Continuations
from ..engine.conversations import Conversations
from ..engine.curated_skills import read_curated
from ..engine.deliveries import Deliveries
from ..engine.egress import Egress, EgressPolicy
from ..engine.feeds import Feeds
from ..engine.files import Files
from ..engine.forks import Forks
from ..engine.hosts import Hosts
from ..engine.idempotency import Idempotency
from ..engine.ids import new_id
from ..engine.part_uploads import PartUploads
from ..engine.placement import Placement
from ..engine.readable_files import ReadableFiles
from ..engine.retention import Retention
from ..engine.signing import Signing
from ..engine.skills import Skills
from ..engine.slots import Slots
from ..engine.snapshots import Snapshots
from ..engine.storage_health import StorageHealth
from ..engine.supervisor import Supervisor
from ..engine.tokens import TokenScale
from ..engine.traces import Traces
from ..engine.watch import Watch
from ..engine.webhooks import Webhooks
from ..mcp_servers.connections import McpServers
from ..settings import Settings
from ..store.completions import SqlCompletions
from ..store.containers import SqlContainers
from ..store.conversations import SqlConversations
from ..store.deliveries import SqlDeliveries
from ..store.egress import SqlEgress
from ..store.files import SqlFiles
from ..store.idempotency import SqlIdempotency
from ..store.memory import Discard, EndingLog
from ..store.part_uploads import SqlUploads
from ..store.probe import SqlProbe
from ..store.responses import SqlResponses
from ..store.retention import SqlRetention
from ..store.runs import SqlRuns
from ..store.skills import SqlSkills
from ..store.snapshots import SqlSnapshots
from ..store.traces import SqlTraces
from ..store.webhooks import SqlWebhooks
from ..tools.grammars import LlGuidance
from ..wire.items import Item
from .backing import Backing
from .library import Library, library
from .policies import (
    BadNetworkSetting,
    ceilings,
    command_limits,
    container_policy,
    mcp_bounds,
    mcp_hosts,
    private_hosts,
    snapshot_policy,
)


@dataclass(frozen=True, slots=True)
class Computers:
    """Containers, and what goes into them and out of them."""

    files: Files
    uploads: PartUploads
    skills: Skills
    snapshots: Snapshots
    egress: Egress
    containers: Containers
    container_files: ContainerFiles
    auto_snapshots: AutoSnapshots
    forks: Forks


@dataclass(frozen=True, slots=True)
class Runs:
    """Responses, from a request to an ending, whoever waits for it."""

    responses: SqlResponses
    runs: SqlRuns
    feeds: Feeds
    conversations: Conversations
    admission: Admission
    contexts: Contexts
    supervisor: Supervisor
    background: BackgroundRuns
    watch: Watch
    chats: Chats
    completions: StoredCompletions


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept, told and forgotten beside the runs."""

    retention: Retention
    idempotency: Idempotency
    storage: StorageHealth
    deliveries: Deliveries
    webhooks: Webhooks
    traces: Traces


@dataclass(frozen=True, slots=True)
class Rooms:
    """The whole engine."""

    computers: Computers
    library: Library
    runs: Runs
    keeping: Keeping


def rooms(base: Backing) -> Rooms:
    """Put the engine together. Raises `BadNetworkSetting`."""
    responses, runs = SqlResponses(base.database), SqlRuns(base.database)
    computers = _computers(base, responses, runs)
    keeping, books = _keeping(base, responses), library(base, computers.files)
    return Rooms(computers, books, _runs(base, computers, books, keeping, responses, runs), keeping)


@asynccontextmanager
async def serving(base: Backing, built: Rooms) -> AsyncIterator[None]:
    """What the rooms do by themselves, until the block ends. Runs come last: they need all the others."""
    computers, runs, keeping = built.computers, built.runs, built.keeping
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(computers.snapshots.serving())
        await enter(computers.egress.serving())
        await enter(computers.containers.serving())
        await enter(computers.auto_snapshots.serving())
        await enter(beside(computers.files.expire_forever()))
        await enter(beside(computers.uploads.expire_forever()))
        await enter(beside(computers.skills.collect_forever()))
        await enter(beside(runs.conversations.collect_forever()))
        await enter(beside(runs.completions.expire_forever()))
        await enter(keeping.deliveries.serving())
        await enter(keeping.retention.serving())
        await enter(keeping.idempotency.serving())
        await enter(keeping.storage.serving())
        if base.report.usable:
            await enter(beside(base.engine.keep_fair()))
            await enter(beside(base.engine.keep_python_warm()))
        if base.settings.warm_containers and base.report.usable:
            await enter(beside(base.engine.keep_warm(base.settings.warm_containers)))
        await enter(built.library.indexing.serving())
        await enter(built.library.late_vectors.serving())
        await enter(runs.supervisor.serving())
        await enter(runs.watch.keeping())
        yield


def _computers(base: Backing, responses: SqlResponses, runs: SqlRuns) -> Computers:
    settings, database = base.settings, base.database
    store = SqlContainers(database, base.seat.host)
    files = Files(SqlFiles(database), base.files, settings.max_file_bytes)
    uploads = PartUploads(SqlUploads(database), files, settings.max_upload_bytes)
    skills = Skills(SqlSkills(database), base.skills, read_curated())
    snapshots = Snapshots(SqlSnapshots(database), base.engine, snapshot_policy(settings))
    egress = _egress(base, SqlEgress(database))
    containers = Containers(
        store,
        base.engine,
        base.report,
        container_policy(settings),
        snapshots,
        skills=base.skills.open,
        egress=egress,
        hosts=Hosts(base.seat.host, runs),
    )
    auto_snapshots = AutoSnapshots(containers, snapshots)
    forks = Forks(containers, snapshots, auto_snapshots, store, responses)
    container_files = ContainerFiles(containers, store, files)
    return Computers(files, uploads, skills, snapshots, egress, containers, container_files, auto_snapshots, forks)


def _runs(
    base: Backing, computers: Computers, books: Library, keeping: Keeping, responses: SqlResponses, runs: SqlRuns
) -> Runs:
    settings, containers = base.settings, computers.containers

    def ended(owner: str, response_id: str, output: Sequence[Item]) -> None:
        if settings.auto_snapshots:
            computers.auto_snapshots.ended(owner, response_id, output)
        keeping.deliveries.wake()

    fetcher = Fetcher(Dialer(client_trust(), private_hosts(settings)))
    readable = ReadableFiles(base.documents, settings.document_pictures)
    attachments = Attachments(computers.files, computers.container_files, fetcher, readable)
    compactions, scale = Compactions(base.sealer), TokenScale()
    conversation_store = SqlConversations(base.database)
    continuations = Continuations(responses, conversation_store)
    conversations = Conversations(conversation_store, continuations, attachments)
    supervisor = Supervisor(base.seat.process, responses, Discard(), settings.max_concurrent_runs, ended)
    admission = Admission(
        continuations,
        base.upstreams,
        containers,
        Placement(containers, computers.files, computers.container_files, computers.skills, computers.egress),
        attachments,
        computers.container_files,
        command_limits(settings),
        ceilings(settings),
        compactions,
        scale,
        base.sealer,
        LlGuidance(),
        books.searches,
        _mcp_servers(settings),
        mcp_hosts(settings),
    )
    contexts = Contexts(
        admission,
        base.upstreams,
        attachments,
        compactions,
        scale,
        command_limits(settings),
        Slots(settings.max_concurrent_runs, "compactions"),
        settings.max_run_seconds,
    )
    feeds = Feeds(runs, base.wakeups)
    background = BackgroundRuns(
        base.seat.process,
        supervisor,
        admission,
        responses,
        runs,
        feeds,
        base.wakeups,
        EndingLog,
        settings.max_background_runs,
        settings.max_queued_runs,
    )
    watch = Watch(base.seat, runs, background, supervisor, base.wakeups, containers.let_go)
    completions = StoredCompletions(SqlCompletions(base.database), settings.response_retention_days)
    chats = Chats(base.upstreams, supervisor, computers.files, completions, settings.max_run_seconds)
    return Runs(
        responses,
        runs,
        feeds,
        conversations,
        admission,
        contexts,
        supervisor,
        background,
        watch,
        chats,
        completions,
    )


def _keeping(base: Backing, responses: SqlResponses) -> Keeping:
    settings, database = base.settings, base.database
    private = private_hosts(settings)
    outbox, signing = SqlDeliveries(database), Signing(base.sealer)
    deliveries = Deliveries(outbox, signing, Poster(Dialer(client_trust(), private)))
    return Keeping(
        Retention(SqlRetention(database), settings.response_retention_days),
        Idempotency(SqlIdempotency(database), responses, base.sealer),
        StorageHealth(SqlProbe(database), base.files),
        deliveries,
        Webhooks(SqlWebhooks(database), outbox, deliveries, signing, private),
        Traces(SqlTraces(database)),
    )


def _mcp_servers(settings: Settings) -> McpServers:
    dialer = Dialer(client_trust(), private_hosts(settings))
    return McpServers(lambda most_bytes: CheckedTransport(dialer, most_bytes), mcp_bounds(settings))


def _egress(base: Backing, store: SqlEgress) -> Egress:
    """The containers' ways out. Raises `BadNetworkSetting`."""
    settings = base.settings
    try:
        ceiling = parse_ceiling(settings.network_allowed_domains, settings.network_mirrors)
        pinned = {normalise(host): normalise(address) for host, address in settings.network_hosts.items()}
    except BadHost as exc:
        raise BadNetworkSetting(f"network_allowed_domains, network_mirrors, network_hosts: {exc}") from None
    proxy = Proxy(
        Authority.kept(settings.data_dir),
        Dialer(client_trust(), private_hosts(settings), pinned),
        Journal(store),
        new_id,
        Bounds(container_bytes=settings.network_max_bytes),
    )
    return Egress(store, base.engine, proxy, base.sealer, EgressPolicy(ceiling, settings.network_record_days))
