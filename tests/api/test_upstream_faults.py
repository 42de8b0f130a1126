"""An upstream that is down, slow, answers garbage or dies: `response.failed` with a clear error, and it is kept."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Launch, Server
from .oracle import stream

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def upstream(answer: Answer) -> Iterator[tuple[str, list[int]]]:
    """A bare HTTP server that answers chat completions in its own way, and counts its requests."""
    calls: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            calls.append(1)
            answer(self)
            self.close_connection = True

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def begin_stream(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.end_headers()


def chunk(handler: BaseHTTPRequestHandler, delta: dict[str, Any], finish: str | None = None) -> None:
    body = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    handler.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")
    handler.wfile.flush()


def html(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/html")
    handler.end_headers()
    handler.wfile.write(b"<html><body>Sign in to the hotel's network</body></html>")


def garbage(handler: BaseHTTPRequestHandler) -> None:
    begin_stream(handler)
    handler.wfile.write(b"data: {not json\n\n" + b"\xff\xfe\x00" * 100)


def half(handler: BaseHTTPRequestHandler) -> None:
    begin_stream(handler)
    chunk(handler, {"role": "assistant", "content": "half an ans"})
    handler.connection.shutdown(socket.SHUT_RDWR)


def error_inside(handler: BaseHTTPRequestHandler) -> None:
    begin_stream(handler)
    handler.wfile.write(b'data: {"error": {"message": "the GPU is on fire", "code": 500}}\n\n')


def unauthorised(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(401)
    handler.end_headers()
    handler.wfile.write(b'{"error": {"message": "no such key sk-upstream-secret"}}')


@pytest.mark.parametrize(
    ("answer", "calls", "words"),
    [(html, 1, ""), (garbage, None, ""), (half, 1, ""), (error_inside, None, "on fire"), (unauthorised, 1, "401")],
    ids=["html", "garbage", "half", "error-inside", "unauthorised"],
)
def test_a_broken_upstream_fails_the_response_clearly(
    launch: Launch, answer: Answer, calls: int | None, words: str
) -> None:
    with upstream(answer) as (url, seen):
        server = launch(upstream=url, upstream_key="sk-upstream-secret")
        told = failed(server)
        assert words in told["error"]["message"]
        assert "sk-upstream-secret" not in json.dumps(told)
        if calls is not None:
            assert len(seen) == 2 * calls


def test_an_upstream_that_is_down_fails_the_response_clearly(launch: Launch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        told = failed(launch(upstream=f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
    assert "cannot" in told["error"]["message"].lower()


def test_a_silent_upstream_fails_the_response_clearly(launch: Launch, tmp_path: Path) -> None:
    quiet = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler)
        quiet.wait(20)

    with upstream(silent) as (url, _):
        config = tmp_path / "deskhand.toml"
        config.write_text(f'[[upstreams]]\nurl = "{url}"\nidle_timeout_s = 1.0\n[model_aliases]\n"*" = "scripted"\n')
        try:
            failed(launch(upstream=None, config=str(config)))
        finally:
            quiet.set()


def failed(server: Server) -> dict[str, Any]:
    """Ask, streamed and not: both fail in the same way, are kept, and the next request is served."""
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "hi"})
        whole = http.post("/v1/responses", json={"model": "m", "input": "hi"}).json()
        assert [event["type"] for event in events][-2:] == ["error", "response.failed"]
        assert whole["status"] == events[-1]["response"]["status"] == "failed"
        assert whole["error"]["message"]
        assert http.get(f"/v1/responses/{whole['id']}").json() == whole
        assert http.get("/health").json()["runs"] == 0
    return dict(whole)


def test_what_was_said_before_the_connection_was_lost_is_kept(launch: Launch) -> None:
    with upstream(half) as (url, _):
        told = failed(launch(upstream=url))
    (message,) = told["output"]
    assert message["status"] == "incomplete"
    assert message["content"][0]["text"] == "half an ans"


def test_a_call_that_was_cut_off_is_not_run(launch: Launch) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler)
        function = {"name": "shell", "arguments": '{"commands": ["touch /mnt/data/ran"'}
        chunk(handler, {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]})
        chunk(handler, {}, "length")
        handler.wfile.write(b"data: [DONE]\n\n")

    with upstream(cut) as (url, _):
        with launch(upstream=url).http() as http:
            tools = [{"type": "shell", "environment": {"type": "container_auto"}}]
            told = http.post("/v1/responses", json={"model": "m", "input": "hi", "tools": tools}).json()
    assert told["status"] == "incomplete"
    assert [item["type"] for item in told["output"]] == ["shell_call"]
    assert told["output"][0]["status"] == "incomplete"
