"""`/v1/responses` over a WebSocket, spoken by hand: what the official SDK would not send, or not show."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from ..conftest import KEY, Server
from .oracle import TERMINAL

Json = dict[str, Any]
SECONDS = 30.0


class Line:
    """One connection."""

    def __init__(self, socket: Connection) -> None:
        self.socket = socket

    def create(self, input: Any = "@@ say ok", **body: Any) -> None:
        """Ask for a response."""
        self.send({"type": "response.create", "model": "m", "input": input, **body})

    def send(self, message: Json) -> None:
        """Send any JSON."""
        self.socket.send(json.dumps(message))

    def receive(self) -> Json:
        """The next event."""
        message = self.socket.recv(timeout=SECONDS)
        assert isinstance(message, str), message
        event: Json = json.loads(message)
        return event

    def until(self, *ends: str, lane: str | None = None) -> list[Json]:
        """The events of one lane up to the first of a type in `ends`. Those of other lanes are thrown away."""
        seen: list[Json] = []
        while not (seen and seen[-1]["type"] in ends):
            event = self.receive()
            if event.get("stream_id") == lane:
                seen.append(event)
        return seen

    def ending(self, lane: str | None = None) -> Json:
        """The response of a lane, once it has ended. What is refused fails."""
        last = self.until(*TERMINAL, "error", lane=lane)[-1]
        assert last["type"] != "error", last
        response: Json = last["response"]
        return response

    def ask(self, input: Any = "@@ say ok", **body: Any) -> Json:
        """Ask for a response and wait for its ending."""
        self.create(input, **body)
        return self.ending(body.get("stream_id"))

    def refused(self, input: Any = "@@ say ok", **body: Any) -> tuple[int, Json]:
        """Status and error of a request that must be refused."""
        self.create(input, **body)
        return self.refusal(body.get("stream_id"))

    def refusal(self, lane: str | None = None) -> tuple[int, Json]:
        """Status and error of what must be the next event."""
        event = self.receive()
        assert event["type"] == "error", event
        assert event.get("stream_id") == lane
        return event["status"], event["error"]

    def closed(self) -> tuple[int, str]:
        """Code and reason with which the connection closes; what is sent before is thrown away."""
        while True:
            try:
                self.socket.recv(timeout=SECONDS)
            except ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


@contextmanager
def line(server: Server, key: str = KEY, **options: Any) -> Iterator[Line]:
    """A connection, while the block runs."""
    url = f"{server.url.replace('http', 'ws')}/v1/responses"
    headers = {"authorization": f"Bearer {key}"}
    with connect(url, additional_headers=headers, max_size=None, **options) as socket:
        yield Line(socket)


def text(response: Json) -> str:
    """What the response says."""
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])
