"""What the engine needs from an isolation engine: start a computer, run commands in it, reach its files.

Two seams, because they live at different times. A `Workspace` is the `/mnt/data` of a container: it exists from the
moment the container does, whether or not anything runs. A `Sandbox` is the running computer on top of it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]

WORKDIR = "/mnt/data"
"""Working directory of every command and the only place whose files the API lists (computer-use guide, 2026)."""

SKILLS = "/mnt/skills"
"""Where a container sees the bundles that it was provided with."""


class SandboxError(Exception):
    """The isolation machinery failed. Never a command's own failure.

    SandboxError
    ├── SandboxUnavailable   this host cannot isolate, or the sandbox did not start or answer
    ├── SandboxGone          the container existed and does not any more
    │   └── SandboxExhausted     its computer as a whole was ended for want of memory
    ├── SnapshotGone         there is no such snapshot
    └── WorkspaceError       a file operation was refused: no such file, not a regular file, no room
    """


class SandboxUnavailable(SandboxError):
    """The sandbox could not be started or did not answer. The message says what the operator can do."""


class SandboxGone(SandboxError):
    """The container has expired or was deleted; nothing of it is left."""


class SnapshotGone(SandboxError):
    """There is no such snapshot, or not any more."""


class SandboxExhausted(SandboxGone):
    """The whole computer was ended because it had used up its memory. The message is a sentence for the model.

    Only engines with a kernel for each container end like this; others end the greedy process alone.
    """


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
    """What to start. `container_id` names the workspace; starting twice for one id is an error of the caller.

    With `proxied`, connections to `Outlet.proxy` inside arrive at `Outlet.socket`; without, nothing leaves at all.
    """

    container_id: str
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Outlet:
    """A container's only way out. Whoever listens on `socket` gets its connections, and those of nobody else.

    The container sees the folder of `socket`, read-only, as `folder`; its processes connect to the URL `proxy`.
    """

    socket: Path
    folder: str
    proxy: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that a container may read and not change, seen as `SKILLS/<folder>`.

    `open` gives the bytes of a zip of one folder, whose SHA-256 in hex is `digest`; it is called only for a digest that
    is new to the engine.
    """

    digest: str
    folder: str
    open: Callable[[], AsyncIterator[bytes]]


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
class Cell:
    """Python code for the container's one interpreter, which keeps what earlier cells have defined.

    `timeout_s` bounds it by wall time from when it starts; then it is interrupted as by Ctrl-C, which keeps the
    interpreter, and killed if it does not heed that. Output is bounded as a command's. At most `images` pictures are
    delivered, of `image_bytes` together.
    """

    code: str
    timeout_s: float
    head_bytes: int
    tail_bytes: int
    images: int = 16
    image_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class InterpreterRenewed:
    """The container had an interpreter before, which is gone with what its cells defined. Comes first, if at all."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that the cell has drawn, as PNG."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CellEnded:
    """The cell ran to its end; `failed` if by an uncaught exception, whose traceback is in the output."""

    failed: bool


@dataclass(frozen=True, slots=True)
class CellInterrupted:
    """`timeout_s` passed; the cell was interrupted and the interpreter keeps its state."""


@dataclass(frozen=True, slots=True)
class InterpreterLost:
    """The interpreter ended during the cell, and its state is lost. `reason` is a sentence for the model."""

    reason: str


CellEvent = InterpreterRenewed | Output | Dropped | Picture | CellEnded | CellInterrupted | InterpreterLost


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a terminal its user sees, in characters."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Session:
    """An interactive program: run as a `Command`, but on a terminal, without a deadline and with all its output."""

    argv: Sequence[str]
    window: Window
    env: Mapping[str, str] = field(default_factory=dict)


class Terminal(Protocol):
    """A terminal of the container's own on which a program runs."""

    def output(self) -> AsyncGenerator[Output | Exited, None]:
        """All that is printed, as "stdout", as fast as it is taken; then one `Exited`. Raises as `Sandbox.exec`."""
        ...

    async def type(self, data: bytes) -> None:
        """Send what was typed; waits while the program takes none of it."""
        ...

    async def resize(self, window: Window) -> None: ...


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

    def run_code(self, cell: Cell) -> AsyncGenerator[CellEvent, None]:
        """Run `cell` in the container's interpreter, started if need be; cells of a container run one after another.

        Yields an `InterpreterRenewed` if state was lost before, any number of `Output` (all on "stdout", in the order
        of printing), `Dropped` and `Picture`, then exactly one `CellEnded`, `CellInterrupted` or `InterpreterLost`.
        Closing the iterator early (or cancelling) interrupts the cell. Raises `SandboxGone`, `SandboxUnavailable`.
        """
        ...

    def open_terminal(self, session: Session) -> AbstractAsyncContextManager[Terminal]:
        """Run `session`. When the program or the block ends, all that it has started is killed.

        Raises `SandboxGone`, `SandboxUnavailable`.
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was taken. `bytes` of room it has; `same_as` is the earlier snapshot of the container, if nothing
    has changed since, with which it then shares that room."""

    bytes: int
    same_as: str | None = None


Level = Literal["none", "process", "namespace", "gvisor", "microvm"]
STRENGTH: Sequence[Level] = ("none", "process", "namespace", "gvisor", "microvm")
"""Levels of isolation, weakest first."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine proved about itself on this host: its level and every finding, the failures included.

    `others` are the reports of further engines, which a container may ask for.
    """

    engine: str
    level: Level
    findings: Sequence[Finding]
    others: Sequence["EngineReport"] = ()

    @property
    def usable(self) -> bool:
        """True if every required finding holds."""
        return all(f.ok for f in self.findings if f.required)

    @property
    def weaknesses(self) -> Sequence[Finding]:
        """Findings that do not hold, required or not."""
        return [f for f in self.findings if not f.ok]

    def choose(self, least: Level) -> "EngineReport | None":
        """The first usable one, of this and `others`, that isolates at least so well."""
        enough = STRENGTH[STRENGTH.index(least) :]
        return next((found for found in (self, *self.others) if found.usable and found.level in enough), None)


class SandboxEngine(Protocol):
    """One way to isolate. Every implementation passes `deskhand.testing.conformance_sandbox` unchanged."""

    async def probe(self) -> EngineReport:
        """Find out what this host enforces, by trying it in a throwaway sandbox. Slow (about a second); cache it."""
        ...

    async def allocate(self, container_id: str, limits: Limits, origin: str | None = None, engine: str = "") -> None:
        """Make the workspace of a new container, empty or as in the snapshot `origin`. Starts nothing. Idempotent.

        A disk that comes from a snapshot keeps that one's size. `engine` names one of those that were reported, "" the
        first; the container keeps it. Raises `SnapshotGone`, `SandboxUnavailable`.
        """
        ...

    async def snapshot(self, container_id: str, snapshot_id: str) -> Snapshot:
        """Keep the container's disk as it is at one moment, under a new id; commands go on. All or nothing.

        The snapshot outlives its container. It is of files only: not of processes or of their memory. Raises
        `SandboxGone`, `SandboxUnavailable`.
        """
        ...

    async def restore(self, container_id: str, snapshot_id: str) -> None:
        """End the computer, if it runs, and make its disk what the snapshot is. Old or new, whoever is killed when.

        Raises `SandboxGone`, `SnapshotGone`, `SandboxUnavailable`; the computer may have been ended all the same.
        """
        ...

    async def drop_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot and free its room. Idempotent."""
        ...

    async def sweep_snapshots(self, keep: Collection[str]) -> Sequence[str]:
        """Forget every snapshot of this installation that is not in `keep`; return their ids."""
        ...

    def workspace(self, container_id: str) -> Workspace:
        """The workspace of an allocated container. Its operations raise `SandboxGone` if there is none."""
        ...

    async def provide(self, container_id: str, bundle: Bundle) -> None:
        """Show a bundle to an allocated container, running or not; cheap if its digest is known. Idempotent.

        Another bundle in the same folder is replaced. Raises `SandboxGone`, `SandboxUnavailable`, and what
        `bundle.open` raises.
        """
        ...

    def expect_python(self) -> None:
        """Say that Python will be wanted soon: `keep_python_warm` begins with that."""
        ...

    async def keep_python_warm(self) -> None:
        """Run until cancelled: make the first cell of a container quick, where that is possible."""
        ...

    async def keep_fair(self) -> None:
        """Run until cancelled: have containers that take all they can get give way; return where that is impossible."""
        ...

    async def outlet(self, container_id: str) -> Outlet:
        """Where an allocated container's way out is; its folder is there, and only its own user can pass through it.

        Raises `SandboxGone`, `SandboxUnavailable`.
        """
        ...

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start the computer of an allocated container. Raises `SandboxUnavailable`."""
        ...

    async def attach(self, container_id: str) -> Sandbox | None:
        """Find a sandbox that an earlier server process started and left running; None if it is not running."""
        ...

    async def keep_warm(self, count: int) -> None:
        """Run until cancelled: hold `count` started containers ready for those limits that were asked for before.

        `allocate` and `start` then give out a ready one, once, when all that the spec names is its id and limits.
        """
        ...

    async def destroy(self, container_id: str) -> None:
        """Kill every process of the container and remove its workspace, cgroups, mounts and sockets. Idempotent."""
        ...

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        """Destroy every container of this installation that is not in `keep`; return their ids."""
        ...
