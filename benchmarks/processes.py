"""The servers that benchmarks measure, as processes of their own."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deskhand.compose import end_containers
from deskhand.settings import load

KEY = "sk-bench"


@contextmanager
def upstream(*arguments: str) -> Iterator[str]:
    """The mock upstream; its base URL without `/v1`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "deskhand.testing.upstream", "--port", str(port), *arguments]
    with _process(command, {}):
        for _ in range(200):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class Served:
    """A server that runs: its base URL without `/v1`, and its process."""

    url: str
    pid: int

    @property
    def resident_mb(self) -> float:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6


@contextmanager
def deskhand(upstream_url: str) -> Iterator[str]:
    """`deskhand serve` on the mock upstream; its base URL without `/v1`."""
    with served(upstream_url) as server:
        yield server.url


@contextmanager
def served(upstream_url: str, **settings: str) -> Iterator[Served]:
    """`deskhand serve` with settings of its own."""
    with tempfile.TemporaryDirectory(prefix="deskhand-bench-") as scratch:
        environ = {
            "DESKHAND_API_KEY": KEY,
            "DESKHAND_DATA_DIR": scratch,
            "DESKHAND_PORT": "0",
            "DESKHAND_UPSTREAM_URL": f"{upstream_url}/v1",
            "DESKHAND_MODEL_ALIASES": "*=scripted",
            "DESKHAND_LOG_LEVEL": "warning",
        } | {f"DESKHAND_{name.upper()}": value for name, value in settings.items()}
        log = Path(scratch) / "log"
        command = [sys.executable, "-m", "deskhand", "serve"]
        with log.open("wb") as stderr, _process(command, environ, stderr) as process:
            yield Served(_wait(log), process.pid)
        asyncio.run(end_containers(load({}, data_dir=Path(scratch))))


def _wait(log: Path) -> str:
    for _ in range(600):
        if found := re.search(r"address\s+(http://\S+)/v1", log.read_text()):
            with suppress(OSError):
                urllib.request.urlopen(found[1] + "/health", timeout=5).read()
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start: {log.read_text()}")


@contextmanager
def _process(
    command: list[str], environ: dict[str, str], stderr: IO[bytes] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, env={**os.environ, **environ}, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        if process.poll() is None:
            process.kill()
            process.wait()
