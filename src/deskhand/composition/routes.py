"""What is served where."""

import time
from collections.abc import Sequence

from starlette.routing import Route, WebSocketRoute

from ..api.chat import ChatApi
from ..api.completions import CompletionsApi
from ..api.containers import ContainersApi
from ..api.contexts import ContextsApi
from ..api.conversations import ConversationsApi
from ..api.egress import EgressApi
from ..api.embeddings import EmbeddingsApi
from ..api.exec import ExecApi
from ..api.files import FilesApi
from ..api.forward import Forwarding
from ..api.health import HealthApi
from ..api.models import ModelsApi
from ..api.responses import ResponsesApi
from ..api.skills import SkillsApi
from ..api.snapshots import SnapshotsApi
from ..api.terminal import TerminalApi
from ..api.traces import TracesApi
from ..api.uploads import UploadsApi
from ..api.vector_stores import VectorStoresApi
from ..api.webhooks import WebhooksApi
from ..api.websocket import Connections, SocketLimits, WebSocketApi
from ..engine.embeddings import Embeddings
from ..engine.legacy_completions import LegacyCompletions
from ..store.memory import EndingLog, MemoryLog
from .backing import Backing
from .policies import command_limits
from .rooms import Rooms


def routes(base: Backing, built: Rooms) -> Sequence[Route]:
    """Every resource that is served over HTTP."""
    computers, runs, keeping, settings = built.computers, built.runs, built.keeping, base.settings
    most = settings.max_body_bytes
    return [
        *ResponsesApi(
            runs.admission,
            runs.supervisor,
            runs.background,
            runs.responses,
            runs.runs,
            runs.feeds,
            MemoryLog,
            EndingLog,
            most,
        ).routes(),
        *ContextsApi(runs.contexts, most).routes(),
        *ConversationsApi(runs.conversations, most).routes(),
        *ContainersApi(
            computers.containers,
            computers.container_files,
            computers.files,
            computers.skills,
            computers.egress,
            computers.forks,
            most,
        ).routes(),
        *EgressApi(computers.containers, computers.egress, most).routes(),
        *ExecApi(computers.containers, command_limits(settings), most).routes(),
        *SnapshotsApi(computers.forks, computers.snapshots, most).routes(),
        *FilesApi(computers.files).routes(),
        *UploadsApi(computers.uploads).routes(),
        *VectorStoresApi(built.library.stores, built.library.searches, built.library.vectors, most).routes(),
        *WebhooksApi(keeping.webhooks).routes(),
        *TracesApi(keeping.traces).routes(),
        *SkillsApi(computers.skills).routes(),
        *ChatApi(runs.chats, runs.completions, most).routes(),
        *CompletionsApi(LegacyCompletions(runs.chats), most).routes(),
        *EmbeddingsApi(Embeddings(base.upstreams, runs.supervisor), most).routes(),
        *ModelsApi(base.upstreams, int(time.time())).routes(),
        *HealthApi(computers.containers, runs.supervisor, keeping.storage).routes(),
    ]


def sockets(base: Backing, built: Rooms, connections: Connections, forwarding: Forwarding) -> Sequence[WebSocketRoute]:
    """Every resource that is served over WebSockets."""
    runs = built.runs
    limits = SocketLimits(base.settings.websocket_seconds, base.settings.max_body_bytes)
    return [
        *WebSocketApi(runs.admission, runs.supervisor, MemoryLog, forwarding, limits, connections).routes(),
        *TerminalApi(built.computers.containers).routes(),
    ]
