"""Measure the way out against a direct connection, in one run: python -m benchmarks.egress [rounds].

The client is the same and runs on the host: it speaks to a local TLS server directly, or to the container's socket with
CONNECT, so that the figures are the proxy's own (the relay inside adds two copies through the kernel).
"""

import asyncio
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from deskhand.egress.authority import Authority
from deskhand.egress.dialer import Dialer
from deskhand.egress.door import Door
from deskhand.egress.gate import Gate
from deskhand.egress.journal import Journal
from deskhand.egress.policy import Policy, Rule
from deskhand.egress.proxy import Proxy
from deskhand.egress.secrets import Secret, Vault, new_placeholder
from deskhand.ports.store import EgressRecord

from .figures import Figures, show

HOST = "bench.test"
BODY = b"x" * 2000
SECRET = Secret("KEY", HOST, new_placeholder(), b"a-value-that-is-put-in")


class Nowhere:
    """Forgets records."""

    async def add(self, records: Sequence[EgressRecord]) -> None:
        return


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self.reader, self.writer = reader, writer
        lines = (f"Host: {HOST}:{{}}", f"Authorization: Bearer {key}", f"Content-Length: {len(BODY)}", "", "")
        self.head = "\r\n".join(("POST / HTTP/1.1", *lines))

    async def post(self, port: int) -> None:
        self.writer.write(self.head.format(port).encode() + BODY)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"chunked" in head.lower():
            while size := int(await self.reader.readline(), 16):
                await self.reader.readexactly(size + 2)
            await self.reader.readline()
        else:
            await self.reader.readexactly(len(BODY))

    def close(self) -> None:
        self.writer.transport.abort()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 300
    import uvloop

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(Path(folder), rounds))


async def measure(folder: Path, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        issuer = Authority.kept(folder / "issuer")
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=issuer.context(HOST))
        stack.callback(server.close)
        port = int(server.sockets[0].getsockname()[1])
        authority = Authority.kept(folder / "authority")
        journal = Journal(Nowhere())
        await stack.enter_async_context(journal.writing())
        trust = ssl.create_default_context(cadata=issuer.certificate.decode())
        proxy = Proxy(authority, Dialer(trust, pinned={HOST: "127.0.0.1"}), journal, lambda prefix: prefix)
        rules = (Rule(HOST, (port,)), Rule("open.test", (port,), passthrough=True))
        gate = Gate(proxy, Door("p", "c", Policy(rules, rules), Vault((SECRET,))))
        await gate.open(folder / "proxy.sock")
        stack.push_async_callback(gate.close)
        inside = ssl.create_default_context(cadata=authority.certificate.decode())

        async def direct() -> Connection:
            return Connection(*await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=HOST), "k")

        async def proxied() -> Connection:
            reader, writer = await asyncio.open_unix_connection(str(folder / "proxy.sock"))
            writer.write(f"CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await writer.start_tls(inside, server_hostname=HOST)
            return Connection(reader, writer, SECRET.placeholder)

        await kept_alive(direct, proxied, port, rounds)
        await new_each(direct, proxied, port, rounds)


Dial = Callable[[], Awaitable[Connection]]


async def kept_alive(direct: Dial, proxied: Dial, port: int, rounds: int) -> None:
    connections = [await direct(), await proxied()]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for connection, seconds in zip(connections, times, strict=True):
            began = time.perf_counter()
            await connection.post(port)
            seconds.append(time.perf_counter() - began)
    for connection in connections:
        connection.close()
    cases = [Figures("direct", times[0][10:]), Figures("proxied, terminated, secret put in and masked", times[1][10:])]
    show("egress: HTTPS POST of 2 KB and back, connection kept", cases, cases[0])


async def new_each(direct: Dial, proxied: Dial, port: int, rounds: int) -> None:
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for dial, seconds in zip((direct, proxied), times, strict=True):
            began = time.perf_counter()
            connection = await dial()
            await connection.post(port)
            seconds.append(time.perf_counter() - began)
            connection.close()
    cases = [Figures("direct", times[0][10:]), Figures("proxied, terminated, secret put in and masked", times[1][10:])]
    show("egress: the same with a new connection for each", cases, cases[0])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(BODY))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


if __name__ == "__main__":
    main()
