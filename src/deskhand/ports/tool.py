"""One wire tool type as the engine sees it: how it is declared, how its calls are read, and how they run."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..core.drafts import Draft
from ..wire.items import Item
from .mcp import RemoteResult
from .model import Declaration
from .sandbox import Sandbox, Workspace
from .vector_stores import Searcher

NewId = Callable[[str], str]
"""Makes an id with the given prefix."""

Say = Callable[[Draft], Awaitable[None]]
"""Takes a tool's drafts. When it returns, an opened or closed item is recorded."""

TurnEnding = Literal["completed", "incomplete"]


class CallReader(Protocol):
    """Reads one call while the model writes it."""

    def feed(self, arguments: str) -> Sequence[Draft]:
        """Drafts for the next piece of the arguments."""
        ...

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        """Drafts that close the call; it is `incomplete` if the model was cut off.

        A whole call that carries its own outcome stays open until it has been run.
        If the arguments make no sense, this also opens and closes an output that tells the model so.
        """
        ...


class Tool(Protocol):
    """A tool offered to the model. Everything about one wire tool type lives in one file of `tools/`."""

    @property
    def declaration(self) -> Declaration:
        """What the model is told about the tool."""
        ...

    @property
    def hosted(self) -> bool:
        """True if this server runs the calls; False if they go back to the client."""
        ...

    def read(self, call_id: str, new_id: NewId) -> CallReader:
        """Begin to read a call."""
        ...


class SandboxOf(Protocol):
    """Finds the running computer of a container; `call_id` is the call that it is for, for records."""

    def __call__(self, container_id: str, /, *, call_id: str = "") -> Awaitable[Sandbox]: ...


RemoteCall = Callable[[str, str, Mapping[str, Any]], Awaitable[RemoteResult]]
"""Calls a tool of the remote server of a label, with arguments. Raises `RemoteFailure`."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a running tool may use."""

    sandbox: SandboxOf
    """The running computer of a container id. Raises `SandboxError`."""
    workspace: Callable[[str], Awaitable[Workspace]]
    """The files of a container id. Raises `SandboxError` or `ToolFailure`."""
    new_id: NewId
    remote: RemoteCall | None = None
    """Calls a tool of a remote server, if the request has any."""
    search: Searcher | None = None
    """Searches the vector stores of the request's project."""


class HostedTool(Tool, Protocol):
    """A tool whose calls this server runs."""

    def runs(self, item: Item) -> bool:
        """True if `item` is a call of this tool."""
        ...

    async def run(self, call: Item, context: ToolContext, say: Say) -> None:
        """Run a call. The first thing said opens the output item, before anything happens; the last closes it.

        A call that carries its own outcome is open already: the first thing said revises it, the last closes it.
        Raises `ToolFailure` or `SandboxError`; the engine then closes the output with `refuse`.
        """
        ...

    def refuse(self, call: Item, output_id: str, reason: str) -> Item:
        """The closed output item that tells the model why the call did not run, or did not finish."""
        ...
