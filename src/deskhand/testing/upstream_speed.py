"""An upstream that costs next to nothing: the mock of benchmarks. Every answer is the same text. Raw ASGI."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_STREAM = [(b"content-type", b"text/event-stream")]
_JSON = [(b"content-type", b"application/json")]


class SpeedApp:
    """Answers chat completions and Responses with `tokens` fixed words, encoded once, one write per event."""

    def __init__(self, tokens: int = 20) -> None:
        self._chat = _frames([*_chat_chunks(tokens)]) + [b"data: [DONE]\n\n"]
        self._responses = _frames(_response_events(tokens))
        self._whole_chat = json.dumps(_whole_chat(tokens)).encode()
        self._whole_response = json.dumps(_response_events(tokens)[-1]["response"]).encode()
        self._models = json.dumps({"object": "list", "data": [{"id": "fast", "object": "model"}]}).encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        streamed = b'"stream":true' in body or b'"stream": true' in body
        chat = scope["path"].endswith("/chat/completions")
        if scope["method"] == "GET":
            await _send_json(send, self._models)
        elif not streamed:
            await _send_json(send, self._whole_chat if chat else self._whole_response)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
            for frame in self._chat if chat else self._responses:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _send_json(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _JSON})
    await send({"type": "http.response.body", "body": body})


def _frames(events: list[dict[str, Any]]) -> list[bytes]:
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]


def _chat_chunks(tokens: int) -> list[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**_CHAT_HEAD, "object": "chat.completion.chunk", "choices": [choice]}

    usage = {**_CHAT_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _chat_usage(tokens)}
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": "word "}) for _ in range(tokens)),
        chunk({}, "stop"),
        usage,
    ]


def _whole_chat(tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": "word " * tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {**_CHAT_HEAD, "object": "chat.completion", "choices": [choice], "usage": _chat_usage(tokens)}


def _chat_usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10}


def _response_events(tokens: int) -> list[dict[str, Any]]:
    text = "word " * tokens
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens + 10,
    }
    begun = {**_RESPONSE_HEAD, "status": "in_progress", "output": [], "usage": None}
    ended = {**_RESPONSE_HEAD, "status": "completed", "output": [item], "usage": usage}
    delta = {"type": "response.output_text.delta", **where, "delta": "word ", "logprobs": []}
    opened = {**item, "content": [], "status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        *(delta for _ in range(tokens)),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": ended},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


_CHAT_HEAD = {"id": "chatcmpl-fast", "created": 1_700_000_000, "model": "fast"}
_RESPONSE_HEAD = {"id": "resp_fast", "object": "response", "created_at": 1_700_000_000, "model": "fast"}
