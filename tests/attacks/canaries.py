"""What lies on the host for an attack to find: a file, sockets, listening ports that count who comes."""

import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Visits:
    """What reached a listener, as it came: the first bytes of every connection or datagram."""

    address: str
    heard: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Canaries:
    """A folder that every user of the host can read, and listeners that every process of the host can reach."""

    folder: Path
    file: Path
    secret: str
    unix: str
    abstract: str
    tcp: Visits
    udp: Visits


@contextmanager
def planted() -> Iterator[Canaries]:
    """Put them there, and take them away."""
    folder = Path(tempfile.mkdtemp(prefix="deskhand-canary-"))
    folder.chmod(0o755)
    secret = f"canary-{secrets.token_hex(12)}"
    file = folder / "secret"
    file.write_text(secret)
    file.chmod(0o644)
    path, abstract = str(folder / "socket"), f"@deskhand-{secret}"
    with ExitStack() as stack:
        for address in (path, "\0" + abstract[1:]):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        Path(path).chmod(0o777)
        tcp = stack.enter_context(_listening(socket.SOCK_STREAM))
        udp = stack.enter_context(_listening(socket.SOCK_DGRAM))
        yield Canaries(folder, file, secret, path, abstract, tcp, udp)
    shutil.rmtree(folder)


@contextmanager
def _listening(kind: socket.SocketKind) -> Iterator[Visits]:
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("0.0.0.0", 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.settimeout(0.05)
        visits = Visits(f"127.0.0.1:{listener.getsockname()[1]}")
        ending = threading.Event()
        thread = threading.Thread(target=_listen, args=(listener, visits, ending))
        thread.start()
        try:
            yield visits
        finally:
            ending.set()
            thread.join()


def _listen(listener: socket.socket, visits: Visits, ending: threading.Event) -> None:
    while not ending.is_set():
        try:
            if listener.type == socket.SOCK_DGRAM:
                visits.heard.append(listener.recv(2048))
            else:
                connection, _ = listener.accept()
                visits.heard.append(b"")
                connection.close()
        except TimeoutError:
            continue
