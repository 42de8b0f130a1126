"""One POST to the outside, against servers that do what they want."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.egress.dialer import Dialer
from deskhand.egress.http1 import Peer
from deskhand.egress.post import Poster, PostFailed, Reply
from deskhand.egress.urls import BadUrl, Url, parse_url

from .world import Issuer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@asynccontextmanager
async def played(play: Play, issuer: Issuer | None = None) -> AsyncIterator[int]:
    """A server that does what `play` does with each connection; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await play(reader, writer)
        except OSError:
            return
        finally:
            writer.close()

    context = None if issuer is None else issuer.server("ok.test")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def poster(issuer: Issuer, timeout_s: float = 5.0, addresses: Sequence[str] = ("127.0.0.1",)) -> Poster:
    """One to which `ok.test` may be private; the resolver says the same of every name."""

    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return Poster(Dialer(issuer.trust(), {"ok.test"}, resolve=resolve), timeout_s)


def saying(data: bytes) -> Play:
    """Read a request, then write `data`."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(data)
        await writer.drain()

    return play


async def post(poster: Poster, port: int, scheme: str = "http", host: str = "ok.test") -> Reply:
    return await poster.post(parse_url(f"{scheme}://{host}:{port}/hook?a=1"), {"x-test": "1"}, b"{}")


async def test_what_is_sent_is_what_was_given(issuer: Issuer) -> None:
    seen: list[bytes] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"{}"))
        writer.write(OK)

    async with played(play) as port:
        assert await post(poster(issuer), port) == Reply(200)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    first, *lines = head.lower().decode().split("\r\n")
    assert first == "post /hook?a=1 http/1.1"
    assert set(lines) == {f"host: ok.test:{port}", "x-test: 1", "content-length: 2", "connection: close"}
    assert body == b"{}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK, Reply(200)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Reply(204)),
        (b"HTTP/1.0 200 OK\r\n\r\nold", Reply(200)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://ok.test/\r\nContent-Length: 0\r\n\r\n", Reply(302)),
        (b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Reply(503, "7")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, Reply(200)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off", Reply(200)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense", Reply(200)),
        (b"", None),
        (b"SSH-2.0-OpenSSH_9.0\r\n", None),
        (b"HTTP/1.1 200 OK\r\nA", None),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, None),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 100, None),
    ],
)
async def test_answers_of_every_kind(issuer: Issuer, data: bytes, expected: Reply | None) -> None:
    async with played(saying(data)) as port:
        if expected is not None:
            assert await post(poster(issuer), port) == expected
            return
        with pytest.raises(PostFailed, match=r"without an answer|broke"):
            await post(poster(issuer), port)


async def test_little_of_an_answer_is_read(issuer: Issuer) -> None:
    written = 0
    over = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
                written += 1 << 16
        finally:
            over.set()

    async with played(play) as port:
        assert await post(poster(issuer), port) == Reply(200)
        # Without end it would go on; what the sockets' buffers took is not what was read.
        await asyncio.wait_for(over.wait(), 30)
    assert written < 64 << 20


async def test_silence_ends(issuer: Issuer) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early\r\n\r\n"[:1])
            await writer.drain()
            await asyncio.sleep(0.05)

    async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await reader.read()

    for play in (hang, drip):
        async with played(play) as port:
            with pytest.raises(PostFailed, match="within"):
                await post(poster(issuer, timeout_s=0.3), port)
    async with played(slow_body) as port:
        assert await post(poster(issuer), port) == Reply(200)


async def test_certificates_are_checked(issuer: Issuer) -> None:
    async with played(saying(OK), issuer) as port:
        assert await post(poster(issuer), port, "https") == Reply(200)
        with pytest.raises(PostFailed, match="certificate"):
            await post(
                replace(poster(issuer), dialer=replace(poster(issuer).dialer, private_hosts={"no.test"})),
                port,
                "https",
                "no.test",
            )
        with pytest.raises(PostFailed, match="certificate"):
            await post(poster(Issuer()), port, "https")


async def test_names_are_judged_by_every_address_they_have(issuer: Issuer) -> None:
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await saying(OK)(reader, writer)

    async with played(play) as port:
        for addresses in (("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("::ffff:127.0.0.1",), ("10.0.0.1",)):
            with pytest.raises(PostFailed, match="private address"):
                await post(poster(issuer, addresses=addresses), port, host="rebound.test")
        with pytest.raises(PostFailed, match="never called"):
            await post(poster(issuer, addresses=("169.254.169.254",)), port)
        with pytest.raises(PostFailed, match="has no address"):
            await post(poster(issuer, addresses=()), port)
        assert connections == 0
        assert await post(poster(issuer), port) == Reply(200)
        assert connections == 1


async def test_a_name_is_resolved_once_for_each_post(issuer: Issuer) -> None:
    """What was checked is what is dialled: an answer that changes is never asked for."""
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return ["203.0.113.1"] if len(asked) > 1 else ["127.0.0.1"]

    async with played(saying(OK)) as port:
        changing = Poster(Dialer(issuer.trust(), {"ok.test"}, resolve=rebinding), 5)
        assert await post(changing, port) == Reply(200)
    assert asked == ["ok.test"]


def test_urls_are_read_in_one_way() -> None:
    assert parse_url("https://Example.COM.") == Url("example.com", 443, True, "/")
    assert parse_url("http://[::1]:81/a/b?c=d%20e") == Url("::1", 81, False, "/a/b?c=d%20e")
    assert parse_url("http://[::1]:81/").authority == "[::1]:81"
    assert parse_url("http://a.test:80/").authority == "a.test"
    assert parse_url("https://a.test:80?x").authority == "a.test:80"
    assert parse_url("https://a.test:80?x").target == "/?x"


@given(st.text(max_size=30), st.sampled_from(["", "http://", "https://", "https://a.test/", "http://a.test:80?"]))
def test_any_url_is_read_or_refused(text: str, start: str) -> None:
    try:
        url = parse_url(start + text)
    except BadUrl:
        return
    assert url.target.startswith("/")
    assert url.target.isascii()
    assert url.target.isprintable()
    assert " " not in url.target
    assert 1 <= url.port <= 65535
    assert parse_url(f"{'https' if url.encrypted else 'http'}://{url.authority}{url.target}") == url


class Here:
    """A stream whose bytes are all here already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        given, self._data = self._data, b""
        return given

    async def write(self, data: bytes) -> None:
        """Nobody listens."""

    async def end(self) -> None:
        """Nobody listens."""


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_body_in_crumbs_keeps_nobody_waiting(size: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (size, b"a" * size)
    count = max(20_000 // size, 1)
    peer = Peer(
        Here(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * count + b"0\r\n\r\n"), h11.CLIENT
    )
    await peer.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    await peer.send(h11.EndOfMessage())
    await peer.response()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    pieces = [piece async for piece in peer.body()]
    task.cancel()
    assert b"".join(pieces) == b"a" * (size * count)
    assert len(pieces) <= count / 100 + 1
    assert turns >= len(pieces)
    assert peer.reusable
