"""N, S: on the proxy that all containers share. The oracle is what the servers outside see, and what is recorded."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import asyncio
import base64
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from deskhand.egress.dialer import Dialer, DialFailed
from deskhand.egress.door import Door
from deskhand.egress.gate import opened
from deskhand.egress.journal import Journal
from deskhand.egress.policy import Policy, Rule
from deskhand.egress.resolver import Resolver
from deskhand.egress.secrets import Secret, Vault
from deskhand.ports.store import EgressRecord

from ..egress.world import KEY, PLACEHOLDER, Sink, World
from .cases import case

pytestmark = pytest.mark.anyio

MOST_BYTES: Final = 100_000
CONNECTIONS: Final = 200


class Database(Sink):
    """Takes its time."""

    async def add(self, records: Sequence[EgressRecord]) -> None:
        await asyncio.sleep(0)
        await super().add(records)


def limit(world: World, **bounds: int) -> None:
    """Give the container other bounds."""
    world.gate._proxy = replace(world.proxy, bounds=replace(world.proxy.bounds, **bounds))


@case("N32", "go on beyond the operator's bound of bytes in one answer, one upload, a WebSocket, a tunnel that nobody looks into",
      "cut off where the bound is, and recorded so")  # fmt: skip
@pytest.mark.parametrize("way", ["answer", "upload", "websocket", "tunnel"])
async def test_what_goes_on_for_ever_ends_where_a_containers_bytes_do(world: World, way: str) -> None:
    port = world.tls.port
    limit(world, container_bytes=MOST_BYTES)
    endless = b"x" * 50_000
    world.tls.pieces = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[endless] * 20]
    host, trust = "ok.test", world.client_trust()
    asked = f"GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode()
    match way:
        case "upload":
            asked = (
                f"POST / HTTP/1.1\r\nHost: ok.test:{port}\r\nContent-Length: 1000000\r\n\r\n".encode() + endless * 20
            )
        case "websocket":
            switch = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            world.tls.pieces = [f"HTTP/1.1 101 Switching\r\n{switch}\r\n".encode(), *[endless] * 20]
            asked = f"GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n{switch}\r\n".encode()
        case "tunnel":
            host, trust = "tunnel.test", world.issuer.trust()
    tunnel = await world.connect(f"{host}:{port}")
    await tunnel.start_tls(trust, host)
    tunnel.writer.write(asked)
    came = 0
    with suppress(OSError):
        while data := await tunnel.reader.read(65536):
            came += len(data)
    assert came <= MOST_BYTES
    (record,) = await world.records()
    assert (record.reason, record.decision) == ("byte_limit", "allowed")
    assert record.bytes_in + record.bytes_out <= MOST_BYTES
    assert (await world.connect(f"tunnel.test:{port}")).answer.status == 403


@case("N33", "hide a request by more attempts than are recorded: connections that were opened before, an upload that outlasts them",
      "what is not recorded does not leave")  # fmt: skip
async def test_nothing_leaves_that_is_not_recorded(world: World) -> None:
    port = world.tls.port
    limit(world, container_records=12)
    early = [await world.dial() for _ in range(3)]
    upload = await world.connect(f"ok.test:{port}")
    await upload.start_tls(world.client_trust(), "ok.test")
    upload.writer.write(f"POST /slow HTTP/1.1\r\nHost: ok.test:{port}\r\nContent-Length: 4\r\n\r\nab".encode())
    await asyncio.sleep(0.1)
    for _ in range(10):
        assert (await world.connect("denied.test:443")).answer.status == 403
    for reader, writer in early:
        writer.write(f"CONNECT tunnel.test:{port} HTTP/1.1\r\nHost: tunnel.test:{port}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"403"
    assert (await upload.request(b"cd")).status == 200
    assert world.tls.connections == 1
    assert [record.path for record in await world.records() if record.decision == "allowed"] == ["/slow"]


@case("N34", "send and be sent heads of twelve thousand lines", "refused before they are looked at line by line")
async def test_a_head_has_few_lines(world: World) -> None:
    port = world.tls.port
    for ending in ("\r\n", "\n"):
        for lines, status in ((200, 200), (12_000, 431)):
            head = [f"GET /{lines} HTTP/1.1", f"Host: ok.test:{port}", *["a:"] * lines, "", ""]
            assert (await world.https(ending.join(head).encode())).status == status
            pipelined = f"GET /first HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n" + ending.join(head)
            tunnel = await world.connect(f"ok.test:{port}")
            await tunnel.start_tls(world.client_trust(), "ok.test")
            assert (await tunnel.request(pipelined.encode())).status == 200
            assert (await tunnel.read()).status == status
    assert {request.split()[1] for request in world.tls.requests} == {b"/200", b"/first"}
    for lines, status in ((200, 200), (12_000, 502)):
        world.tls.answer = b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * lines + b"Content-Length: 0\r\n\r\n"
        assert (await world.get()).status == status


@case(
    "N34",
    "have all of a container's connections ask at once, all the time",
    "another container's request takes its turn",
)
async def test_another_container_is_served_in_its_turn(world: World, tmp_path: Path) -> None:
    limit(world, connections=CONNECTIONS + 1)
    request = f"GET http://ok.test:{world.plain.port}/ HTTP/1.1\r\nHost: ok.test:{world.plain.port}\r\n\r\n".encode()

    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(request)
            answers.put_nowait(await reader.readuntil(b"hi"))

    other = Door("proj", "cntr_2", world.door.policy)
    async with opened(world.proxy, other, tmp_path / "other.sock"), asyncio.TaskGroup() as group:
        hogs = [group.create_task(ask(*await world.dial())) for _ in range(CONNECTIONS)]
        for _ in range(3 * CONNECTIONS):
            await answers.get()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "other.sock"))
        before = world.door.attempts
        writer.write(request)
        await reader.readuntil(b"hi")
        meanwhile = world.door.attempts - before
        for _ in range(2 * CONNECTIONS + answers.qsize()):  # the control: they go on asking
            await answers.get()
        for hog in hogs:
            hog.cancel()
        writer.close()
    assert meanwhile < CONNECTIONS / 2


@case("N34", "connect as often as there is room, for nothing", "another container's request takes its turn")
async def test_connections_are_accepted_in_turn(world: World, tmp_path: Path) -> None:
    limit(world, connections=CONNECTIONS)
    request = f"GET http://ok.test:{world.plain.port}/ HTTP/1.1\r\nHost: ok.test:{world.plain.port}\r\n\r\n".encode()
    other = Door("proj", "cntr_2", world.door.policy)
    with ExitStack() as waiting:
        async with opened(world.proxy, other, tmp_path / "other.sock"):
            for _ in range(90):  # all in one go, while the server does not run
                waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(world.socket))
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "other.sock"))
            writer.write(request)
            await reader.readuntil(b"hi")
            accepted = world.door.connections
            writer.close()
        reader, writer = await world.dial()
        writer.write(request)
        await reader.readuntil(b"hi")
        assert world.door.connections == 91, "the control: they are accepted"
    assert accepted < 45


@case("N34", "try so much that there are always records to write", "another container's are told none the less")
async def test_records_of_others_are_told(world: World) -> None:
    """Those that are there when somebody asks, and not those that come meanwhile."""
    await world.get()
    (record,) = await world.records()
    sink, added = Database(), asyncio.Event()

    async def flood() -> None:
        for number in range(20_000):
            await journal.add(replace(record, container_id="cntr_2"))
            if number == 5_000:
                added.set()

    journal = Journal(sink)
    async with journal.writing(), asyncio.TaskGroup() as group:
        floods = [group.create_task(flood()) for _ in range(3)]
        await added.wait()
        await journal.add(record)
        await journal.settled()
        assert record in sink.records
        assert not any(task.done() for task in floods), "the control: the others go on"
    assert len(sink.records) == 60_001


@case(
    "N35", "have names looked up whose name servers never answer", "nothing else that the server does in threads waits"
)
async def test_names_without_an_answer_hold_nothing_up(world: World) -> None:
    silent = threading.Event()
    looked: list[str] = []
    assert isinstance(Dialer(world.issuer.trust()).resolve, Resolver)

    def look(host: str) -> Sequence[str]:
        looked.append(host)
        if host.endswith(".silent.test"):
            silent.wait()
        return ["127.0.0.1"]

    dialer = Dialer(world.issuer.trust(), {"good.test"}, timeout_s=0.1, resolve=Resolver(look, at_once=40))
    try:
        for _ in range(3):
            names = [f"{number}.silent.test" for number in range(10)]
            dials = (dialer.dial(name, world.plain.port, encrypted=False) for name in names)
            ended = await asyncio.gather(*dials, return_exceptions=True)
            assert all(isinstance(one, DialFailed) and one.reason == "name_not_resolved" for one in ended)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(len, looked) == 30
            (await dialer.dial("good.test", world.plain.port, encrypted=False)).abort()
        for name in ("a.silent.test",) * 10 + ("good.test",):  # those that are given up count on
            with pytest.raises(DialFailed):
                await dialer.dial(name, world.plain.port, encrypted=False)
    finally:
        silent.set()
    async with asyncio.timeout(10):
        while "good.test" != looked[-1]:
            with suppress(DialFailed):
                (await dialer.dial("good.test", world.plain.port, encrypted=False)).abort()


@case("N36", "have a head grow by its secrets: hundreds of placeholders of one long value", "431; nothing leaves")
async def test_secrets_do_not_make_a_head_grow_without_end(world: World) -> None:
    world.door.vault = Vault((Secret("KEY", "ok.test", PLACEHOLDER, b"v" * 8192),))
    assert (await world.get("/", "ok.test", f"X: {PLACEHOLDER * 1000}")).status == 431
    assert world.tls.requests == []
    assert (await world.get("/", "ok.test", f"X: {PLACEHOLDER * 3}")).status == 200
    assert b"v" * 3 * 8192 in world.tls.requests[0]


@case(
    "S16",
    "keep an answer open while a value is exchanged, and be sent the new one in it: a body, a WebSocket",
    "masked",
)
@pytest.mark.parametrize(
    "head", ["200 OK\r\nContent-Length: 1000", "101 S\r\nUpgrade: websocket\r\nConnection: Upgrade"]
)
async def test_a_value_that_comes_later_is_masked_in_answers_that_are_open(world: World, head: str) -> None:
    fresh = b"another-value-of-the-secret"
    exchanged = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + b"\x81\x06begun ")
        await exchanged.wait()
        writer.write(b"\x81\x1b" + fresh + b"\x81\x07 ended.")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        world.door.policy = Policy((Rule("ok.test", (port,)),), (Rule("*", (port,)),))
        reader, writer = await world.dial()
        switch = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"GET http://ok.test:{port}/ HTTP/1.1\r\nHost: ok.test:{port}\r\n{switch}\r\n".encode())
        await reader.readuntil(b"begun ")
        world.door.vault = world.door.vault.updated([replace(KEY, value=fresh)])
        exchanged.set()
        rest = await reader.readuntil(b"ended.")
        writer.close()
    assert fresh not in rest
    assert PLACEHOLDER.encode() in rest or b"*" * len(fresh) in rest


SPELLED: Final = (
    rb"s3cr3t\/va+lue==0123456789", rb"s3cr3t/va\u002Blue==0123456789", b"s3cr3t/va&#43;lue==0123456789",
    b"s3cr3t/va+lue&#x3D;&#x3D;0123456789", b"s3cr3t&#x2F;va+lue&#x3D;&#x3D;0123456789", b"s3cr3t/va%2Blue%3D%3D0123456789",
    b"s3cr3t%2fva%2blue%3d%3d0123456789", b"s3cr3t%2Fva+lue==0123456789",
)  # fmt: skip
"""`VALUE`, as JSON, HTML and URLs of PHP, .NET, Go, Handlebars, Mustache and JavaScript have it."""


@case(
    "S14",
    "an answer that repeats the value as other languages write it in JSON, HTML and URLs, also in basic credentials",
    "masked",
)
async def test_a_value_is_masked_however_it_is_spelled(world: World) -> None:
    limit(world, connections=CONNECTIONS)
    password = Secret("PASSWORD", "ok.test", f"{PLACEHOLDER[:-2]}cd", b"is~it?so>or~not?>~?")
    world.door.vault = Vault((KEY, password))
    basic = [base64.b64encode(user + password.value) for user in (b"u:", b"me:", b"you:")]
    slashes = [one.replace(b"/", rb"\/").replace(b"+", rb"\u002B") for one in basic]
    assert all(b"\\" in one for one in slashes), "the control: there is something to spell"
    parts = [*SPELLED, *basic, *slashes, *(quote(one, safe="").encode() for one in basic)]
    for part in parts:
        body = b'{"auth": "%s"}' % part
        for pieces in ([body], [body[:20], body[20:]]):
            world.tls.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), *pieces]
            answer = await world.get()
            assert PLACEHOLDER[:-2].encode() in answer.body, part
            assert part[8:-8] not in answer.body
