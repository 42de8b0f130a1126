"""What went wrong at an upstream, as an `UpstreamError` with a message that a person can act on. Pure.

Messages name the upstream and quote what it said, bounded, and never carry its key or the user part of its URL.
Sources: OpenAI's error codes; vLLM, llama.cpp, Ollama, LM Studio and DeepSeek spell "too long" each in their own words.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import aiohttp
import msgspec

from ..core.errors import ContextTooLong, NotServed, UpstreamError

LONGEST_QUOTE: Final = 600
LONGEST_WAIT_S: Final = 30.0

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|exceeds the available context size"
    r"|context (?:length|size|window)[^.]{0,60}(?:exceed|too (?:long|small|large))"
    r"|exceed\w*[^.]{0,60}context (?:length|size|window|limit)|longer than the (?:model's )?(?:maximum )?context"
    r"|prompt is too long|input (?:is )?too long|prompt too long|max_prompt_length|max_model_len"
    r"|greater than the context length|input length[^.]{0,40}exceeds",
    re.IGNORECASE,
)
_NEVER_AGAIN = re.compile(r"insufficient_quota|credit_balance|billing|spend_limit|usage_limit_exceeded")
_OPERATORS_MISTAKE = frozenset({401, 402, 403, 407})
_RETRIED = frozenset({408, 409, 425, 429})


class Refused(UpstreamError):
    """The upstream would not take the request (400 or 422). `said` and `param` tell what it disliked."""

    def __init__(self, message: str, *, said: str, param: str) -> None:
        super().__init__(message, code="invalid_prompt")
        self.said = said
        self.param = param or None


def from_status(name: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> UpstreamError:
    """The failure that an HTTP error answer stands for."""
    if 300 <= status < 400:
        where = "another address" if not headers.get("location") else clean(headers["location"], key)
        return UpstreamError(f"The model server {name!r} redirects to {where}; set that as its URL.")
    said, code, param = _read_body(body, headers.get("content-type", ""))
    return from_report(name, clean(said, key), code=code, param=param, status=status, retry_after=retry_after(headers))


def from_report(
    name: str, said: str, *, code: str = "", param: str = "", status: int = 0, retry_after: float | None = None
) -> UpstreamError:
    """The failure that an error object stands for, in an HTTP answer or in the middle of a stream (`status` 0)."""
    message = f"The model server {name!r} answered {status}: {said}" if status else f"The model server {name!r}: {said}"
    kind = f"{code} {said}"
    if status not in {401, 403, 404, 429} and _TOO_LONG.search(kind):
        return ContextTooLong(message)
    if status == 429 or "rate_limit" in code:
        again = not _NEVER_AGAIN.search(kind) and (retry_after or 0) <= LONGEST_WAIT_S
        return UpstreamError(message, code="rate_limit_exceeded", retryable=again, retry_after=retry_after)
    if status in {400, 422}:
        return Refused(message, said=said, param=param)
    if status in {404, 405, 501}:
        return NotServed(message)
    if status in _OPERATORS_MISTAKE or _NEVER_AGAIN.search(code):
        return UpstreamError(message)
    if 400 <= status < 500 and status not in _RETRIED or code in {"invalid_prompt", "invalid_request_error"}:
        return UpstreamError(message, code="invalid_prompt")
    again = (retry_after or 0) <= LONGEST_WAIT_S
    return UpstreamError(message, retryable=again, retry_after=retry_after)


def from_object(name: str, error: object, key: str | None) -> UpstreamError:
    """The failure that a JSON error object (or bare string) inside a stream stands for."""
    said, code, param = _read_object(error)
    status = int(code) if code.isdigit() and 400 <= int(code) < 600 else 0
    return from_report(name, clean(said, key), code=code, param=param, status=status)


def from_transport(
    name: str, url: str, exc: aiohttp.ClientError | OSError | ValueError, idle_s: float, connect_s: float
) -> UpstreamError:
    """The failure that an exception of the HTTP client stands for. `url` is safe to show."""
    unreachable = f"cannot reach the model server {name!r} at {url}"
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamError(f"{unreachable}: no connection within {connect_s:g} s", retryable=True)
        case aiohttp.ClientConnectorError():
            return UpstreamError(f"{unreachable}: {_reason(exc.os_error)}", retryable=True)
        case aiohttp.NonHttpUrlClientError():
            return UpstreamError(f"The URL of the model server {name!r} must begin with http:// or https://.")
        case aiohttp.InvalidURL():
            return UpstreamError(f"The URL of the model server {name!r} is not valid.")
        case TimeoutError():
            return UpstreamError(f"The model server {name!r} said nothing for {idle_s:g} s.")
        case _:
            return UpstreamError(f"The model server {name!r} closed the connection: {_reason(exc)}", retryable=True)


def garbage(name: str, body: bytes, key: str | None) -> UpstreamError:
    """The failure of an answer that is neither events nor JSON."""
    text = clean(_text_of(body), key)
    what = "an HTML page" if body.lstrip()[:1] == b"<" else "something that is not a model's answer"
    return UpstreamError(f"The model server {name!r} sent {what}: {text[:200]}")


def clean(text: str, key: str | None) -> str:
    """`text` short enough to show, without `key` and without user parts of URLs."""
    if key:
        text = text.replace(key, "[key]")
    text = re.sub(r"(\w+://)[^/\s@]+@", r"\1", text)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that an answer asks for; dates count as unknown."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if seconds >= 0:
            return seconds
    return None


def _read_body(body: bytes, content_type: str) -> tuple[str, str, str]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if "html" in content_type or body.lstrip()[:1] == b"<":
            return f"an HTML page: {_text_of(body)[:200]}", "", ""
        return _text_of(body) or "(nothing)", "", ""
    return _read_object(value)


def _read_object(value: Any) -> tuple[str, str, str]:
    """What was said, the code and the parameter, from `{"error": {...}}`, the inner object, or other shapes."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return str(value), "", ""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return str(error), "", ""
    said = error.get("message") or error.get("detail") or error.get("msg") or ""
    if not isinstance(said, str) or not said:
        said = msgspec.json.encode(said or error).decode()
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, (str, int)) and not isinstance(code, bool):
        named = str(code)
        # A numeric code says less than the type does, unless it is all there is (llama.cpp sends both).
        named = f"{kind}" if named.isdigit() and isinstance(kind, str) and "context" in kind else named
    else:
        named = kind if isinstance(kind, str) else ""
    param = error.get("param")
    return said, named, param if isinstance(param, str) else ""


def _text_of(body: bytes) -> str:
    text = body[:4096].decode("utf-8", "replace")
    if text.lstrip()[:1] == "<":
        text = re.sub(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(text.split())


def _reason(exc: BaseException) -> str:
    for cause in _causes(exc):
        if isinstance(cause, OSError) and cause.errno is not None:
            return _WORDS.get(cause.errno) or (cause.strerror or str(cause)).lower()
    return (str(exc) or type(exc).__name__).lower()


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [exc]
    while todo and len(seen) < 20:
        one = todo.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
}
