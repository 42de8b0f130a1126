"""The way out of a container that has one: connections to 127.0.0.1 are joined to the host's egress proxy.

The network of the container is a loopback and nothing else. What is decided is decided on the other side of the socket;
this only carries bytes, and if nobody answers there, connections end.
"""

from __future__ import annotations

import _socket
import resource
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent

BACKLOG = 128
MOST = 256
ROOM = 256 << 10
CHUNK = 64 << 10


class Relay:
    """Listens on a port of the loopback, and joins what comes to a Unix socket; `order` is `port:path`."""

    def __init__(self, agent: Agent, order: bytes) -> None:
        self.agent = agent
        port, _, self.path = order.partition(b":")
        self.open = 0
        # Two descriptors for each connection: most stay for the commands' own pipes.
        self.most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self.listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", int(port)))
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)
        agent.watch(self.listener.fileno(), select.EPOLLIN, self.on_listener)

    def on_listener(self, _events: int) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        inside = _socket.socket(fileno=fd)
        if self.open >= self.most:
            inside.close()
            return
        outside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        for end in (inside, outside):
            end.setblocking(False)
        try:
            outside.connect(self.path)
        except OSError:
            inside.close()
            outside.close()
            return
        inside.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.open += 1
        Junction(self, inside, outside)


class Side:
    """One end: `outbox` waits to be written to it; `readable` and `writable` until it, or the other end, is done."""

    def __init__(self, end: _socket.socket) -> None:
        self.end = end
        self.fd = end.fileno()
        self.outbox = bytearray()
        self.readable = True
        self.writable = True


class Junction:
    """Two ends, joined: each end's end of file becomes the other's, and each direction waits for its slower end."""

    def __init__(self, relay: Relay, inside: _socket.socket, outside: _socket.socket) -> None:
        self.relay = relay
        self.sides = (Side(inside), Side(outside))
        for here, there in self.pairs():
            self.listen(here, there)

    def pairs(self) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
        return (self.sides[0], self.sides[1]), (self.sides[1], self.sides[0])

    def listen(self, here: Side, there: Side) -> None:
        """Watch an end for what can be done with it, and for nothing if that is nothing: it would be told for ever."""
        events = select.EPOLLIN if here.readable and len(there.outbox) < ROOM else 0
        if here.outbox:
            events |= select.EPOLLOUT
        if events:
            self.relay.agent.watch(here.fd, events, lambda seen: self.on_event(here, there, seen))
        else:
            self.relay.agent.unwatch(here.fd)

    def on_event(self, here: Side, there: Side, events: int) -> None:
        if here.outbox:
            self.write(here, there)
        if here.readable and len(there.outbox) < ROOM and events & ~select.EPOLLOUT:
            self.read(here, there)
        if not any(side.readable or side.outbox for side in self.sides):
            self.close()
            return
        for one, other in self.pairs():
            self.listen(one, other)

    def read(self, here: Side, there: Side) -> None:
        try:
            data = here.end.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and there.writable:
            there.outbox += data
            self.write(there, here)
        elif not data:
            here.readable = False
            self.finish(there)

    def write(self, here: Side, there: Side) -> None:
        """Write what waits. An end that takes nothing more can still have something to say.

        If that is the host's, a client that goes on sending is read on, for nobody: to close on what it sends would
        lose what it has not received yet (RFC 1122, 4.2.2.13).
        """
        try:
            del here.outbox[: here.end.send(memoryview(here.outbox)[:CHUNK].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            here.outbox.clear()
            here.writable = False
            if here is self.sides[0]:
                there.readable = False
            return
        if not there.readable:
            self.finish(here)

    def finish(self, side: Side) -> None:
        """Pass an end of file on, once everything before it is written."""
        if side.outbox or not side.writable:
            return
        side.writable = False
        try:
            side.end.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        for side in self.sides:
            self.relay.agent.unwatch(side.fd)
            side.end.close()
        self.relay.open -= 1
