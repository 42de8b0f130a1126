"""The server's side of warm interpreters: start the process that makes them (`resident/zygote.py`), and ask it for one.

Only root can enter the namespaces of containers that run under users of their own; anyone else does without, and the
agent starts interpreters itself. Whatever fails here falls back to that, so nothing depends on it but time.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from deskhand.ports.sandbox import SandboxUnavailable

from . import cgroups, processes, spawn
from .interpreters import Interpreter
from .layout import Running
from .rootfs import KIT, SUPPORT, VENV
from .threads import finish

log = structlog.get_logger()

BOOT: Final = f"import sys; sys.path.insert(0, '{SUPPORT}'); from resident.zygote import main; main()"
CAPABILITIES: Final = ("SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "SETUID", "SETGID", "SETPCAP")
"""To enter namespaces, to look at a container's first process, and to become its user."""
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/opt", "MPLCONFIGDIR": "/opt/matplotlib"}
SERVER: Final = 3
LOAD_S: Final = 60.0
HELLO_S: Final = 5.0
HELLO: Final = struct.Struct(">IcI")
REAP_S: Final = 5.0
PAUSE_S: Final = 10.0
"""Before the process is started again."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the process is started with: bubblewrap, and what it sees as `SUPPORT`, `VENV` and `KIT`."""

    bwrap: Path
    support: Path
    venv: Path
    kit: Path


class Nursery:
    """Keeps the process that makes interpreters, from when Python is first expected."""

    def __init__(self) -> None:
        self._expected = asyncio.Event()
        self._zygote: Zygote | None = None

    @property
    def is_ready(self) -> bool:
        """True if there is somebody to make interpreters."""
        return self._zygote is not None

    def expect(self) -> None:
        """Python will be wanted soon."""
        self._expected.set()

    async def lend(self, running: Running, filter_: bytes) -> Interpreter | None:
        """A warm interpreter in a running container; None if there is nobody (yet) to make one."""
        self.expect()
        return await self._zygote.lend(running, filter_) if self._zygote is not None else None

    async def keep(self, find_stage: Callable[[], Awaitable[Stage | None]]) -> None:
        """Run until cancelled: have the process, and have it again if it dies. Without a stage there is none."""
        while True:
            await self._expected.wait()
            try:
                stage = await find_stage()
                if stage is not None:
                    self._zygote = await start(stage)
                    await self._zygote.gone()
            except (OSError, TimeoutError, SandboxUnavailable) as exc:
                log.warning("python.no_zygote", error=str(exc))
            finally:
                zygote, self._zygote = self._zygote, None
                if zygote is not None:
                    await finish(zygote.close)
            self._expected.clear()
            await asyncio.sleep(PAUSE_S)


class Zygote:
    """A running process with the packages loaded."""

    def __init__(self, pid: int, server: socket.socket, stderr: int) -> None:
        self._pid = pid
        self._socket = server
        self._stderr = stderr

    async def gone(self) -> None:
        """Return when the process has ended."""
        await asyncio.get_running_loop().sock_recv(self._socket, 1)

    async def lend(self, running: Running, filter_: bytes) -> Interpreter | None:
        """An interpreter in a running container; None if it could not be put there."""
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            read, write = os.pipe()
            undo.callback(ours.close)
            undo.callback(os.close, read)
            try:
                with theirs:
                    os.fchown(write, processes.owner(running.init), -1)  # so that a cell can open /dev/stdout
                    self._ask(running, filter_, theirs.fileno(), write)
            except OSError as exc:
                _warn(exc)
                return None
            finally:
                os.close(write)
            try:
                async with asyncio.timeout(HELLO_S):
                    pid = await _hello(ours)
            except (OSError, TimeoutError) as exc:
                _warn(exc)
                return None
            undo.pop_all()
            return Interpreter(pid, (ours.detach(), read))

    def _ask(self, running: Running, filter_: bytes, control: int, output: int) -> None:
        """Raises `OSError`."""
        init = processes.handle(running.init)
        groups = "\n".join(cgroups.apart(running.init.pid))
        request = {"pid": running.init.pid, "groups": groups, "filter": filter_.hex()}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [init, control, output])
        finally:
            os.close(init)

    def close(self) -> None:
        """End the process; the interpreters that it has made live on. Blocking."""
        self._socket.close()
        os.close(self._stderr)
        processes.reap(self._pid, REAP_S)


async def start(stage: Stage) -> Zygote:
    """Start the process and wait until it has loaded the packages, about a second. Raises `OSError`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with theirs:
        pid, stdin, stderr = spawn.start(command_line(stage), {SERVER: theirs.fileno()})
    os.close(stdin)
    zygote = Zygote(pid, ours, stderr)
    try:
        async with asyncio.timeout(LOAD_S):
            if not await asyncio.get_running_loop().sock_recv(ours, 64):
                raise ChildProcessError(await asyncio.to_thread(spawn.complaint, stderr) or "it ended at once")
    except BaseException:
        await finish(zygote.close)
        raise
    return zygote


def command_line(stage: Stage) -> list[str]:
    """Return the argv that starts the process: on the host, but with the `/opt` of a container, and with no network."""
    argv = [str(stage.bwrap), "--dev-bind", "/", "/", "--tmpfs", "/opt"]
    for source, target in ((stage.support, SUPPORT), (stage.venv, VENV), (stage.kit, KIT)):
        argv += ["--ro-bind", str(source), target]
    argv += ["--unshare-net", "--clearenv", "--cap-drop", "ALL"]
    for name in CAPABILITIES:
        argv += ["--cap-add", f"CAP_{name}"]
    for name, value in ENVIRONMENT.items():
        argv += ["--setenv", name, value]
    return [*argv, "--chdir", "/", "--", f"{VENV}/bin/python", "-I", "-c", BOOT]


async def _hello(control: socket.socket) -> int:
    """The first word of an interpreter: its pid in the container. Raises `OSError`."""
    control.setblocking(False)
    said = await asyncio.get_running_loop().sock_recv(control, 4096)
    if len(said) == HELLO.size and said[4:5] == b"H":
        return int(HELLO.unpack(said)[2])
    raise ConnectionResetError(said[5:].decode(errors="replace") or "it ended at once")


def _warn(exc: Exception) -> None:
    log.warning("python.not_warm", error=str(exc) or type(exc).__name__)
