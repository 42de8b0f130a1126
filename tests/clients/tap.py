"""A relay in front of a server, which tells what a client asked for."""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_ASKED = re.compile(rb"^([A-Z]+ /\S*?)(?:\?\S*)? HTTP/1\.1\r\n", re.MULTILINE)


@dataclass
class Tap:
    """Where the relay is, and the bytes that came on each of its connections."""

    url: str
    sent: list[bytearray] = field(default_factory=list)

    def asked(self) -> set[str]:
        """The requests so far, as `POST /v1/responses`. A WebSocket is a `GET`."""
        return {found.decode() for sent in list(self.sent) for found in _ASKED.findall(bytes(sent))}


@contextmanager
def tapped(url: str) -> Iterator[Tap]:
    """Relay to the server at `url` until the block ends."""
    address = urlsplit(url)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            tap.sent.append(heard := bytearray())
            with socket.create_connection((address.hostname, address.port)) as server:
                back = threading.Thread(target=_pour, args=(server, self.request, bytearray()))
                back.start()
                _pour(self.request, server, heard)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.daemon_threads = True
        tap = Tap(f"http://127.0.0.1:{relay.server_address[1]}")
        threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield tap
        finally:
            relay.shutdown()


def _pour(source: socket.socket, target: socket.socket, heard: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            heard += data
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
