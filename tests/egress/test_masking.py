"""Values that an upstream sends back, in whatever shape and pieces, through the real proxy."""

import asyncio
import base64
import gzip
import json
import zlib

import brotli  # type: ignore[import-untyped]  # it has no types
import pytest

from deskhand.egress.secrets import Vault

from .world import PLACEHOLDER, VALUE, World

pytestmark = pytest.mark.anyio

BODY = f'{{"a": "{VALUE}", "b": "{base64.b64encode(f"u:{VALUE}".encode()).decode()}"}}'.encode()


async def test_a_value_in_headers_and_reason_is_masked(world: World) -> None:
    echo = f"HTTP/1.1 200 {VALUE}\r\nX-Echo: Bearer {VALUE}\r\nLocation: /?k={VALUE}\r\nContent-Length: 0\r\n\r\n"
    world.tls.answer = echo.encode()
    answer = await world.get()
    assert VALUE not in answer.head
    assert answer.headers["x-echo"] == f"Bearer {PLACEHOLDER}"
    assert answer.head.count(PLACEHOLDER) == 3


async def test_a_value_in_a_body_is_masked_whatever_its_pieces(world: World) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    for size in (1, 3, len(VALUE) - 1, len(VALUE), 1000):
        world.tls.pieces = [head, *(BODY[start : start + size] for start in range(0, len(BODY), size))]
        answer = await world.get()
        told = json.loads(answer.body)
        assert told["a"] == PLACEHOLDER
        assert base64.b64encode(VALUE.encode())[4:-4].decode() not in told["b"]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br"])
async def test_a_value_in_a_compressed_body_is_masked_and_sent_plain(world: World, encoding: str) -> None:
    pack = {"deflate": zlib.compress, "br": brotli.compress}.get(encoding, gzip.compress)
    packed = pack(BODY)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = [b"%x\r\n%s\r\n" % (len(packed[i : i + 9]), packed[i : i + 9]) for i in range(0, len(packed), 9)]
    world.tls.pieces = [head, *chunks, b"0\r\n\r\n"]
    answer = await world.get("/", "ok.test", "Accept-Encoding: gzip, br")
    assert json.loads(answer.body)["a"] == PLACEHOLDER
    assert "content-encoding" not in answer.headers
    assert b"accept-encoding: identity" in world.tls.requests[0].lower()


async def test_a_body_that_cannot_be_read_does_not_arrive(world: World) -> None:
    packed = gzip.compress(BODY)
    for encoding, body, reason in (
        ("zstd", BODY, "unreadable_response"),
        ("gzip, gzip", gzip.compress(packed), "unreadable_response"),
    ):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
        world.tls.answer = head.encode() + body
        answer = await world.get()
        assert (answer.status, json.loads(answer.body)["reason"]) == (502, reason)
    for body in (BODY, packed[:-9], packed + b"garbage"):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        world.tls.answer = head.encode() + body
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await world.get()
    assert [record.reason for record in await world.records()][2:] == ["broken_off"] * 3


async def test_a_part_of_an_answer_cannot_be_asked_for(world: World) -> None:
    await world.get("/", "ok.test", "Range: bytes=0-5", "If-Range: x")
    assert b"range" not in world.tls.requests[0].lower()
    world.door.vault = Vault()
    await world.get("/", "ok.test", "Range: bytes=0-5")
    assert b"range: bytes=0-5" in world.tls.requests[1].lower()


async def test_events_are_told_as_they_come(world: World) -> None:
    """What cannot be the beginning of a value is not held back."""
    first, last = b"data: one\n\n", b"data: two\n\n"
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + first)
        await writer.drain()
        await released.wait()
        writer.write(last)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    world.door.policy = type(world.door.policy)(
        tuple(type(rule)(rule.domain, (*rule.ports, port)) for rule in world.door.policy.rules),
        tuple(type(rule)(rule.domain, (*rule.ports, port)) for rule in world.door.policy.ceiling),
    )
    reader, writer = await world.dial()
    writer.write(f"GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert first in await reader.readuntil(first)
        released.set()
        assert last in await reader.readuntil(last)
    server.close()


async def test_without_secrets_a_body_passes_as_it_is(world: World) -> None:
    world.door.vault = Vault()
    packed = gzip.compress(BODY)
    world.tls.answer = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed
    )
    answer = await world.get("/", "ok.test", "Accept-Encoding: gzip")
    assert answer.body == packed
    assert answer.headers["content-length"] == str(len(packed))
    assert b"accept-encoding: gzip" in world.tls.requests[0].lower()


async def test_the_answer_to_head_keeps_its_length(world: World) -> None:
    world.tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
    answer = await world.https(f"HEAD / HTTP/1.1\r\nHost: ok.test:{world.tls.port}\r\n\r\n".encode())
    assert (answer.status, answer.headers["content-length"]) == (200, "12345")


async def test_no_record_holds_a_value(world: World) -> None:
    await world.get(f"/{VALUE.replace('=', '')}/{VALUE}")
    (record,) = await world.records()
    assert VALUE not in repr(record)
    assert PLACEHOLDER in record.path
