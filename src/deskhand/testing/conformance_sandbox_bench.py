"""The bench on which `conformance_sandbox` tests an engine: containers for one check, commands run to their end."""

import hashlib
import io
import secrets
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from deskhand.ports.sandbox import (
    Bundle,
    Command,
    Dropped,
    ExecEvent,
    Limits,
    Output,
    Sandbox,
    SandboxEngine,
    SandboxSpec,
    Workspace,
)

SMALL = Limits(memory_bytes=256 << 20, pids=64, cpus=2.0, open_files=256, disk_bytes=64 << 20, disk_inodes=4000)


class NotEnforced(Exception):
    """This host cannot enforce what the check is about; the engine's report says so, too."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished command."""

    stdout: bytes
    stderr: bytes
    end: ExecEvent
    dropped: Sequence[Dropped] = ()

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class Desk:
    """A started container."""

    container_id: str
    sandbox: Sandbox
    workspace: Workspace

    async def run(self, script: str, *, timeout_s: float = 20.0, head: int = 1 << 20, tail: int = 1 << 10) -> Result:
        """Run a script with sh."""
        return await self.call("sh", "-c", script, timeout_s=timeout_s, head=head, tail=tail)

    async def call(self, *argv: str, timeout_s: float = 20.0, head: int = 1 << 20, tail: int = 1 << 10) -> Result:
        """Run one program; check the order that the contract gives to events."""
        return await gather(self.sandbox, Command(argv, timeout_s, head, tail))

    async def python(self, script: str, *arguments: str) -> Result:
        """Run a script with the container's Python."""
        return await self.call("python3", "-c", script, *arguments)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where checks work. `make` builds an engine over the same state, as a restarted server would."""

    make: Callable[[], SandboxEngine]
    engine: SandboxEngine = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", self.make())

    @asynccontextmanager
    async def desk(self, limits: Limits = SMALL, **env: str) -> AsyncIterator[Desk]:
        """A container for one check; destroyed afterwards."""
        container_id = f"check-{secrets.token_hex(5)}"
        await self.engine.allocate(container_id, limits)
        try:
            sandbox = await self.engine.start(SandboxSpec(container_id, limits, env))
            yield Desk(container_id, sandbox, self.engine.workspace(container_id))
        finally:
            await self.engine.destroy(container_id)

    async def require(self, finding: str) -> None:
        """Raises `NotEnforced` unless the engine's report says that the limit holds."""
        for found in (await self.engine.probe()).findings:
            if found.name == finding and not found.ok:
                raise NotEnforced(found.detail)


async def gather(sandbox: Sandbox, command: Command) -> Result:
    """Run a command to its end; assert that nothing comes after the end and that `Dropped` comes once a stream."""
    out: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    dropped: list[Dropped] = []
    end: ExecEvent | None = None
    async for event in sandbox.exec(command):
        assert end is None, f"{event} after the end"
        match event:
            case Output(stream, data):
                assert data, "empty output"
                out[stream] += data
            case Dropped():
                assert event.stream not in {earlier.stream for earlier in dropped}
                dropped.append(event)
            case _:
                end = event
    assert end is not None, "no end"
    return Result(out["stdout"], out["stderr"], end, dropped)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """A body for `Workspace.write`."""
    for part in parts:
        yield part


def zip_bundle(folder: str, files: Mapping[str, bytes], asked: list[str]) -> Bundle:
    """A bundle of a SKILL.md and `files`, which are executable; `asked` gets its digest each time it is read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in {"SKILL.md": b"look\n", **files}.items():
            entry = zipfile.ZipInfo(f"top/{name}")
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, data)
    digest = hashlib.sha256(packed.getvalue()).hexdigest()

    async def read() -> AsyncIterator[bytes]:
        asked.append(digest)
        yield packed.getvalue()

    return Bundle(digest, folder, read)


async def content(workspace: Workspace, path: str) -> bytes:
    """A whole file."""
    return b"".join([chunk async for chunk in workspace.read(path)])


def count(listing: Result, marker: str) -> int:
    """How many lines of a process listing by `ps ax` hold `marker`."""
    return sum(marker in line and "ps ax" not in line for line in listing.text.split("\n"))
