"""What the engine needs from an isolation engine: start a computer, run commands in it, reach its files.

Two seams, because they live at different times. A `Workspace` is the `/mnt/data` of a container: it exists from the
moment the container does, whether or not anything runs. A `Sandbox` is the running computer on top of it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]

WORKDIR = "/mnt/data"
"""Working directory of every command and the only place whose files the API lists (computer-use guide, 2026)."""


class SandboxError(Exception):
    """The isolation machinery failed. Never a command's own failure.

    SandboxError
    ├── SandboxUnavailable   this host cannot isolate, or the sandbox did not start or answer
    ├── SandboxGone          the container existed and does not any more
    └── WorkspaceError       a file operation was refused: no such file, not a regular file, no room
    """


class SandboxUnavailable(SandboxError):
    """The sandbox could not be started or did not answer. The message says what the operator can do."""


class SandboxGone(SandboxError):
    """The container has expired or was deleted; nothing of it is left."""


class WorkspaceError(SandboxError):
    """A file operation was refused; the message names the path as the caller wrote it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of one container. Zero means "not limited by Deskhand"."""

    memory_bytes: int = 1 << 30
    pids: int = 512
    cpus: float = 2.0
    open_files: int = 4096
    disk_bytes: int = 4 << 30
    disk_inodes: int = 200_000


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What to start. `container_id` names the workspace; starting twice for one id is an error of the caller."""

    container_id: str
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """One command, run in a session of its own with stdin closed and cwd `WORKDIR`.

    `argv` is executed as it is (the shell tool passes `("bash", "-c", text)`); `timeout_s` bounds it by wall time,
    after which every process that it started is killed, double-forked and `setsid` children included; the engine
    delivers the first `head_bytes` of output as they come and, once the command has ended, the last `tail_bytes`;
    what lies between is counted, not delivered.
    """

    argv: Sequence[str]
    timeout_s: float
    head_bytes: int
    tail_bytes: int
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes a command wrote. Never empty; any byte values; cut anywhere, also inside a character."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """Output left out between head and tail: how many bytes and how many characters (UTF-8 lead bytes) of a stream.

    Sent at most once per stream, after that stream's head and before its tail.
    """

    stream: Stream
    bytes: int
    characters: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The command ended by itself. `code` is 0..255; death by signal N is 128+N and named in `signal`.

    `note` is a sentence for the model when a limit of the container ended the command ("out of memory: …"), else "".
    """

    code: int
    signal: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """`timeout_s` passed. All processes of the command are dead when this arrives."""


ExecEvent = Output | Dropped | Exited | TimedOut


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A regular file of a workspace. `path` is relative to `WORKDIR`, `/`-separated, without `..`."""

    path: str
    bytes: int
    modified_at: float


class Sandbox(Protocol):
    """A running computer."""

    @property
    def container_id(self) -> str: ...

    def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        """Run `command`: any number of `Output` and `Dropped`, then exactly one `Exited` or `TimedOut`.

        The command counts as ended when its first process has ended and its output is closed, or a short grace after
        the first process has ended while a background process holds the pipes: such a process lives on until the
        container ends. Closing the iterator early (or cancelling) kills every process of the command. Commands run
        concurrently. Raises `SandboxGone` if the container died before or meanwhile.
        """
        ...

    async def ping(self) -> None:
        """Return when the sandbox has answered. Raises `SandboxGone` or `SandboxUnavailable`."""
        ...


class Workspace(Protocol):
    """The files under `WORKDIR` of one container, reached from the host without trusting anything inside.

    No operation follows a symbolic link out of the workspace or opens anything but a regular file (openat2(2) with
    RESOLVE_BENEATH). Paths are relative to `WORKDIR`.
    """

    async def list(self, limit: int) -> Sequence[FileInfo]:
        """Up to `limit` regular files, sorted by path. Links, devices, sockets and FIFOs are left out."""
        ...

    async def stat(self, path: str) -> FileInfo | None: ...

    def read(self, path: str) -> AsyncIterator[bytes]:
        """The content in chunks. Raises `WorkspaceError` before the first chunk if there is no such regular file."""
        ...

    async def write(self, path: str, chunks: AsyncIterator[bytes]) -> FileInfo:
        """Create or replace a file, parent folders included, owned by the container's user. All or nothing."""
        ...

    async def delete(self, path: str) -> bool:
        """Remove a file; False if there was none."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that this host can or cannot enforce, in plain words, with the command that mends it."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    required: bool = False


Level = Literal["none", "process", "namespace", "gvisor", "microvm"]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine proved about itself on this host: its level and every finding, the failures included."""

    engine: str
    level: Level
    findings: Sequence[Finding]

    @property
    def usable(self) -> bool:
        """True if every required finding holds."""
        return all(f.ok for f in self.findings if f.required)

    @property
    def weaknesses(self) -> Sequence[Finding]:
        """Findings that do not hold, required or not."""
        return [f for f in self.findings if not f.ok]


class SandboxEngine(Protocol):
    """One way to isolate. Every implementation passes `deskhand.testing.conformance_sandbox` unchanged."""

    async def probe(self) -> EngineReport:
        """Find out what this host enforces, by trying it in a throwaway sandbox. Slow (about a second); cache it."""
        ...

    async def allocate(self, container_id: str, limits: Limits) -> None:
        """Make the workspace of a new container. Cheap, starts nothing. Idempotent."""
        ...

    def workspace(self, container_id: str) -> Workspace:
        """The workspace of an allocated container. Its operations raise `SandboxGone` if there is none."""
        ...

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start the computer of an allocated container. Raises `SandboxUnavailable`."""
        ...

    async def attach(self, container_id: str) -> Sandbox | None:
        """Find a sandbox that an earlier server process started and left running; None if it is not running."""
        ...

    async def destroy(self, container_id: str) -> None:
        """Kill every process of the container and remove its workspace, cgroups, mounts and sockets. Idempotent."""
        ...

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        """Destroy every container of this installation that is not in `keep`; return their ids."""
        ...
