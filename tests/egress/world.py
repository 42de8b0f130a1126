"""The outside, as tests see it: servers with certificates of their own, the proxy before them, and a client behind it.

Everything is real but the resolver: sockets, TLS, the proxy. `ok.test` and `other.test` are allowed and pinned to the
loopback; the resolver answers for every other name what a test says.
"""

import asyncio
import datetime
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deskhand.egress.authority import Authority
from deskhand.egress.bounds import Bounds
from deskhand.egress.dialer import Dialer
from deskhand.egress.door import Door, Use
from deskhand.egress.gate import Gate
from deskhand.egress.journal import Journal
from deskhand.egress.policy import Policy, Rule
from deskhand.egress.proxy import Proxy
from deskhand.egress.secrets import Secret, Vault
from deskhand.ports.store import EgressRecord

VALUE = "s3cr3t/va+lue==0123456789"
PLACEHOLDER = "deskhand-secret-" + "ab" * 16
KEY = Secret("API_KEY", "ok.test", PLACEHOLDER, VALUE.encode())

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Issuer:
    """A certificate authority that the proxy trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("Test CA", self._key, None)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        return context

    def server(self, *names: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(names[0], key, names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str] | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if hosts is None else self.certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
        )
        if hosts is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Origin:
    """A server outside: what it was sent, and what it answers."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    pieces: Sequence[bytes] = ()
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    echo_header: str = ""
    close: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                self.requests.append(head + await _body(head, reader))
                for piece in self.pieces or [self.answer]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.005 if self.pieces else 0)
                if self.close:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@dataclass
class Sink:
    """Keeps records in memory."""

    records: list[EgressRecord] = field(default_factory=list)

    async def add(self, records: Sequence[EgressRecord]) -> None:
        self.records += records


@dataclass
class Answer:
    """An answer as the client read it."""

    status: int
    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:]]
        return {name.lower(): value.strip() for name, _, value in lines}


@dataclass
class World:
    """A proxy, a container's gate, and two origins."""

    socket: Path
    door: Door
    gate: Gate
    proxy: Proxy
    journal: Journal
    sink: Sink
    tls: Origin
    plain: Origin
    issuer: Issuer
    authority: Authority
    names: dict[str, list[str]]
    resolved: list[str]
    private: set[str]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, issuer: Issuer, authority: Authority) -> AsyncIterator["World"]:
        tls, plain, sink = Origin(), Origin(), Sink()
        names: dict[str, list[str]] = {}
        resolved: list[str] = []
        private: set[str] = set()

        async def resolve(host: str) -> Sequence[str]:
            resolved.append(host)
            if host not in names:
                raise OSError("no such name")
            return names[host]

        async with AsyncExitStack() as stack:
            context = issuer.server("ok.test", "other.test", "tunnel.test")
            tls.port = await _listen(stack, tls.serve, context)
            plain.port = await _listen(stack, plain.serve, None)
            ports = (443, 80, tls.port, plain.port)
            rules = (
                Rule("ok.test", ports),
                Rule("other.test", ports),
                Rule("tunnel.test", ports, passthrough=True),
                Rule("rebound.test", ports),
            )
            pinned = dict.fromkeys(("ok.test", "other.test", "tunnel.test"), "127.0.0.1")
            dialer = Dialer(issuer.trust(), private, pinned=pinned, timeout_s=2, resolve=resolve)
            journal = Journal(sink)
            await stack.enter_async_context(journal.writing())
            numbers = iter(range(1_000_000))
            proxy = Proxy(authority, dialer, journal, lambda prefix: f"{prefix}_{next(numbers)}", Bounds(connections=8))
            door = Door("proj", "cntr_1", Policy(rules, (Rule("*", ports),)), Vault((KEY,)), Use("resp_1", "call_1"))
            gate = Gate(proxy, door)
            socket = folder / "proxy.sock"
            await gate.open(socket)
            stack.push_async_callback(gate.close)
            world = cls(
                socket, door, gate, proxy, journal, sink, tls, plain, issuer, authority, names, resolved, private
            )
            yield world
            for writer in world.writers:
                writer.transport.abort()
            await asyncio.sleep(0)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the container's socket."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        self.writers.append(writer)
        return reader, writer

    async def raw(self, data: bytes, *, patience_s: float = 5) -> bytes:
        """What comes back for bytes on the container's socket, until the proxy closes or goes silent."""
        reader, writer = await self.dial()
        writer.write(data)
        return await _until_end(reader, patience_s)

    async def connect(self, target: str, extra: str = "") -> "Tunnel":
        """A tunnel; its answer is in `answer`."""
        reader, writer = await self.dial()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{extra}\r\n".encode())
        head = (await _head(reader)).decode()
        status = int(head.split()[1]) if head else 0
        body = b"" if status == 200 else await _until_end(reader, 5)
        return Tunnel(Answer(status, head, body), reader, writer)

    def client_trust(self) -> ssl.SSLContext:
        """What a container trusts."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def https(self, request: bytes, host: str = "ok.test", sni: str | None = None, port: int = 0) -> Answer:
        """The answer to one request through TLS."""
        tunnel = await self.connect(f"{host}:{port or self.tls.port}")
        if tunnel.answer.status != 200:
            return tunnel.answer
        await tunnel.start_tls(self.client_trust(), sni or host)
        return await tunnel.request(request)

    async def get(self, path: str = "/", host: str = "ok.test", *headers: str) -> Answer:
        """The answer to a GET through TLS."""
        lines = "".join(f"{line}\r\n" for line in headers)
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{self.tls.port}\r\n{lines}\r\n"
        return await self.https(request.encode(), host)

    async def records(self) -> list[EgressRecord]:
        """Every record so far."""
        await asyncio.sleep(0.05)
        await self.journal.settled()
        return self.sink.records


@dataclass
class Tunnel:
    """A connection behind CONNECT."""

    answer: Answer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def start_tls(self, trust: ssl.SSLContext, name: str) -> None:
        await self.writer.start_tls(trust, server_hostname=name)

    async def request(self, data: bytes) -> Answer:
        self.writer.write(data)
        return await self.read(head_only=data.startswith(b"HEAD"))

    async def read(self, *, head_only: bool = False) -> Answer:
        head = (await _head(self.reader)).decode("latin-1")
        status = int(head.split()[1]) if head else 0
        body = b"" if head_only else await _body(head.encode("latin-1"), self.reader)
        return Answer(status, head, body)


async def _listen(stack: AsyncExitStack, handler: Handler, context: ssl.SSLContext | None) -> int:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        return exc.partial


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    if b"content-length:" in lowered:
        length = int(lowered.split(b"content-length:")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)
    if head.startswith(b"HTTP/") and b" 200 " in head[:15]:
        return await reader.read()
    return b""


async def _until_end(reader: asyncio.StreamReader, patience_s: float) -> bytes:
    found = b""
    try:
        async with asyncio.timeout(patience_s):
            while data := await reader.read(65536):
                found += data
    except (TimeoutError, ConnectionError):
        pass
    return found
