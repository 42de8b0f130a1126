"""The wire to one upstream: a pooled client, streamed POSTs of JSON, and retries while nothing has been said."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import tenacity

from ..core.errors import UpstreamError
from ..settings import Upstream
from . import failures
from .sse import LONGEST_EVENT, EventSplitter, EventTooLong

T = TypeVar("T")
Chunk = TypeVar("Chunk")
Said = TypeVar("Said", covariant=True)

LONGEST_ERROR_BODY: Final = 64 << 10
LONGEST_DOCUMENT: Final = 8 << 20
LAST_BYTES_S: Final = 0.1
FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""What the client raises: its own errors, time-outs, and bare ones of sockets and of URLs."""
_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried while nothing has been said, and how long to wait in between."""

    attempts: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0


RETRIES: Final = Retries()


class Reader(Protocol[Said]):
    """What a dialect makes of the payloads of one answer."""

    @property
    def ended(self) -> bool:
        """True if the answer is whole; nothing that follows matters."""
        ...

    def feed(self, payload: bytes) -> Sequence[Said]:
        """The chunks that one payload (an event's data, or a whole JSON body) stands for. Raises `UpstreamError`."""
        ...

    def finish(self) -> Sequence[Said]:
        """What is left when the stream is over, a model's `ModelEnd` last. Raises `UpstreamError` if it was cut off."""
        ...


class Exchange:
    """One answer being read. `aclose` closes its connection, unless it was read to the end."""

    def __init__(self, endpoint: "Endpoint", response: aiohttp.ClientResponse) -> None:
        self._endpoint = endpoint
        self._response = response
        self._splitter = EventSplitter()
        self._whole: list[bytes] | None = None
        self._sniffed = False
        self._over = False

    async def read(self) -> list[bytes] | None:
        """The payloads of the next network read, maybe none; None at the end. Raises `UpstreamError`."""
        if self._over:
            return None
        try:
            chunk = await self._response.content.readany()
            if not chunk:
                self._over = True
                return self._last()
            if self._sniffed and self._whole is None:
                return self._splitter.feed(chunk)
            return self._first(chunk)
        except EventTooLong as exc:
            raise UpstreamError(f"The model server {self._endpoint.name!r}: {exc}.") from None
        except FAILURES as exc:
            raise self._endpoint.failed(exc) from exc

    async def drain(self) -> None:
        """Read the few bytes after the answer, so that the connection can be used again."""
        if self._over:
            return
        try:
            async with asyncio.timeout(LAST_BYTES_S):
                while await self._response.content.readany():
                    pass
        except FAILURES:
            return

    async def aclose(self) -> None:
        """Let go of the answer. Safe to call twice."""
        self._over = True
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

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
    """One upstream. Holds its connections, the first of which it makes when it is first used; close it when done."""

    def __init__(self, upstream: Upstream, *, retries: Retries = RETRIES) -> None:
        self.name = upstream.name
        self.key = upstream.key
        self.url = failures.clean(upstream.url, upstream.key)
        # The key says who is asking; a user in the URL as well would be a second answer.
        self._base = re.sub(r"^(\w+://)[^/@]*@", r"\1", upstream.url) if upstream.key else upstream.url
        self._base = self._base.rstrip("/")
        self._retries = retries
        self._idle_s = upstream.idle_timeout_s
        self._connect_s = upstream.connect_timeout_s
        self._opened: aiohttp.ClientSession | None = None

    @property
    def openais_own(self) -> bool:
        """True if OpenAI or Azure answers there, who are stricter and newer than those who copy them."""
        return (urlsplit(self.url).hostname or "").endswith(("openai.com", "azure.com"))

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            headers = {"accept": "text/event-stream, application/json", "accept-encoding": "identity"}
            if self.key:
                headers["authorization"] = f"Bearer {self.key}"
            self._opened = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self._idle_s),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._opened

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.close()

    async def open(self, path: str, body: bytes) -> Exchange:
        """Post JSON and hand back the answer being read. Raises `UpstreamError` if it is not a success."""
        try:
            response = await self._session.post(self._base + path, data=body, headers=_JSON, allow_redirects=False)
        except FAILURES as exc:
            raise self.failed(exc) from exc
        if response.status == 200:
            return Exchange(self, response)
        try:
            raise await self._refusal(response)
        finally:
            response.close()

    async def get_json(self, path: str, timeout_s: float) -> Any:
        """A small JSON document. Raises `UpstreamError`; one try."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(self._base + path, allow_redirects=False) as response,
            ):
                body = await response.content.read(LONGEST_DOCUMENT)
                if response.status != 200:
                    raise failures.from_status(self.name, response.status, response.headers, body, self.key)
        except TimeoutError:
            raise UpstreamError(f"The model server {self.name!r} did not answer within {timeout_s:g} s.") from None
        except FAILURES as exc:
            raise self.failed(exc) from exc
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise failures.garbage(self.name, body, self.key) from None

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

    def failed(self, exc: aiohttp.ClientError | OSError | ValueError) -> UpstreamError:
        """The failure that an exception of the client stands for."""
        return failures.from_transport(self.name, self.url, exc, self._idle_s, self._connect_s)

    async def _refusal(self, response: aiohttp.ClientResponse) -> UpstreamError:
        body = b""
        try:
            async with asyncio.timeout(self._connect_s):
                while len(body) < LONGEST_ERROR_BODY and (chunk := await response.content.readany()):
                    body += chunk
        except FAILURES:
            body = body or b"(its explanation could not be read)"
        return failures.from_status(self.name, response.status, response.headers, body, self.key)


@dataclass(slots=True)
class _Begun(Generic[Chunk]):
    exchange: Exchange
    reader: Reader[Chunk]
    chunks: list[Chunk]
    error: UpstreamError | None = None
    over: bool = False


async def speak(
    endpoint: Endpoint, begin: Callable[[], Awaitable[tuple[Exchange, Reader[Chunk]]]]
) -> AsyncGenerator[Chunk, None]:
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


async def _until_first_chunk(begin: Callable[[], Awaitable[tuple[Exchange, Reader[Chunk]]]]) -> _Begun[Chunk]:
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


async def _next(exchange: Exchange, reader: Reader[Chunk]) -> tuple[list[Chunk], UpstreamError | None, bool]:
    """The chunks of the next read, what broke after them, and whether the answer is over."""
    chunks: list[Chunk] = []
    try:
        payloads = await exchange.read()
        for payload in payloads or ():
            chunks += reader.feed(payload)
            if reader.ended:
                break
        if payloads is not None and not reader.ended:
            return chunks, None, False
        await exchange.drain()
        return [*chunks, *reader.finish()], None, True
    except UpstreamError as exc:
        return chunks, exc, False
