"""Servers for tests: the real `deskhand serve` in a process of its own, and a scripted model behind real HTTP."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

from deskhand.compose import end_containers
from deskhand.settings import load

from .postgres import SERVER_URL, Cluster, cluster, create_database, database_of, programs
from .rows import Rows, rows_of

KEY = "sk-test"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A running `deskhand serve`."""

    url: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    log: Path
    clients: list[OpenAI] = field(default_factory=list)

    def client(self, key: str = KEY) -> OpenAI:
        """The official SDK, pointed here by its base URL alone. It does not retry: tests see what happened."""
        self.clients.append(OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60))
        return self.clients[-1]

    def close_clients(self) -> None:
        """Close the connections of all SDKs that were given out."""
        while self.clients:
            self.clients.pop().close()

    def http(self, key: str | None = KEY) -> httpx2.Client:
        """Bare HTTP, for what no SDK would send."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)

    def rows(self) -> AbstractContextManager[Rows]:
        """The database, behind the server's back."""
        return rows_of(self.data_dir)

    def end_containers(self) -> None:
        """Delete every live container, as a project may have only so many at once."""
        client = self.client()
        for container in list(client.containers.list(limit=100)):
            if container.status == "running":
                client.containers.delete(container.id)


Launch = Callable[..., Server]


@contextmanager
def upstream_process(*arguments: str) -> Iterator[str]:
    """The scripted model as a process; its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "deskhand.testing.upstream", "--port", str(port), *arguments]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the scripted upstream ended"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def postgres(_cluster: Cluster) -> Cluster:
    """A PostgreSQL server, for who makes databases of their own in it."""
    return _cluster


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    if programs() is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    with cluster() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _database_of_servers(request: pytest.FixtureRequest) -> None:
    """Let servers keep their records in PostgreSQL, if DESKHAND_TEST_DATABASE=postgres wants it."""
    if os.environ.get("DESKHAND_TEST_DATABASE") == "postgres":
        os.environ[SERVER_URL] = request.getfixturevalue("_cluster").url()


@pytest.fixture(scope="session")
def upstream_url() -> Iterator[str]:
    with upstream_process() as url:
        yield url


@contextmanager
def launched(data_dir: Path, upstream_url: str | None, **settings: str) -> Iterator[Server]:
    """`deskhand serve` on a free port, ended by SIGTERM (or already killed) when the block ends."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DESKHAND_")}
    environ |= {"DESKHAND_API_KEY": KEY, "DESKHAND_DATA_DIR": str(data_dir), "DESKHAND_PORT": "0"}
    if upstream_url:
        environ |= {"DESKHAND_UPSTREAM_URL": upstream_url, "DESKHAND_MODEL_ALIASES": "*=scripted"}
    if SERVER_URL in os.environ:
        environ["DESKHAND_DATABASE_URL"] = create_database(os.environ[SERVER_URL], database_of(data_dir))
    environ |= {f"DESKHAND_{name.upper()}": value for name, value in settings.items()}
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir.parent / f"{data_dir.name}-{time.monotonic_ns()}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "deskhand", "serve"], env=environ, stderr=stderr)
    clients: list[OpenAI] = []
    try:
        yield Server(_wait_for_url(process, log), data_dir, process, log, clients)
    finally:
        for client in clients:
            client.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        asyncio.run(end_containers(load({}, data_dir=data_dir, engine=settings.get("engine"))))


def _wait_for_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"address\s+(http://\S+)/v1", log.read_text()):
            return found[1]
        assert process.poll() is None, f"the server ended: {log.read_text()}"
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def shared_server(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with launched(tmp_path_factory.mktemp("server") / "data", upstream_url) as running:
        yield running


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Iterator[Server]:
    """One server for the tests that do not change its settings or kill it; a module's containers end with it."""
    yield shared_server
    shared_server.end_containers()
    shared_server.close_clients()


@pytest.fixture
def launch(tmp_path: Path, upstream_url: str) -> Iterator[Launch]:
    """Start servers with settings of their own; starting again on the same `data` is a restart."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(data: str = "data", upstream: str | None = upstream_url, **settings: str) -> Server:
            return stack.enter_context(launched(tmp_path / data, upstream, **settings))

        yield start


@pytest.fixture(scope="module")
def client(server: Server) -> OpenAI:
    return server.client()


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.http() as client:
        yield client
