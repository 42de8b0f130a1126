"""A receiver of webhooks: a real HTTP server in the test, which remembers what it is sent and answers as it is told."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai import OpenAI
from openai.types.webhooks.webhook_endpoint_with_secret import WebhookEndpointWithSecret

Headers = Mapping[str, str]
ENDINGS: Any = ["response.completed", "response.failed", "response.incomplete", "response.cancelled"]


@dataclass(frozen=True)
class Received:
    """One request, with the names of its headers in lower case."""

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to answer: after `wait_s` seconds, or not at all if the server ends before."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    wait_s: float = 0


class Receiver:
    """Answers 200, unless `answers` has a function of the number of earlier requests for a path."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, Callable[[int], Answer]] = {}
        self.port = 0
        self.closing = threading.Event()
        self._seen: Counter[str] = Counter()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        """What came for a path, in order."""
        return [request for request in list(self.received) if request.path == path]

    def wait(self, path: str, count: int = 1, seconds: float = 30) -> list[Received]:
        """The same, once it is `count` requests."""
        deadline = time.monotonic() + seconds
        while len(found := self.at(path)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} requests came for {path}"
            time.sleep(0.02)
        return found

    def take(self, request: Received) -> Answer:
        self.received.append(request)
        number = self._seen[request.path]
        self._seen[request.path] += 1
        told = self.answers.get(request.path)
        return Answer() if told is None else told(number)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of the loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.take(Received(self.command, self.path, headers, body))
            if receiver.closing.wait(answer.wait_s) and answer.wait_s:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            return  # the server was killed: that is the test

    with Quiet(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.closing.set()
            server.shutdown()
            thread.join()


def register(client: OpenAI, url: str, types: Any = ENDINGS) -> WebhookEndpointWithSecret:
    """An endpoint that wants to be told of these events."""
    return client.webhooks.create(name="n", url=url, event_types=types)
