"""Run commands inside a container, as its first process (pid 1 of its pid namespace).

The server hands over a listening Unix socket as descriptor 3, or its address in the settings, and one settings frame on
descriptor 0. Every connection carries frames (`>I` payload length, one type byte, payload); it runs one command at a
time, and its end of file kills that command. Frames are described once, in `deskhand.sandboxes.protocol`.

Rules of this package: standard library only; CPython 3.9 or newer, because it runs on whatever the container has under
/usr; one thread, one epoll, nothing that blocks. C modules are used without their Python wrappers (`os`, `socket`,
`signal`, `ctypes`), which would double the time and add a quarter to the memory of every container; typeshed knows only
some of them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import posix as os
import resource
import select
import time

from .confine import apply_filter, hide_from_ptrace
from .connection import Connection
from .processes import MARK_LIMIT, find_program
from .relay import Relay
from .settings import limit_resources, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .cell import Cell
    from .command import Command
    from .kernel import Kernel
    from .pause import Pause
    from .pty import Terminal

LISTENER = 3
BACKLOG = 4096
REAP_BATCH = 1000
RESET_SIGNALS = [s for s in range(1, 65) if s not in (9, 19, 32, 33)]


def main() -> None:
    prepare_process()
    settings = read_settings(0)
    limit_resources(settings)
    if settings.address:
        listen(settings.address)
    score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    hide_from_ptrace()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    if settings.filter:
        apply_filter(settings.filter)
    agent = Agent(settings.env, score)
    if settings.relay:
        Relay(agent, settings.relay)
    agent.run()


def prepare_process() -> None:
    os.closerange(LISTENER + 1, 4096)
    os.umask(0o022)
    # Pid 1 is immune to signals of its own namespace unless it has a handler; Python installs one for SIGINT.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def listen(address: bytes) -> None:
    """Make the socket that this process was not given."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    made.bind(address)
    made.listen(BACKLOG)
    fd = made.detach()
    if fd != LISTENER:
        os.dup2(fd, LISTENER)
        os.close(fd)


class Agent:
    """The event loop: connections, commands, and the orphans that pid 1 inherits."""

    def __init__(self, env: dict[bytes, bytes], score: int) -> None:
        self.env = env
        self.score = score
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.commands: dict[int, Command | Kernel | Terminal] = {}
        self.timed: set[Command | Cell | Kernel | Pause | Terminal] = set()
        self.pauses = 0
        self.kernel: Kernel | None = None
        hard = resource.getrlimit(MARK_LIMIT)[1]
        self.mark = 1 << 40 if hard == resource.RLIM_INFINITY else min(hard, 1 << 40)
        os.set_inheritable(LISTENER, False)
        self.listener = _socket.socket(fileno=LISTENER)
        self.listener.setblocking(False)
        self.wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
        _signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self.watch(LISTENER, select.EPOLLIN, self.on_listener)
        self.watch(self.wake, select.EPOLLIN, self.on_child)

    def run(self) -> None:
        while True:
            for fd, events in self.poll.poll(self.patience()):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(events)
            now = time.monotonic()
            for command in list(self.timed):
                if command.alarm <= now:
                    command.on_alarm(now)

    def patience(self) -> float:
        if not self.timed:
            return -1
        return max(0.0, min(command.alarm for command in self.timed) - time.monotonic())

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        if fd in self.handlers:
            self.poll.modify(fd, events)
        else:
            self.poll.register(fd, events)
        self.handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def on_listener(self, _events: int) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError:
            time.sleep(0.01)  # out of descriptors: let the client wait in the queue, do not spin
            return
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        Connection(self, fd).receive()  # the request is usually there already

    def on_child(self, _events: int) -> None:
        """Reap; orphans of any command arrive here because this is pid 1."""
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass
        for _ in range(REAP_BATCH):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            command = self.commands.pop(pid, None)
            if command is not None:
                command.on_exit(status)
        os.kill(1, _signal.SIGCHLD)

    def next_mark(self) -> int:
        self.mark -= 1
        resource.setrlimit(MARK_LIMIT, (self.mark, self.mark))
        return self.mark

    def spawn(self, argv: list[bytes], env: dict[bytes, bytes], *given: int) -> int:
        """Start `argv` in a new session with the descriptors `given` as 1, 2, and so on."""
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(given, 1)]
        return self.launch(argv, env, actions)

    def launch(self, argv: list[bytes], env: dict[bytes, bytes], actions: list[tuple[Any, ...]]) -> int:
        """Start `argv` in a new session. The OOM killer shall prefer it to this process (proc_pid_oom_score_adj(5))."""
        program = find_program(argv[0], env.get(b"PATH", b"/usr/bin:/bin"))
        os.pwrite(self.score, b"500", 0)
        try:
            pid = os.posix_spawn(
                program, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=RESET_SIGNALS
            )
        finally:
            os.pwrite(self.score, b"0", 0)
        if self.pauses:
            os.kill(pid, _signal.SIGSTOP)
        return pid
