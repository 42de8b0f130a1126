"""From the names that clients ask for to the upstreams that serve them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Final

import structlog

from ..core.errors import ApiError, UpstreamError
from ..ports.chat import Embedder
from ..ports.model import Model
from ..ports.upstreams import Resolved
from ..settings import Settings, Upstream
from .chat import ChatModel
from .chat_relay import ChatRelay
from .demo import DemoModel
from .embeddings import UpstreamEmbedder
from .http import RETRIES, Endpoint, Retries
from .responses import ResponsesModel

log = structlog.get_logger()

DEMO: Final = "demo"
LIST_TIMEOUT_S: Final = 2.0
LIST_KEPT_S: Final = 60.0
MOST_LISTED: Final = 1000
NO_LOCAL: Final[Mapping[str, Embedder]] = {}


@dataclass(slots=True)
class _Served:
    upstream: Upstream
    endpoint: Endpoint
    model: Model
    chat: ChatRelay | None
    embedder: UpstreamEmbedder
    listed: Sequence[str] = ()
    listed_at: float | None = None


class Models:
    """The `Upstreams` of a server. As an async context manager it closes their connections at the end.

    Without an upstream the built-in `demo` model serves the name `demo`. `local` are embedders of this process, by the
    names that they have to clients. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        local: Mapping[str, Embedder] = NO_LOCAL,
        *,
        retries: Retries = RETRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self._aliases: Mapping[str, str] = settings.model_aliases
        self._clock = clock
        self._served = [_serve(upstream, retries) for upstream in settings.all_upstreams()]
        self._demo = None if self._served else DemoModel()
        self._listing = asyncio.Lock()

    async def __aenter__(self) -> "Models":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for served in self._served:
            await served.endpoint.aclose()

    async def resolve(self, name: str) -> Resolved:
        """The upstream that serves `name`, by its alias if it has one.

        The alias `*` stands for every name that neither is an alias nor is written out among an upstream's names.
        Raises `ApiError` (404, `model_not_found`).
        """
        found = self._find(self._aliases.get(name) or self._written_out(name) or self._aliases.get("*") or name)
        if found is not None:
            return found
        served = ", ".join(await self.names()) or "nothing"
        message = f"The model '{name}' does not exist or is not served here. Served: {served}."
        raise ApiError(message, status=404, code="model_not_found", param="model")

    async def names(self) -> Sequence[str]:
        """Every name known to be served: aliases, names without `*` of the upstreams, and what they list themselves."""
        names = [alias for alias in self._aliases if "*" not in alias]
        if self._demo is not None:
            names.append(DEMO)
        names += self._local
        for served, listed in zip(self._served, await self._all_listed(), strict=True):
            names += [pattern for pattern in served.upstream.models if not _is_pattern(pattern)]
            names += [name for name in listed if _matches(name, served.upstream)]
        return list(dict.fromkeys(names))

    def _written_out(self, name: str) -> str | None:
        if name in self._local:
            return name
        if self._demo is not None:
            return name if name == DEMO else None
        return name if any(name in served.upstream.models for served in self._served) else None

    def _find(self, name: str) -> Resolved | None:
        if name in self._local:
            return Resolved(None, name, embedder=self._local[name])
        if self._demo is not None:
            return Resolved(self._demo, DEMO) if name == DEMO else None
        for served in self._served:
            if _matches(name, served.upstream):
                return _resolved(served, name)
        return None

    async def _all_listed(self) -> list[Sequence[str]]:
        async with self._listing, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._listed(served)) for served in self._served]
        return [task.result() for task in tasks]

    async def _listed(self, served: _Served) -> Sequence[str]:
        """What the upstream lists, asked at most once a minute. An upstream that cannot say so lists nothing."""
        if served.listed_at is None or self._clock() - served.listed_at >= LIST_KEPT_S:
            try:
                served.listed = _ids(await served.endpoint.get_json("/models", LIST_TIMEOUT_S))
            except UpstreamError as exc:
                log.debug("models.unlisted", upstream=served.upstream.name, error=exc.message)
                served.listed = ()
            served.listed_at = self._clock()
        return served.listed


def _serve(upstream: Upstream, retries: Retries) -> _Served:
    endpoint = Endpoint(upstream, retries=retries)
    embedder = UpstreamEmbedder(endpoint)
    if upstream.api == "chat":
        return _Served(upstream, endpoint, ChatModel(endpoint), ChatRelay(endpoint), embedder)
    return _Served(upstream, endpoint, ResponsesModel(endpoint), None, embedder)


def _matches(name: str, upstream: Upstream) -> bool:
    # `[` is a class of characters to fnmatch, but part of a name here.
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in upstream.models)


def _resolved(served: _Served, name: str) -> Resolved:
    upstream, native = served.upstream, served.upstream.api == "responses"
    calls = upstream.calls_mcp_servers
    return Resolved(
        served.model,
        name,
        foreign_tools=native,
        chat=served.chat,
        embedder=served.embedder,
        reads_files=native,
        keeps_schemas=native or upstream.structured_outputs,
        calls_mcp_servers=native and (served.endpoint.openais_own if calls is None else calls),
    )


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _ids(listing: Any) -> list[str]:
    """The ids in a listing of models: OpenAI's `data`, or a bare list."""
    entries = listing.get("data") or listing.get("models") if isinstance(listing, dict) else listing
    ids = [entry.get("id") or entry.get("name") for entry in entries or () if isinstance(entry, dict)]
    return [id_ for id_ in ids if isinstance(id_, str)][:MOST_LISTED]
