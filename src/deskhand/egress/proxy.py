"""The egress proxy: what it does with one connection of one container.

A client speaks to it as to any HTTP proxy: `CONNECT host:port`, or absolute URLs for plain HTTP (RFC 9110, 7.2 and
9.3.6). Behind CONNECT, TLS is terminated with a certificate of the installation's authority, so that host, method and
path of every request can be checked; an opted-in host gets a plain tunnel instead, and the record says that nobody
looked. Who asks is known by the socket that is asked. Whatever goes wrong, nothing leaves.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import h11
import structlog

from .authority import Authority
from .bounds import Bounds
from .client_hello import Hello, NotHello, parse_hello
from .dialer import FORBIDDEN, Dialer, DialFailed
from .door import Attempt, Door, Refused
from .exchange import Exchange, Link, Target
from .hosts import BadHost, normalise, split_authority
from .http1 import Peer
from .journal import Journal
from .policy import Allow, Deny, Destination, decide
from .refusal import refusal
from .streams import Paced, SocketStream, Stream, TlsServerStream, Unread, relay

log = structlog.get_logger()

_ABSOLUTE: Final = re.compile(rb"(?i:http)://([^/?#]+)([/?][^#]*)?")
_TLS_HANDSHAKE: Final = 22
_HTTPS: Final = 443


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What is inside a tunnel that was opened: a stream of requests to one origin."""

    stream: Stream
    origin: Target


@dataclass(frozen=True, slots=True)
class Proxy:
    """What all containers' ways out have in common. Times in milliseconds come from `now`."""

    authority: Authority
    dialer: Dialer
    journal: Journal
    new_id: Callable[[str], str]
    bounds: Bounds = Bounds()
    now: Callable[[], float] = time.time

    async def serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end. Raises nothing but cancellation."""
        stream = SocketStream(reader, writer)
        door.connections += 1
        try:
            await self._serve(door, Peer(Paced(stream, door.turn), h11.SERVER, door.turn))
            await stream.close()
        except* (h11.ProtocolError, OSError):
            pass  # the client or the other side went away in the middle
        except* Exception:
            log.exception("egress.failed", container_id=door.container_id)
        finally:
            door.connections -= 1
            stream.abort()

    async def _serve(self, door: Door, client: Peer) -> None:
        if door.connections > self.bounds.connections or door.attempts >= self.bounds.container_records:
            async with self._attempt(door, client):
                raise Refused(503, "too_many", "this container has too many connections open, or has made too many")
            return
        request = await self._next_request(door, client)
        if request is None:
            return
        if request.method != b"CONNECT":
            await self._requests(door, client, request, None)
            return
        tunnel = await self._connect(door, client, request)
        if tunnel is None:
            return
        inner = Peer(tunnel.stream, h11.SERVER, door.turn)
        if (request := await self._next_request(door, inner, tunnel.origin)) is not None:
            await self._requests(door, inner, request, tunnel.origin)
        with suppress(OSError):
            await tunnel.stream.end()

    async def _next_request(self, door: Door, client: Peer, origin: Target | None = None) -> h11.Request | None:
        """The next request; None if there is none, or none that can be read."""
        try:
            async with asyncio.timeout(self.bounds.head_s):
                event = await client.next_event()
        except TimeoutError:
            return None
        except h11.RemoteProtocolError as exc:
            async with self._attempt(door, client) as attempt:
                if origin is not None:
                    attempt.host, attempt.port = origin.host, origin.port
                raise Refused(exc.error_status_hint, "bad_request", f"this is not proper HTTP: {exc}") from None
            return None
        return event if isinstance(event, h11.Request) else None

    async def _requests(self, door: Door, client: Peer, request: h11.Request | None, origin: Target | None) -> None:
        """Serve one request after the other: to `origin`, or to what their absolute URLs name."""
        link = Link(self.dialer, door, self.bounds)
        try:
            while request is not None:
                await self._request(door, client, link, request, origin)
                if not client.reusable:
                    return
                client.http.start_next_cycle()
                request = await self._next_request(door, client, origin)
        finally:
            await link.close()

    async def _request(self, door: Door, client: Peer, link: Link, request: h11.Request, origin: Target | None) -> None:
        async with self._attempt(door, client) as attempt:
            attempt.method = request.method.decode("ascii", "replace")
            if origin is not None:
                attempt.host, attempt.port = origin.host, origin.port
            target, path = _read_target(bytes(request.target), origin)
            attempt.host, attempt.port = target.host, target.port
            attempt.path = path.decode("ascii", "replace")
            await Exchange(door, client, link, target, attempt, self.bounds).run(request, path)

    async def _connect(self, door: Door, client: Peer, request: h11.Request) -> Tunnel | None:
        """Answer CONNECT, judged by host and port; None if the tunnel has served its purpose already."""
        async with self._attempt(door, client) as attempt:
            attempt.method = "CONNECT"
            attempt.host, attempt.port = _read_connect(request)
            allow = self._judge_connection(door, attempt)
            await client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
            attempt.status = 200
            inner = Unread(client.stream, client.rest)
            async with asyncio.timeout(self.bounds.handshake_s):
                first = await inner.read()
            if not first:
                attempt.reason = "nothing_sent"
                return None
            inner = Unread(inner, first)
            if allow.rule.passthrough and not allow.bare:
                await self._pass_through(door, inner, attempt)
                return None
            tunnel = await self._open(inner, first, attempt)
            attempt.kept = False  # from here on, each request is an attempt of its own
            return tunnel
        return None

    def _judge_connection(self, door: Door, attempt: Attempt) -> Allow:
        door.check(self.bounds)
        match decide(door.policy, Destination(attempt.host, attempt.port)):
            case Deny(reason, rule):
                raise Refused(403, reason, "the network policy of this container does not allow this", rule=rule)
            case Allow() as allow:
                attempt.rule = allow.rule.label
                return allow

    async def _open(self, inner: Stream, first: bytes, attempt: Attempt) -> Tunnel:
        """The stream of requests in a tunnel: behind TLS as the host itself would speak it, or in clear text."""
        host, port = attempt.host, attempt.port
        if first[0] != _TLS_HANDSHAKE:
            if port == _HTTPS:
                raise Refused(400, "not_tls", "only TLS goes to port 443")
            return Tunnel(inner, Target(host, port, encrypted=False))
        stream = TlsServerStream(inner, self.authority.context(host))
        try:
            async with asyncio.timeout(self.bounds.handshake_s):
                await stream.handshake()
        except ssl.SSLError as exc:
            if exc.reason == "CALLBACK_FAILED":
                raise Refused(421, "sni_mismatch", "TLS names another host than CONNECT, or none") from None
            words = f"the client ended TLS: {exc.reason}; does it trust the container's certificates?"
            raise Refused(502, "tls_failed", words, denied=False) from None
        return Tunnel(stream, Target(host, port, encrypted=True))

    async def _pass_through(self, door: Door, inner: Stream, attempt: Attempt) -> None:
        """A tunnel whose content nobody sees, to a host that the client's TLS names as CONNECT did."""
        attempt.verified = False
        read = b""
        hello: Hello | None = None
        try:
            async with asyncio.timeout(self.bounds.handshake_s):
                while hello is None:
                    if not (data := await inner.read()):
                        raise ConnectionResetError("the client left during the TLS handshake")
                    read += data
                    hello = parse_hello(read)
        except NotHello as exc:
            raise Refused(400, "not_tls", f"only TLS is passed through: {exc}") from None
        if hello.encrypted or not _is_named(hello, attempt.host):
            raise Refused(421, "sni_mismatch", "TLS names another host than CONNECT, or hides it")
        link = Link(self.dialer, door, self.bounds)
        try:
            outside = await link.dial(Target(attempt.host, attempt.port, encrypted=False), attempt.traffic)
        except DialFailed as exc:
            raise Refused(502, exc.reason, str(exc), denied=exc.reason in FORBIDDEN) from None
        try:
            await relay(Unread(inner, read), Paced(outside, door.turn), self.bounds.tunnel_s)
        finally:
            outside.abort()

    @asynccontextmanager
    async def _attempt(self, door: Door, client: Peer) -> AsyncIterator[Attempt]:
        """One attempt: answered if it is refused in the block, and recorded in any case."""
        attempt, began, use = Attempt(), int(self.now() * 1000), door.use
        door.attempts += 1
        recorded = door.attempts <= self.bounds.container_records
        try:
            yield attempt
        except Refused as refused:
            attempt.decision = "denied" if refused.denied else "allowed"
            attempt.reason, attempt.rule = refused.reason, refused.rule or attempt.rule
            await _answer(client, refused, attempt, [rule.domain for rule in door.policy.rules])
        except BaseException:
            attempt.reason = attempt.reason or "broken_off"
            raise
        finally:
            if attempt.traffic.cut:
                attempt.reason = "byte_limit"
            if attempt.kept and recorded:
                await self.journal.add(attempt.record(door, self.new_id("egr"), began, use))


async def _answer(client: Peer, refused: Refused, attempt: Attempt, domains: Sequence[str]) -> None:
    """Tell the client, if it can still be told; else its connection just ends."""
    if client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        raise ConnectionAbortedError(refused.words)
    attempt.status = refused.status
    head, body = refusal(refused, attempt, domains)
    await client.send(head)
    if attempt.method != "HEAD":
        await client.send(h11.Data(data=body))
    await client.send(h11.EndOfMessage())


def _read_target(target: bytes, origin: Target | None) -> tuple[Target, bytes]:
    """Where a request goes and its path. Raises `Refused`."""
    if origin is not None:
        if not target.startswith(b"/") and target != b"*":
            raise Refused(400, "bad_target", "a request in a tunnel names a path, not a URL")
        return origin, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Refused(400, "bad_target", "this is a proxy: use CONNECT for https, and absolute URLs for http")
    try:
        host, port = split_authority(match[1].decode("ascii"), 80)
    except BadHost as exc:
        raise Refused(400, "bad_host", str(exc)) from None
    path = match[2] or b"/"
    return Target(host, port, encrypted=False), path if path.startswith(b"/") else b"/" + path


def _read_connect(request: h11.Request) -> tuple[str, int]:
    """The host and port of a CONNECT; a Host header must agree (RFC 9110, 9.3.6). Raises `Refused`."""
    try:
        host, port = split_authority(bytes(request.target).decode("ascii"), None)
        for name, value in request.headers:
            if name == b"host" and split_authority(bytes(value).decode("ascii", "replace"), port) != (host, port):
                raise Refused(421, "host_mismatch", "the Host header names another host than CONNECT")
    except BadHost as exc:
        raise Refused(400, "bad_host", str(exc)) from None
    return host, port


def _is_named(hello: Hello, host: str) -> bool:
    if hello.server is None:
        return False
    try:
        return normalise(hello.server) == host
    except BadHost:
        return False
