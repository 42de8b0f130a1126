"""The wire to one upstream: a pooled client, streamed POSTs of JSON, and retries while nothing has been said."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import httpx2
import msgspec
import tenacity

from ..core.errors import UpstreamError
from ..ports.model import ModelChunk
from ..settings import Upstream
from . import failures
from .sse import LONGEST_EVENT, EventSplitter, EventTooLong

T = TypeVar("T")

LONGEST_ERROR_BODY: Final = 64 << 10
LAST_BYTES_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried while nothing has been said, and how long to wait in between."""

    attempts: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0


RETRIES: Final = Retries()


class Reader(Protocol):
    """What a dialect makes of the payloads of one answer."""

    @property
    def ended(self) -> bool:
        """True if the answer is whole; nothing that follows matters."""
        ...

    def feed(self, payload: bytes) -> list[ModelChunk]:
        """The chunks that one payload (an event's data, or a whole JSON body) stands for. Raises `UpstreamError`."""
        ...

    def finish(self) -> list[ModelChunk]:
        """The chunks left when the stream is over, `ModelEnd` last. Raises `UpstreamError` if it was cut off."""
        ...


class Exchange:
    """One answer being read. `aclose` closes its connection, unless it was read to the end."""

    def __init__(self, endpoint: "Endpoint", response: httpx2.Response) -> None:
        self._endpoint = endpoint
        self._response = response
        self._reads = response.aiter_bytes()
        self._splitter = EventSplitter()
        self._whole: list[bytes] | None = None
        self._sniffed = False
        self._over = False

    async def read(self) -> list[bytes] | None:
        """The payloads of the next network read, maybe none; None at the end. Raises `UpstreamError`."""
        if self._over:
            return None
        try:
            chunk = await anext(self._reads, None)
            if chunk is None:
                self._over = True
                return self._last()
            if self._sniffed and self._whole is None:
                return self._splitter.feed(chunk)
            return self._first(chunk)
        except EventTooLong as exc:
            raise UpstreamError(f"The model server {self._endpoint.name!r}: {exc}.") from None
        except httpx2.HTTPError as exc:
            raise self._endpoint.failed(exc) from exc

    async def drain(self) -> None:
        """Read the few bytes after the answer, so that the connection can be used again."""
        if self._over:
            return
        try:
            async with asyncio.timeout(LAST_BYTES_S):
                async for _ in self._reads:
                    pass
        except (TimeoutError, httpx2.HTTPError):
            return

    async def aclose(self) -> None:
        """Let go of the answer. Safe to call twice."""
        self._over = True
        await self._reads.aclose()
        await self._response.aclose()

    def _first(self, chunk: bytes) -> list[bytes]:
        # Content types cannot be trusted: some servers send events as text/plain and errors as event streams.
        if self._whole is None:
            start = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
            if not start:
                return []
            self._sniffed = True
            if start[:1] == b"<":
                raise failures.garbage(self._endpoint.name, chunk, self._endpoint.key)
            if start[:1] != b"{":
                return self._splitter.feed(chunk)
            self._whole = []
        self._whole.append(chunk)
        if sum(map(len, self._whole)) > LONGEST_EVENT:
            raise EventTooLong(f"its answer is longer than {LONGEST_EVENT} bytes")
        return []

    def _last(self) -> list[bytes] | None:
        if self._whole is not None:
            return [b"".join(self._whole)]
        return self._splitter.finish() or None


class Endpoint:
    """One upstream. Holds its connections; close it when done.

    `transport` replaces the network.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        retries: Retries = RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = upstream.name
        self.key = upstream.key
        self.url = failures.clean(upstream.url, upstream.key)
        self._base = upstream.url.rstrip("/")
        self._retries = retries
        self._idle_s = upstream.idle_timeout_s
        self._connect_s = upstream.connect_timeout_s
        headers = {"accept": "text/event-stream, application/json", "accept-encoding": "identity"}
        if upstream.key:
            headers["authorization"] = f"Bearer {upstream.key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self._idle_s, connect=self._connect_s, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
            transport=transport,
            # Reading the certificate store takes longer than all else here, and plain HTTP has no use for it.
            verify=not upstream.url.startswith("http://"),
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def open(self, path: str, body: bytes) -> Exchange:
        """Post JSON and hand back the answer being read. Raises `UpstreamError` if it is not a success."""
        headers = {"content-type": "application/json"}
        try:
            request = self._client.build_request("POST", self._base + path, content=body, headers=headers)
            response = await self._client.send(request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise self.failed(exc) from exc
        if response.status_code < 300:
            return Exchange(self, response)
        try:
            raise await self._refusal(response)
        finally:
            await response.aclose()

    async def get_json(self, path: str, timeout_s: float) -> Any:
        """A small JSON document. Raises `UpstreamError`; one try."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.get(self._base + path)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise self.failed(exc) from exc
        except TimeoutError:
            raise UpstreamError(f"The model server {self.name!r} did not answer within {timeout_s:g} s.") from None
        if response.status_code != 200:
            raise failures.from_status(self.name, response.status_code, response.headers, response.content, self.key)
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            raise failures.garbage(self.name, response.content, self.key) from None

    async def retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt`, tried again with growing pauses while it fails in a way that may pass."""
        backoff = tenacity.wait_exponential_jitter(
            multiplier=self._retries.first_wait_s, max=self._retries.longest_wait_s, jitter=self._retries.first_wait_s
        )

        def wait(state: tenacity.RetryCallState) -> float:
            exc = state.outcome.exception() if state.outcome else None
            asked = exc.retry_after if isinstance(exc, UpstreamError) else None
            return asked if asked is not None else backoff(state)

        again = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._retries.attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(lambda exc: isinstance(exc, UpstreamError) and exc.retryable),
            reraise=True,
        )

        async def tried() -> T:  # tenacity looks for a coroutine function
            return await attempt()

        return await again(tried)

    def failed(self, exc: httpx2.HTTPError | httpx2.InvalidURL) -> UpstreamError:
        """The failure that an exception of the client stands for."""
        if isinstance(exc, httpx2.InvalidURL):
            return UpstreamError(f"The URL of the model server {self.name!r} is not valid.")
        return failures.from_transport(self.name, self.url, exc, self._idle_s, self._connect_s)

    async def _refusal(self, response: httpx2.Response) -> UpstreamError:
        body = b""
        try:
            async with asyncio.timeout(self._connect_s), aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= LONGEST_ERROR_BODY:
                        break
        except (httpx2.HTTPError, TimeoutError):
            body = body or b"(its explanation could not be read)"
        headers: Mapping[str, str] = response.headers
        return failures.from_status(self.name, response.status_code, headers, body, self.key)


@dataclass(slots=True)
class _Begun:
    exchange: Exchange
    reader: Reader
    chunks: list[ModelChunk]
    error: UpstreamError | None = None
    over: bool = False


async def speak(
    endpoint: Endpoint, begin: Callable[[], Awaitable[tuple[Exchange, Reader]]]
) -> AsyncGenerator[ModelChunk, None]:
    """What an upstream answers, as its dialect's reader understands it.

    `begin` posts the request; it is called again while the answer fails before its first chunk. Raises `UpstreamError`.
    """
    begun = await endpoint.retrying(lambda: _until_first_chunk(begin))
    exchange, reader, chunks = begun.exchange, begun.reader, begun.chunks
    error, over = begun.error, begun.over
    try:
        while True:
            for chunk in chunks:
                yield chunk
            if error is not None:
                error.retryable = False
                raise error
            if over:
                return
            chunks, error, over = await _next(exchange, reader)
    finally:
        await exchange.aclose()


async def _until_first_chunk(begin: Callable[[], Awaitable[tuple[Exchange, Reader]]]) -> _Begun:
    exchange, reader = await begin()
    try:
        while True:
            chunks, error, over = await _next(exchange, reader)
            if chunks or over:
                return _Begun(exchange, reader, chunks, error, over)
            if error is not None:
                raise error
    except BaseException:
        await exchange.aclose()
        raise


async def _next(exchange: Exchange, reader: Reader) -> tuple[list[ModelChunk], UpstreamError | None, bool]:
    """The chunks of the next read, what broke after them, and whether the answer is over."""
    chunks: list[ModelChunk] = []
    try:
        payloads = await exchange.read()
        for payload in payloads or ():
            chunks += reader.feed(payload)
            if reader.ended:
                break
        if payloads is not None and not reader.ended:
            return chunks, None, False
        await exchange.drain()
        return chunks + reader.finish(), None, True
    except UpstreamError as exc:
        return chunks, exc, False
