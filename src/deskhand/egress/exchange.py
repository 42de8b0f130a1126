"""One HTTP request and its answer: judged, given its secrets, passed on, and masked on the way back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import h11

from .bounds import Bounds
from .decoding import BadEncoding, Decoder, decoder
from .dialer import FORBIDDEN, Dialer, DialFailed
from .door import Attempt, Door, Refused
from .hosts import BadHost, split_authority
from .http1 import LONGEST_HEAD, Peer, has_body, head_size, passed_on, values, wants_websocket
from .policy import Allow, Deny, Destination, decide
from .secrets import Headers, Masking, Misplaced
from .streams import MaskedStream, Metered, Paced, Traffic, Unread, relay

MOST_INFORMATIONAL: Final = 64
"""Interim answers (1xx), and waits for a slow upload, before the answer to a request."""

_UNTOLD: Final = (b"alt-svc", b"public-key-pins")
"""Of a response: ways to the host that lead past the proxy, and keys that are not the proxy's."""

_DIGESTS: Final = (b"content-md5", b"digest", b"content-digest", b"repr-digest")

_DISGUISES: Final = (b"x-http-method", b"x-http-method-override", b"x-method-override",
                     b"x-original-url", b"x-rewrite-url", b"x-override-url")  # fmt: skip
"""Of a request: other methods and paths than it has, as some servers and frameworks take them from headers."""
_CREDENTIALS: Final = (b"authorization", b"cookie")
_SAFE: Final = (b"GET", b"HEAD", b"OPTIONS")
"""Methods that may be sent again (RFC 9110, 9.2.1)."""
_SWITCH: Final = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
_FAILED: Final = (h11.ProtocolError, OSError)


@dataclass(frozen=True, slots=True)
class Target:
    """The origin that a connection speaks to."""

    host: str
    port: int
    encrypted: bool


class Link:
    """The connection to the outside that one connection of the container holds."""

    def __init__(self, dialer: Dialer, door: Door, bounds: Bounds) -> None:
        self._dialer = dialer
        self._door = door
        self._bounds = bounds
        self._target: Target | None = None
        self._stream: Metered | None = None
        self._peer: Peer | None = None

    async def peer(self, target: Target, traffic: Traffic) -> tuple[Peer, bool]:
        """A connection to `target` that is ready for a request, and whether it was used before.

        What moves counts as `traffic`. Raises `DialFailed`.
        """
        if self._peer is not None and self._stream is not None:
            if self._target == target and self._peer.reusable and not self._stream.at_end:
                self._peer.http.start_next_cycle()
                self._stream.traffic = traffic
                return self._peer, True
            await self.close()
        self._stream = await self.dial(target, traffic)
        self._peer, self._target = Peer(Paced(self._stream, self._door.turn), h11.CLIENT, self._door.turn), target
        return self._peer, False

    async def dial(self, target: Target, traffic: Traffic) -> Metered:
        """A connection of the caller's own. What moves counts as `traffic`. Raises `DialFailed`."""
        async with self._door.dialling:
            stream = await self._dialer.dial(target.host, target.port, encrypted=target.encrypted)
        return Metered(stream, lambda size: self._door.spend(size, self._bounds), traffic)

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""
        stream, self._stream, self._peer = self._stream, None, None
        if stream is not None:
            stream.abort()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as it leaves, and how its answer is read."""

    request: h11.Request
    websocket: bool
    body: bool

    @property
    def retriable(self) -> bool:
        """True if it may be sent twice."""
        return not self.body and self.request.method in _SAFE


class Exchange:
    """One request of a container to `target`. Raises `Refused`, `h11.ProtocolError` (the client's) and `OSError`."""

    def __init__(self, door: Door, client: Peer, link: Link, target: Target, attempt: Attempt, bounds: Bounds) -> None:
        self._door = door
        self._vault = door.vault
        self._client = client
        self._link = link
        self._target = target
        self._attempt = attempt
        self._bounds = bounds

    async def run(self, request: h11.Request, path: bytes) -> None:
        """Judge the request and, if it may leave, bring back its answer."""
        prepared = self._prepare(request, path)
        upstream, used = await self._connect()
        try:
            await upstream.send(prepared.request)
            if used and prepared.retriable:
                # The other side may just have closed a connection that was idle: its first bytes tell.
                upstream = await self._again_if_closed(upstream, prepared)
        except _FAILED:
            raise self._broken() from None
        if (failed := await self._talk(upstream, prepared)) is not None:
            raise failed

    def _prepare(self, request: h11.Request, path: bytes) -> Prepared:
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        self._check_host(headers)
        if values(headers, b"transfer-encoding") and values(headers, b"content-length"):
            raise Refused(400, "ambiguous_length", "a request has a Content-Length or a Transfer-Encoding, not both")
        allow = self._judge(request.method.decode("ascii", "replace"), path)
        sent = self._sent(headers, allow)
        injected = self._vault.inject(path, sent, self._target.host, encrypted=self._target.encrypted)
        if isinstance(injected, Misplaced):
            raise Refused(403, "secret_misplaced", f"${injected.name}: {injected.why}")
        self._attempt.secrets = tuple(injected.names)
        websocket = wants_websocket(headers) and not allow.bare
        switch = _SWITCH if websocket else ()
        body = has_body(headers)
        if body and allow.bare:
            raise Refused(403, "body_not_allowed", "a package mirror takes no body", rule=allow.rule.label)
        lengths = [(b"transfer-encoding", b"chunked")] if values(headers, b"transfer-encoding") else []
        authority = (b"host", self._authority())
        spelled = [authority, *injected.headers, *switch, *lengths]
        if head_size(spelled) > 2 * LONGEST_HEAD:
            raise Refused(431, "head_too_long", "with the values of its secrets the request's head is too long")
        final = h11.Request(method=request.method, target=path, headers=spelled)
        return Prepared(final, websocket, body)

    def _check_host(self, headers: Headers) -> None:
        """The Host header, if there is one, names the target (RFC 9110, 7.4)."""
        for _, value in filter(lambda header: header[0] == b"host", headers):
            try:
                named = split_authority(value.decode("ascii", "replace"), 443 if self._target.encrypted else 80)
            except BadHost as exc:
                raise Refused(400, "bad_host", str(exc)) from None
            if named != (self._target.host, self._target.port):
                raise Refused(421, "host_mismatch", "the Host header names another host than the connection")

    def _judge(self, method: str, path: bytes) -> Allow:
        target = self._target
        if method.upper() in ("TRACE", "TRACK", "CONNECT"):
            raise Refused(405, "method_not_allowed", f"{method} is never passed on")
        self._door.check(self._bounds)
        destination = Destination(target.host, target.port, method, path.decode("ascii", "surrogateescape"))
        match decide(self._door.policy, destination):
            case Deny(reason, rule):
                raise Refused(403, reason, "the network policy of this container does not allow this", rule=rule)
            case allow:
                self._attempt.rule = allow.rule.label
                return allow

    def _sent(self, headers: Headers, allow: Allow) -> list[tuple[bytes, bytes]]:
        without: list[bytes] = [b"host"]
        if allow.rule.methods or allow.rule.path_prefixes or allow.bare:
            # A gateway interface (CGI, WSGI) reads both signs as the same.
            without += [name for name, _ in headers if name.replace(b"_", b"-") in _DISGUISES]
        if allow.bare:
            without += (*_CREDENTIALS, b"content-length")
        if not self._vault.empty:
            # A compressed answer, or a part of one, would have to be taken apart to be masked.
            without += (b"accept-encoding", b"range", b"if-range", b"sec-websocket-extensions")
        sent = passed_on(headers, without)
        return sent if self._vault.empty else [*sent, (b"accept-encoding", b"identity")]

    def _authority(self) -> bytes:
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        default = 443 if self._target.encrypted else 80
        return (host if self._target.port == default else f"{host}:{self._target.port}").encode()

    async def _connect(self) -> tuple[Peer, bool]:
        try:
            return await self._link.peer(self._target, self._attempt.traffic)
        except DialFailed as exc:
            denied = exc.reason in FORBIDDEN
            raise Refused(403 if denied else 502, exc.reason, str(exc), denied=denied) from None

    async def _again_if_closed(self, upstream: Peer, prepared: Prepared) -> Peer:
        await upstream.send(h11.EndOfMessage())
        try:
            upstream.http.receive_data(await self._first_bytes(upstream))
        except ConnectionError:
            await self._link.close()
            upstream, _ = await self._connect()
            await upstream.send(prepared.request)
            await upstream.send(h11.EndOfMessage())
        return upstream

    async def _first_bytes(self, upstream: Peer) -> bytes:
        async with asyncio.timeout(self._bounds.answer_s):
            data = await upstream.stream.read()
        if not data:
            raise ConnectionResetError("closed while it was idle")
        return data

    async def _talk(self, upstream: Peer, prepared: Prepared) -> Refused | None:
        """Send the body and, at the same time, bring back the answer, which may come first."""
        if not prepared.body:
            await self._send_body(upstream)
            return await self._answer(upstream, prepared, lambda: True)
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(self._send_body(upstream))
            try:
                return await self._answer(upstream, prepared, upload.done)
            finally:
                upload.cancel()

    async def _send_body(self, upstream: Peer) -> None:
        open_ = upstream.http.our_state is h11.SEND_BODY
        async for data in _within(self._client.body(), self._bounds.answer_s):
            if open_ and not await _try_send(upstream, h11.Data(data=data)):
                return  # it does not want the rest; the answer says why
        if open_:
            await _try_send(upstream, h11.EndOfMessage())

    async def _answer(self, upstream: Peer, prepared: Prepared, sent: Callable[[], bool]) -> Refused | None:
        try:
            head = await self._head(upstream, prepared, sent)
            reading = None if head.status_code == 101 else decoder(self._encodings(head))
        except _FAILED:
            return self._broken()
        except BadEncoding as exc:
            return Refused(502, "unreadable_response", str(exc), denied=False)
        self._attempt.status = head.status_code
        await self._client.send(self._shown(head))
        if reading is None:
            await self._switch(upstream)
            return None
        # From here on a failure is an end of the connection: half an answer must not look like a whole one.
        try:
            async for piece in self._pieces(upstream, reading):
                await self._client.send(h11.Data(data=piece))
        except BadEncoding as exc:
            raise ConnectionAbortedError(str(exc)) from None
        await self._client.send(h11.EndOfMessage())
        return None

    async def _head(
        self, upstream: Peer, prepared: Prepared, sent: Callable[[], bool]
    ) -> h11.Response | h11.InformationalResponse:
        for _ in range(MOST_INFORMATIONAL):
            try:
                async with asyncio.timeout(self._bounds.answer_s):
                    event = await upstream.next_event()
            except TimeoutError:
                if not sent():
                    continue  # it waits for us
                raise
            match event:
                case h11.InformationalResponse(status_code=101) if prepared.websocket:
                    return event
                case h11.InformationalResponse():
                    continue
                case h11.Response():
                    return event
                case _:
                    raise ConnectionResetError("there was no answer")
        raise ConnectionResetError("there was no end of interim answers")

    async def _pieces(self, upstream: Peer, reading: Decoder) -> AsyncIterator[bytes]:
        masking = Masking(self._door.vault.mask)
        async for data in _within(upstream.body(), self._bounds.answer_s):
            masking.mask = self._door.vault.mask  # a value may have been exchanged meanwhile
            for piece in reading.feed(data):
                if told := masking.feed(piece):
                    yield told
        reading.finish()
        if told := masking.finish():
            yield told

    def _encodings(self, head: h11.Response | h11.InformationalResponse) -> list[bytes]:
        """What must be undone before the body can be masked."""
        return [] if self._vault.empty else values(list(head.headers), b"content-encoding")

    def _shown(self, head: h11.Response | h11.InformationalResponse) -> h11.Response | h11.InformationalResponse:
        if self._vault.empty:
            headers = passed_on(head.headers, _UNTOLD)
            reason = bytes(head.reason)
        else:
            mask = self._door.vault.mask
            without = {*_UNTOLD, *_DIGESTS, b"content-encoding", b"accept-ranges"}
            if not self._keeps_length(head):
                without.add(b"content-length")
            headers = [(name, mask.whole(value)) for name, value in passed_on(head.headers, without)]
            reason = mask.whole(bytes(head.reason))
        if isinstance(head, h11.InformationalResponse):
            return h11.InformationalResponse(status_code=101, headers=[*headers, *_SWITCH], reason=reason)
        return h11.Response(status_code=head.status_code, headers=headers, reason=reason)

    def _keeps_length(self, head: h11.Response | h11.InformationalResponse) -> bool:
        """True if the length is that of a body that is not sent."""
        return head.status_code in (204, 304) or self._attempt.method == "HEAD"

    async def _switch(self, upstream: Peer) -> None:
        """Pass a WebSocket through. Values are blotted out without a change of length, as its frames count bytes."""
        inside = Unread(self._client.stream, self._client.rest)
        outside = MaskedStream(Unread(upstream.stream, upstream.rest), lambda: self._door.vault.blank)
        await relay(inside, Paced(outside, self._door.turn), self._bounds.tunnel_s)

    def _broken(self) -> Refused:
        host = self._target.host
        return Refused(502, "upstream_broken", f"'{host}' broke off or answered no proper HTTP", denied=False)


async def _within(pieces: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The pieces, each of which comes within `seconds`. Raises `TimeoutError`."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                data = await anext(pieces)
        except StopAsyncIteration:
            return
        yield data


async def _try_send(peer: Peer, event: h11.Data | h11.EndOfMessage) -> bool:
    with suppress(OSError):
        await peer.send(event)
        return True
    return False
