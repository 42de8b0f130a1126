"""A server whose containers have a network, and the servers outside that see what reaches them."""

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from ..egress.world import Issuer
from .product import Product, Said

VALUE: Final = "sk-live-Zq9/x+Y=canary-of-the-secret"
OTHER_VALUE: Final = "sk-live-Zq9/x+Y=canary"
"""The beginning of the first: one value inside another."""

PINNED: Final = ("api.test", "other.test", "sub.api.test", "wild.test", "a.wild.test", "denied.test", "apiXtest.test")
"""Names that the proxy takes for the loopback, where the servers outside listen."""

NEVER: Final = ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "127.0.0.1", "10.1.2.3",
                "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fe80::1", "fd12::1", "224.0.0.1", "0.0.0.0",
                "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::")  # fmt: skip
"""Addresses that the operator has listed by mistake."""


class Origin(BaseHTTPRequestHandler):
    """Answers with what it was sent, in ways that its path asks for."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]
    cut: list[float]

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", 0))
        sent = self.rfile.read(length).decode(errors="replace") if length else ""
        self.seen.append(headers | {":path": self.path, ":method": self.command, ":body": sent})
        told = json.dumps({"headers": headers, "path": self.path, "body": sent}).encode()
        if self.path.startswith("/redirect"):
            return self._answer(302, b"", {"Location": self.path.partition("?")[2]})
        if self.path.startswith("/slow"):
            return self._drip()
        if self.path.startswith("/gzip"):
            return self._answer(200, gzip.compress(told), {"Content-Encoding": "gzip"})
        if self.path.startswith("/broken"):
            return self._break(told)
        if self.path.startswith("/chunks"):
            return self._chunks(told)
        reflected = headers.get("authorization", "")
        self._answer(200, told, {"X-Reflected": reflected, "Set-Cookie": f"auth={reflected}"})
        return None

    do_POST = do_PUT = do_GET

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunks(self, body: bytes) -> None:
        """One byte to a chunk, so that every value is split everywhere."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(len(body)):
            self.wfile.write(b"1\r\n" + body[at : at + 1] + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _break(self, body: bytes) -> None:
        """A length that is not kept: the connection ends in the middle."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 1000))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            for _ in range(600):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            self.cut.append(time.monotonic())

    def log_message(self, *_: Any) -> None:
        return


@dataclass(frozen=True, slots=True)
class Outside:
    """A server with TLS and one without."""

    tls: int
    plain: int
    issuer: Issuer
    seen: list[dict[str, str]] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)


@contextmanager
def outside(issuer: Issuer) -> Iterator[Outside]:
    """Both servers, for the time of a block."""
    seen: list[dict[str, str]] = []
    cut: list[float] = []
    handler = type("Seen", (Origin,), {"seen": seen, "cut": cut})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    servers[0].socket = issuer.server(*PINNED).wrap_socket(servers[0].socket, server_side=True)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Outside(servers[0].server_address[1], servers[1].server_address[1], issuer, seen, cut)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def settings(world: Outside) -> dict[str, str]:
    """The operator's: some names, a wildcard, and all addresses that may never be dialled, by mistake."""
    ports = (world.tls, world.plain)
    names = ("api.test", "other.test", "*.wild.test")
    allowed = [f"{name}:{port}" for name in names for port in ports] + list(names)
    addresses = [f"[{address}]" if ":" in address else address for address in NEVER]
    pinned = [f"{name}=127.0.0.1" for name in PINNED]
    return {"network_allowed_domains": ",".join([*allowed, *addresses]), "network_hosts": ",".join(pinned)}


@contextmanager
def trusting(issuer: Issuer, folder: Path) -> Iterator[None]:
    """Servers that are started inside trust the issuer, by the variable that OpenSSL reads."""
    bundle = folder / "trusted.pem"
    bundle.write_bytes(issuer.pem)
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(bundle)
    try:
        yield
    finally:
        os.environ.pop("SSL_CERT_FILE")
        if before is not None:
            os.environ["SSL_CERT_FILE"] = before


@dataclass(frozen=True, slots=True)
class Networked:
    """A product whose containers have a way out, and where it leads."""

    product: Product
    world: Outside

    def container(self, project: str = "a", *, domains: Sequence[str] = ("api.test", "other.test"), **more: Any) -> str:
        """A container with a policy, and a secret for `api.test`."""
        secrets = [{"domain": "api.test", "name": "API_KEY", "value": VALUE}] if "api.test" in domains else []
        policy = {"type": "allowlist", "allowed_domains": list(domains)} | more
        if secrets:
            policy.setdefault("domain_secrets", secrets)
        return self.product.container(project, network_policy=policy)

    def shell(self, script: str, container: str = "", project: str = "a") -> Said:
        """Run a script in a container that has a way out."""
        return self.product.shell(script, container or self.container(project), project, max_output_length=200_000)

    def python(self, script: str, container: str = "", project: str = "a") -> Said:
        """Run a Python program, which has the ports of the servers outside as TLS and PLAIN."""
        ports = f"TLS, PLAIN = {self.world.tls}, {self.world.plain}\n"
        return self.shell(
            f"cat > /tmp/p.py <<'PROGRAM'\n{ports}{script}\nPROGRAM\npython3 /tmp/p.py", container, project
        )

    def visits(self, since: int) -> list[str]:
        """Paths of the requests that have reached the servers outside, from the one with this number on."""
        return [seen[":path"] for seen in self.world.seen[since:]]
