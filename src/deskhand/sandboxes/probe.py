"""The self-test: start a throwaway container and find out from inside and outside what really holds on this host.

Every check of something that must not work has a positive control on the host: the canary file can be read there, the
listener can be reached there. A check that could not be made counts as failed.
"""

import asyncio
import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import (
    Command,
    EngineReport,
    ExecEvent,
    Exited,
    Finding,
    Limits,
    Output,
    Sandbox,
    SandboxEngine,
    SandboxError,
    SandboxGone,
    SandboxSpec,
)

from . import cgroups, disk, kit, rootfs, spawn
from .launcher import Launcher

LIMITS: Final = Limits(memory_bytes=128 << 20, pids=48, cpus=1.0, disk_bytes=48 << 20, disk_inodes=4000)
FAIRNESS_MEND: Final = "that needs Linux 5.15, and with cgroups v1 the controller cpuacct"
UPDATE: Final = "update the isolation engine (bubblewrap, crun, runc or runsc)"
TIMEOUT_S: Final = 20.0
SCRIPT: Final = "probe_inside.py"

ISOLATION: Final[Mapping[str, str]] = {
    "host files": spawn.USERNS_MEND,
    "host processes": spawn.USERNS_MEND,
    "host sockets": "do not put sockets of daemons below /usr",
    "nested namespaces": "run on a kernel with seccomp filters (CONFIG_SECCOMP_FILTER=y)",
    "network": spawn.USERNS_MEND,
    "capabilities": UPDATE,
    "no new privileges": UPDATE,
    "system call filter": "run on a kernel with seccomp filters (CONFIG_SECCOMP_FILTER=y)",
    "hidden agent": "report this: the agent's memory can be read by commands",
    "agent out of sight": "none is needed: what can be seen, as gVisor shows it, gives no way into the agent",
    "environment": "report this: the server's environment reaches commands",
    "kernel settings": spawn.USERNS_MEND,
}
"""What the script inside must find, and what to do if it does not."""

OPTIONAL: Final = frozenset(("agent out of sight",))

MEMORY_HOG: Final = "import mmap\nfor _ in range(8): m = bytearray(64 << 20); globals().setdefault('a', []).append(m)"
FORKER: Final = """
import os, time
n = 0
try:
    while n < 400:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        n += 1
except OSError:
    pass
print(n, flush=True)
os.kill(-1, 9)
"""
FILLER: Final = """
n = 0
try:
    with open('fill', 'wb') as f:
        for _ in range(96):
            f.write(bytes(1 << 20)); f.flush(); n += 1
except OSError:
    pass
print(n)
"""


@dataclass(frozen=True, slots=True)
class Canary:
    """What exists on the host and must not be reachable: a file, a listening port, a server process."""

    path: Path
    port: int


async def probe(
    engine: SandboxEngine, launcher: Launcher, choose_cgroups: Callable[[], cgroups.Cgroups]
) -> EngineReport:
    """Find out what this host enforces. About a second."""
    container = f"probe-{secrets.token_hex(6)}"
    try:
        await engine.allocate(container, LIMITS, engine=launcher.name)
        sandbox = await engine.start(SandboxSpec(container, LIMITS))
        findings = [_started(), await _python(sandbox), kit.finding(), *await _isolation(sandbox), *launcher.findings()]
        findings += await _limits(sandbox, await asyncio.to_thread(choose_cgroups))
    except SandboxError as exc:
        findings = [Finding("start", False, str(exc), launcher.mend, required=True)]
    finally:
        with contextlib.suppress(SandboxError):
            await engine.destroy(container)
    return EngineReport(launcher.name, launcher.level, findings)


def _started() -> Finding:
    return Finding("start", True, "a container starts and answers", required=True)


async def _python(sandbox: Sandbox) -> Finding:
    text, ended = await _run(sandbox, "import platform; print(platform.python_version())")
    if not text.strip():
        return Finding(
            "python", False, f"Python does not run in a container: {ended}", rootfs.PYTHON_MEND, required=True
        )
    return Finding("python", True, f"containers have Python {text.strip()}", required=True)


async def _isolation(sandbox: Sandbox) -> list[Finding]:
    async with _canary() as canary:
        script = Path(__file__).with_name("resident").joinpath(SCRIPT).read_text()
        arguments = (str(canary.path), str(canary.port), str(os.getpid()), ",".join(rootfs.ENVIRONMENT))
        text, ended = await _run(sandbox, script, *arguments)
        controls = await _controls(canary)
    found = _parse(text)
    findings = []
    for name, mend in ISOLATION.items():
        ok, detail = found.get(name, (False, f"the check did not run ({ended})"))
        if name in controls:
            ok, detail = False, controls[name]
        findings.append(Finding(name, ok, detail, "" if ok else mend, required=name not in OPTIONAL))
    return findings


@contextlib.asynccontextmanager
async def _canary() -> AsyncIterator[Canary]:
    """Put a file where everybody on the host can read it and a listener on the host's loopback."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix="deskhand-canary-")
    try:
        os.write(handle, b"canary")
        os.fchmod(handle, 0o644)
        yield Canary(Path(name), server.sockets[0].getsockname()[1])
    finally:
        os.close(handle)
        os.unlink(name)
        server.close()
        await server.wait_closed()


async def _controls(canary: Canary) -> dict[str, str]:
    """Do on the host what must fail inside; return the checks that prove nothing because it fails here, too."""
    broken = {}
    if not await asyncio.to_thread(os.access, canary.path, os.R_OK):
        broken["host files"] = "the canary could not be read on the host either"
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", canary.port)
        writer.close()
        await writer.wait_closed()
    except OSError:
        broken["network"] = "the listener could not be reached on the host either"
    return broken


async def _limits(sandbox: Sandbox, groups: cgroups.Cgroups) -> list[Finding]:
    return [
        await _processes(sandbox, groups),
        _cpu(groups),
        await _disk(sandbox),
        await _memory(sandbox, groups),  # last, for it may end the computer
    ]


async def _processes(sandbox: Sandbox, groups: cgroups.Cgroups) -> Finding:
    text, _ = await _run(sandbox, FORKER)
    started = int(text) if text.strip().isdigit() else -1
    if not 0 < started <= LIMITS.pids:
        words = f"a command could start {started} processes where {LIMITS.pids} are allowed"
        return Finding("process limit", False, words, cgroups.FALLBACK_MEND)
    how = "RLIMIT_NPROC, counted for this container's user namespace" if "pids" in groups.missing else "a cgroup"
    return Finding("process limit", True, f"the limit on processes holds, by {how}")


async def _memory(sandbox: Sandbox, groups: cgroups.Cgroups) -> Finding:
    if "memory" in groups.missing:
        words = "memory is limited for each process alone (RLIMIT_DATA), not for a container as a whole"
        return Finding("memory limit", False, words, cgroups.FALLBACK_MEND)
    try:
        _, ended = await _run(sandbox, MEMORY_HOG)
    except SandboxGone:
        words = "a command that takes too much memory ends its whole computer, which is started again with its files"
        return Finding("memory limit", False, words, "use engine=crun where one greedy command must not end the others")
    match ended:
        case Exited(code=137, note=note) if note:
            return Finding("memory limit", True, "a process that takes too much memory is killed, alone")
        case _:
            words = f"a command took four times its memory: {ended}"
            return Finding("memory limit", False, words, cgroups.FALLBACK_MEND)


def _cpu(groups: cgroups.Cgroups) -> Finding:
    if "cpu" in groups.missing:
        return Finding("cpu limit", False, "containers can use all processors", cgroups.FALLBACK_MEND)
    others = "busy containers give way to others" if groups.gives_way else f"busy ones do not give way: {FAIRNESS_MEND}"
    return Finding("cpu limit", True, f"the share of processors is limited by cgroups {groups.version}, and {others}")


async def _disk(sandbox: Sandbox) -> Finding:
    if not disk.images_possible():
        words = "disk usage is looked at about once a second while a command runs, so a container can overshoot"
        return Finding("disk limit", False, words, disk.IMAGE_MEND)
    text, ended = await _run(sandbox, FILLER)
    written = int(text) if text.strip().isdigit() else -1
    if 0 < written <= LIMITS.disk_bytes >> 20:
        return Finding("disk limit", True, "a container's disk is a file system of its own, full at its limit")
    return Finding("disk limit", False, f"a command wrote {written} MiB, then {ended}", disk.IMAGE_MEND)


async def _run(sandbox: Sandbox, script: str, *arguments: str) -> tuple[str, ExecEvent | None]:
    """Run a Python script inside; return its standard output and how it ended."""
    command = Command(("python3", "-I", "-c", script, *arguments), TIMEOUT_S, 1 << 16, 0)
    text, last = b"", None
    async for event in sandbox.exec(command):
        match event:
            case Output("stdout", data):
                text += data
            case _:
                last = event
    return text.decode(errors="replace"), last


def _parse(text: str) -> Mapping[str, tuple[bool, str]]:
    """Read what the script inside has printed; nothing it says can be more than a flag and a short sentence."""
    try:
        raw = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(raw, dict):
        return {}
    pairs: Sequence[tuple[object, object]] = list(raw.items())
    return {
        str(name): (value[0] is True, str(value[1])[:300])
        for name, value in pairs
        if isinstance(value, list) and len(value) == 2
    }
