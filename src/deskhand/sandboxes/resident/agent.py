"""Run commands inside a container, as its first process (pid 1 of its pid namespace).

The server hands over a listening Unix socket as descriptor 3 and one settings frame on descriptor 0. Every connection
carries frames (`>I` payload length, one type byte, payload); it runs one command at a time, and its end of file kills
that command. Frames are described once, in `deskhand.sandboxes.protocol`.

Rules of this file: standard library only; CPython 3.9 or newer, because it runs on whatever the host has under /usr;
one thread, one epoll, nothing that blocks. The underscored C modules are used because their Python wrappers (`socket`,
`signal`, `ctypes`) would double the time and add a quarter to the memory of every container; typeshed knows
only some of them.

How the processes of a command are found again: the hard limit RLIMIT_LOCKS (without meaning since Linux 2.4.25,
getrlimit(2)) carries the command's number. It is inherited by fork, kept by execve and setsid, and an unprivileged
process can lower it but never raise it. Numbers descend, so a process that tampers can only name a command that does
not exist yet (and is killed with the next one that times out) or a younger one (and passes for what that left behind).
"""

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]
import _socket
import _struct
import errno
import fcntl
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTENER = 3
RLIMIT_LOCKS = 10
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
F_SETPIPE_SZ = 1031

MAX_REQUEST = 8 << 20
READ_SIZE = 256 << 10
PIPE_SIZE = 1 << 20
PAUSE_AT = 512 << 10
SMALL, SLACK = 4 << 10, 64 << 10
GRACE_S = 0.2
KILL_TICK_S = 0.005
FREEZE_AFTER = 10
REAP_BATCH = 1000

BAD_STRUCT: type[Exception] = getattr(_struct, "error")  # noqa: B009 - typeshed does not know it
SPAWN_REASONS = {errno.EAGAIN: 1, errno.ENOMEM: 2, errno.EMFILE: 3, errno.ENFILE: 3}
CONTINUATION = bytes(range(0x80, 0xC0))
RESET_SIGNALS = [s for s in range(1, 65) if s not in (9, 19, 32, 33)]


def main() -> None:
    prepare_process()
    settings = read_settings(0)
    limit_resources(settings)
    score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    hide_from_ptrace()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    Agent(settings.env, score).run()


class Settings:
    """The one frame that the server writes on descriptor 0 before anything runs."""

    def __init__(self, payload: bytes) -> None:
        reader = Reader(payload)
        self.open_files, self.processes, self.file_bytes, self.data_bytes = reader.take(">QQQQ")
        self.env = reader.pairs()


class Reader:
    """Take fields off a payload."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> tuple[int, ...]:
        fields: tuple[int, ...] = _struct.unpack_from(form, self.data, self.at)
        self.at += _struct.calcsize(form)
        return fields

    def strings(self) -> list[bytes]:
        found = []
        for _ in range(self.take(">I")[0]):
            size = self.take(">I")[0]
            found.append(bytes(self.data[self.at : self.at + size]))
            self.at += size
        if self.at > len(self.data):
            raise ValueError("short payload")
        return found

    def pairs(self) -> dict[bytes, bytes]:
        flat = self.strings()
        return dict(zip(flat[::2], flat[1::2]))  # noqa: B905 - strict= is newer than 3.9


def prepare_process() -> None:
    os.closerange(LISTENER + 1, 4096)
    os.set_inheritable(LISTENER, False)
    os.umask(0o022)
    # Pid 1 is immune to signals of its own namespace unless it has a handler; Python installs one for SIGINT.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def read_settings(fd: int) -> Settings:
    """Read the settings; end of file instead means that the server died before it had recorded this container."""
    data = b""
    while len(data) < 4 or len(data) < 4 + _struct.unpack_from(">I", data)[0]:
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            sys.exit(3)
        data += chunk
    return Settings(data[4:])


def limit_resources(settings: Settings) -> None:
    lower(resource.RLIMIT_CORE, 0)
    for kind, value in (
        (resource.RLIMIT_NOFILE, settings.open_files),
        (resource.RLIMIT_NPROC, settings.processes),
        (resource.RLIMIT_FSIZE, settings.file_bytes),
        (resource.RLIMIT_DATA, settings.data_bytes),
    ):
        if value:
            lower(kind, value)


def lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def hide_from_ptrace() -> None:
    """Keep this process's memory, descriptors and environment from the commands, which run as the same user."""
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    _ctypes.call_function(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0))
    if _ctypes.call_function(prctl, (PR_GET_DUMPABLE, 0, 0, 0, 0)) != 0:
        sys.exit("the agent could not make itself non-dumpable")


class Agent:
    """The event loop: connections, commands, and the orphans that pid 1 inherits."""

    def __init__(self, env: dict[bytes, bytes], score: int) -> None:
        self.env = env
        self.score = score
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.commands: dict[int, Command] = {}
        self.timed: set[Command] = set()
        hard = resource.getrlimit(RLIMIT_LOCKS)[1]
        self.mark = 1 << 40 if hard == resource.RLIM_INFINITY else min(hard, 1 << 40)
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
        resource.setrlimit(RLIMIT_LOCKS, (self.mark, self.mark))
        return self.mark

    def spawn(self, argv: list[bytes], env: dict[bytes, bytes], out: int, err: int) -> int:
        """Start `argv` in a new session; the OOM killer shall prefer it to this process (proc_pid_oom_score_adj(5))."""
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ]
        program = find_program(argv[0], env.get(b"PATH", b"/usr/bin:/bin"))
        os.pwrite(self.score, b"500", 0)
        try:
            return os.posix_spawn(
                program, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=RESET_SIGNALS
            )
        finally:
            os.pwrite(self.score, b"0", 0)


def find_program(name: bytes, path: bytes) -> bytes:
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = os.path.join(folder or b".", name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "command not found")


class Connection:
    """One client. Its end of file, in the middle of a command, kills the command."""

    def __init__(self, agent: Agent, fd: int) -> None:
        self.agent = agent
        self.fd = fd
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.command: Command | None = None
        self.reading = True
        self.broken = False
        self.listen()

    def listen(self) -> None:
        events = (select.EPOLLIN if self.reading else 0) | (select.EPOLLOUT if self.outbox else 0)
        self.agent.watch(self.fd, events, self.on_event)

    def on_event(self, events: int) -> None:
        if events & select.EPOLLOUT or (self.outbox and not self.reading):
            self.flush()
        if self.reading and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self.receive()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.lose()

    def receive(self) -> None:
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.inbox += data
        if not data or len(self.inbox) > MAX_REQUEST:
            self.finish()
        else:
            self.next_request()

    def next_request(self) -> None:
        if self.command is not None or len(self.inbox) < 5:
            return
        size, kind = _struct.unpack_from(">IB", self.inbox)
        if size > MAX_REQUEST:
            self.finish()
        elif len(self.inbox) >= 5 + size:
            payload = bytes(self.inbox[5 : 5 + size])
            del self.inbox[: 5 + size]
            self.serve(kind, payload)

    def serve(self, kind: int, payload: bytes) -> None:
        if kind == ord("P"):
            self.send(b"Q", b"")
            self.next_request()
            return
        try:
            if kind != ord("X"):
                raise ValueError("unknown frame")
            self.command = Command(self.agent, self, Reader(payload))
        except (ValueError, BAD_STRUCT):
            self.finish()
            return
        self.command.start()

    def send(self, kind: bytes, payload: bytes) -> None:
        if self.broken:
            return
        frame = _struct.pack(">I", len(payload)) + kind + payload
        if not self.outbox:
            try:
                frame = frame[os.write(self.fd, frame) :]
            except BlockingIOError:
                pass
            except OSError:
                self.broken = True
                return
        if frame:
            self.outbox += frame
            self.listen()

    def flush(self) -> None:
        try:
            del self.outbox[: os.write(self.fd, memoryview(self.outbox)[:READ_SIZE].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            self.lose()
            return
        if len(self.outbox) < PAUSE_AT and self.command is not None:
            self.command.resume()
        if not self.outbox and not self.reading and self.command is None:
            self.close()
        else:
            self.listen()

    def lose(self) -> None:
        """The client cannot be written to any more."""
        self.broken = True
        self.outbox.clear()
        self.finish()

    def finish(self) -> None:
        """The client has said its last word: kill its command, then let it see end of file."""
        self.reading = False
        self.agent.unwatch(self.fd)
        if self.command is not None:
            self.command.abandon()
        elif self.outbox:
            self.listen()
        else:
            self.close()

    def done(self) -> None:
        self.command = None
        if self.reading:
            self.next_request()
        elif self.outbox and not self.broken:
            self.listen()
        else:
            self.close()

    def close(self) -> None:
        self.agent.unwatch(self.fd)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Command:
    """A command from request to last frame: running, then ending (grace) or dying (being killed), then finished."""

    def __init__(self, agent: Agent, connection: Connection, request: Reader) -> None:
        self.agent = agent
        self.connection = connection
        self.timeout, self.head, self.tail_size = request.take(">dQQ")
        self.argv = request.strings()
        self.env = dict(agent.env)
        self.env.update(request.pairs())
        if not self.argv or any(b"\0" in word for word in (*self.argv, *self.env, *self.env.values())):
            raise ValueError("bad command")
        self.pid = 0
        self.status: int | None = None
        self.outcome = b"E"
        self.dying = False
        self.passes = 0
        self.alarm = 0.0
        self.pipes: dict[int, int] = {}
        self.tail = Tail(self.tail_size)

    def start(self) -> None:
        self.mark = self.agent.next_mark()
        ends: list[int] = []
        try:
            ends += os.pipe2(os.O_CLOEXEC)
            ends += os.pipe2(os.O_CLOEXEC)
            self.pid = self.agent.spawn(self.argv, self.env, ends[1], ends[3])
        except OSError as exc:
            for fd in ends:
                os.close(fd)
            self.refuse(exc)
            return
        os.close(ends[1])
        os.close(ends[3])
        self.pipes = {ends[0]: 1, ends[2]: 2}
        for fd in self.pipes:
            os.set_blocking(fd, False)
        self.agent.commands[self.pid] = self
        self.alarm = time.monotonic() + self.timeout
        self.agent.timed.add(self)
        self.resume()

    def refuse(self, exc: OSError) -> None:
        """Answer as a shell does: 127 for a missing command, 126 for one that could not be started."""
        text = b"%s: %s\n" % (self.argv[0][:200], (exc.strerror or "cannot start").encode())
        self.take(2, text)
        code = 127 if exc.errno == errno.ENOENT else 126
        self.report(b"E", _struct.pack(">BBB", code, 0, SPAWN_REASONS.get(exc.errno or 0, 0)))

    def resume(self) -> None:
        for fd in self.pipes:
            self.agent.watch(fd, select.EPOLLIN, lambda _events, fd=fd: self.on_output(fd))  # type: ignore[misc]

    def pause(self) -> None:
        for fd in self.pipes:
            self.agent.unwatch(fd)

    def on_output(self, fd: int) -> None:
        self.read(fd)
        if self.status is not None and not self.pipes and not self.dying:
            self.complete()
        elif len(self.connection.outbox) >= PAUSE_AT:
            self.pause()

    def read(self, fd: int) -> int:
        """Move what a pipe holds into the head or the tail; return how much that was."""
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return 0
        if data:
            if len(data) == 1 << 16:  # a full pipe of default size: this command has much to say
                widen(fd)
            self.take(self.pipes[fd], data)
        else:
            del self.pipes[fd]
            self.agent.unwatch(fd)
            os.close(fd)
        return len(data)

    def take(self, stream: int, data: bytes) -> None:
        first = data[: self.head]
        if first:
            self.head -= len(first)
            self.connection.send(b"O", bytes((stream,)) + first)
        if len(first) < len(data):
            self.tail.push(stream, data[len(first) :])

    def on_exit(self, status: int) -> None:
        self.status = status
        if self.dying:
            return
        if not self.pipes:
            self.complete()
        else:
            self.alarm = min(self.alarm, time.monotonic() + GRACE_S)
            self.empty_pipes()

    def empty_pipes(self) -> None:
        """Take what was written before now without waiting for writers that may never stop."""
        budget = 4 * PIPE_SIZE
        for fd in list(self.pipes):
            while fd in self.pipes and budget > 0:
                count = self.read(fd)
                budget -= count
                if count == 0:
                    break
        if not self.pipes and self.status is not None and not self.dying:
            self.complete()

    def on_alarm(self, now: float) -> None:
        if self.dying:
            self.kill(now)
        elif self.status is not None:
            self.empty_pipes()
            if self in self.agent.timed:
                self.complete()
        else:
            self.die(b"T")

    def abandon(self) -> None:
        if not self.dying:
            self.die(b"")

    def die(self, outcome: bytes) -> None:
        self.outcome = outcome
        self.dying = True
        self.agent.timed.add(self)
        self.kill(time.monotonic())

    def kill(self, now: float) -> None:
        self.passes += 1
        frozen = self.passes > FREEZE_AFTER
        if frozen:  # something forks faster than it is killed: stop the whole container for one pass
            signal_all(_signal.SIGSTOP)
        alive = kill_marked(self.mark, self.agent.mark, self.pid if self.status is None else 0)
        if frozen:
            signal_all(_signal.SIGCONT)
        if alive or self.status is None:
            self.alarm = now + KILL_TICK_S
            return
        self.empty_pipes()
        self.report(self.outcome, b"")

    def complete(self) -> None:
        status = self.status or 0
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + signal if signal else os.WEXITSTATUS(status)
        self.report(b"E", _struct.pack(">BBB", code & 0xFF, signal, 0))

    def report(self, kind: bytes, payload: bytes) -> None:
        self.agent.timed.discard(self)
        self.tail.trim()
        for stream, (count, characters) in self.tail.dropped.items():
            if count:
                self.connection.send(b"D", _struct.pack(">BQQ", stream, count, characters))
        for stream, data in self.tail.chunks:
            self.connection.send(b"O", bytes((stream,)) + data)
        if kind:
            self.connection.send(kind, payload)
        for fd in self.pipes:
            # A background process still writes here: closing would kill it with SIGPIPE, so read into nothing.
            self.agent.watch(fd, select.EPOLLIN, lambda _events, fd=fd: discard(self.agent, fd))  # type: ignore[misc]
        self.pipes = {}
        self.connection.done()


class Tail:
    """The last `size` bytes of both streams together, in order of arrival, and a count of what fell out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.chunks: list[tuple[int, bytes]] = []
        self.dropped = {1: (0, 0), 2: (0, 0)}

    def push(self, stream: int, data: bytes) -> None:
        if len(data) > self.size:
            cut = len(data) - self.size
            while self.chunks:
                self.drop(*self.chunks.pop(0))
            self.held = 0
            self.drop(stream, data[:cut])
            data = data[cut:]
        if not data:
            return
        last = self.chunks[-1] if self.chunks else (0, b"")
        if last[0] == stream and len(last[1]) < SMALL:
            self.chunks[-1] = (stream, last[1] + data)
        else:
            self.chunks.append((stream, data))
        self.held += len(data)
        if self.held > self.size + SLACK:
            self.trim()

    def trim(self) -> None:
        while self.held > self.size:
            stream, data = self.chunks[0]
            cut = min(len(data), self.held - self.size)
            self.drop(stream, data[:cut])
            self.held -= cut
            if cut == len(data):
                self.chunks.pop(0)
            else:
                self.chunks[0] = (stream, data[cut:])

    def drop(self, stream: int, data: bytes) -> None:
        count, characters = self.dropped[stream]
        leads = len(data) if data.isascii() else len(data.translate(None, CONTINUATION))
        self.dropped[stream] = (count + len(data), characters + leads)


def widen(fd: int) -> None:
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # over the user's share of pipe memory (pipe(7)): slower, not wrong


def discard(agent: Agent, fd: int) -> None:
    try:
        data = os.read(fd, READ_SIZE)
    except BlockingIOError:
        return
    if not data:
        agent.unwatch(fd)
        os.close(fd)


def signal_all(number: int) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass


def kill_marked(mark: int, youngest: int, root: int) -> bool:
    """Kill what carries `mark`, what descends from that, and what has tampered with its mark. True if any was alive."""
    doomed = set()
    parents: dict[int, int] = {}
    for pid, parent, hard in processes():
        parents[pid] = parent
        if hard == mark or hard < youngest or pid == root:
            doomed.add(pid)
    for pid in parents:
        line = []
        while pid in parents and pid not in doomed and pid not in line:
            line.append(pid)
            pid = parents[pid]
        if pid in doomed:
            doomed.update(line)
    for pid in doomed:
        try:
            os.kill(pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
    return bool(doomed)


def processes() -> Iterator[tuple[int, int, int]]:
    """Every process of the container but this one and the dead: pid, parent, hard RLIMIT_LOCKS."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open("/proc/" + name + "/stat", "rb", 0) as file:
                fields = file.read(1024).rpartition(b")")[2].split()
            hard = resource.prlimit(int(name), RLIMIT_LOCKS)[1]
        except OSError:
            continue
        # A process whose first thread has ended is shown as a zombie while its other threads run on (num_threads > 1).
        if fields[0] not in (b"Z", b"X") or int(fields[17]) > 1:
            yield int(name), int(fields[1]), hard if hard >= 0 else 1 << 62


if __name__ == "__main__":
    main()
