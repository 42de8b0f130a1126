"""What differs between isolation engines: how a container's first process is started, and what must be cleaned up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deskhand.ports.sandbox import Finding, Level, Limits

from .layout import Layout, Place
from .rootfs import Shared
from .roots import Root


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the first process of one container is started with.

    `uid` is the host uid to become, None to stay who the server is; `filter` is the classic BPF program of
    `sandboxes.seccomp`.
    """

    container_id: str
    place: Place
    uid: int | None
    shared: Shared
    root: Root
    filter: bytes
    limits: Limits


@dataclass(frozen=True, slots=True)
class Birth:
    """A container that waits for its settings: the process around it that must be reaped, if there is one, its first
    process, and the ends of the pipes to it. `helpers` looks for other processes that shall be under its ceilings, as
    long as there are new ones. Then what the agent must still do itself because the launcher could not: apply the
    filter, listen on the socket that has this address inside.
    """

    monitor: int | None
    init: int
    stdin: int
    stderr: int
    helpers: Callable[[], Sequence[int]] = tuple
    filter: bytes = b""
    address: str = ""


class Launcher(Protocol):
    """One way to isolate. Blocking; called from worker threads, for several containers at once."""

    @property
    def name(self) -> str:
        """The engine's name in settings and reports."""
        ...

    @property
    def level(self) -> Level: ...

    @property
    def mend(self) -> str:
        """What to do where no container starts."""
        ...

    def agent_socket(self, place: Place) -> Path:
        """Where the agent of a container is reached on the host."""
        ...

    def ceilings(self, limits: Limits) -> Limits:
        """What the cgroups of a container shall allow so that it can use `limits`."""
        ...

    def prepare(self, layout: Layout, root: Root) -> None:
        """Find out what this host offers, once, before the first launch. Raises `SandboxUnavailable`."""
        ...

    def findings(self) -> Sequence[Finding]:
        """What the self-test should say of the host's tools, after `prepare`."""
        ...

    def launch(self, blueprint: Blueprint, patience_s: float) -> Birth:
        """Start the agent, which waits for its settings. Raises `SandboxUnavailable`."""
        ...

    def explain(self, words: str) -> str:
        """Turn the complaint of a start that failed into a sentence that says what to do."""
        ...

    def interrupt(self, place: Place) -> None:
        """Kill what is still at work on a launch whose server died before it knew the first process. Idempotent."""
        ...

    def clean(self, place: Place) -> None:
        """Forget a container whose processes are dead. Idempotent."""
        ...
