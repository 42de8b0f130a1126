"""Request bodies and query strings: bounded, parsed and checked."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec
from starlette.requests import Request

from ..core.errors import ApiError
from ..core.validation import api_error
from ..ports.store import Page
from ..wire.codec import convert, decode

T = TypeVar("T")

LARGE_BYTES: Final = 8 << 20
MOST_VALUES: Final = 8_000_000
"""Of JSON in a body that is larger than that, with commas and brackets in its texts: lists of nothing take 30 times
their bytes."""

_KEPT = "deskhand.body"
"""Where a body that was read is kept in the scope of its request, in case that has to be passed on."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises `ApiError` (413) if it is larger than `max_bytes`."""
    begin_to_read(request)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    body = b"".join(chunks)
    request.scope[_KEPT] = body
    return body


def kept_body(request: Request) -> bytes | None:
    """The whole body of a request, if it was read."""
    body: bytes | None = request.scope.get(_KEPT)
    return body


def is_spent(request: Request) -> bool:
    """Whether a body was read in part, or in a way that did not keep it."""
    return request.scope.get(_KEPT, b"") is None


def drop_body(request: Request) -> None:
    """Let go of a body that was read, once its request will not be passed on."""
    request.scope[_KEPT] = None


def begin_to_read(request: Request) -> None:
    """Note that a body is read in a way that does not keep it."""
    request.scope[_KEPT] = None


async def read_json(request: Request, kind: type[T], max_bytes: int) -> T:
    """The JSON body as wire type `kind`. Raises `ApiError`."""
    return checked(read_object(await read_body(request, max_bytes)), kind)


def read_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ApiError`."""
    if len(data) > LARGE_BYTES and _marks(data) > MOST_VALUES:
        raise ApiError(f"The JSON body of the request has more than {MOST_VALUES} values.", status=413)
    try:
        value = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiError(f"We could not parse the JSON body of your request: {exc}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError("The JSON body of the request must be an object.", code="invalid_type")
    return value


def checked(value: Mapping[str, Any], kind: type[T]) -> T:
    """The fields of a request as wire type `kind`. Raises `ApiError`."""
    try:
        return convert(value, kind)
    except msgspec.ValidationError as exc:
        raise api_error(exc) from None


def read_page(
    request: Request,
    *,
    default: int = 20,
    least: int = 1,
    most: int = 100,
    default_order: Literal["asc", "desc"] = "desc",
) -> Page:
    """`limit`, `order` and `after` of a list. Raises `ApiError`."""
    query = request.query_params
    limit = _integer(query.get("limit"), "limit", default)
    if not least <= limit <= most:
        code = "integer_below_min_value" if limit < least else "integer_above_max_value"
        raise ApiError(f"Invalid 'limit': must be between {least} and {most}, got {limit}.", code=code, param="limit")
    order = query.get("order", default_order)
    if order not in {"asc", "desc"}:
        raise ApiError("Invalid value for 'order': must be 'asc' or 'desc'.", code="invalid_value", param="order")
    direction: Literal["asc", "desc"] = "asc" if order == "asc" else "desc"
    return Page(limit, direction, query.get("after") or None)


def read_flag(request: Request, name: str, *, default: bool = False) -> bool:
    """A boolean of the query string. Raises `ApiError`."""
    value = request.query_params.get(name, str(default)).lower()
    if value not in {"true", "false", "1", "0"}:
        raise ApiError(f"Invalid value for '{name}': must be true or false.", code="invalid_value", param=name)
    return value in {"true", "1"}


def read_integer(request: Request, name: str, default: int) -> int:
    """An integer of the query string, of 64 bits at most. Raises `ApiError`."""
    value = _integer(request.query_params.get(name), name, default)
    if abs(value) >= 1 << 63:
        raise ApiError(f"Invalid '{name}': {value} is out of range.", code="invalid_value", param=name)
    return value


def listing(data: list[Any], *, has_more: bool) -> dict[str, Any]:
    """A list in OpenAI's envelope. The ids are strings also if there are no entries, as OpenAI's schemas have it."""
    ids = [entry.get("id") if isinstance(entry, Mapping) else getattr(entry, "id", None) for entry in data]
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else "",
        "last_id": ids[-1] if ids else "",
        "has_more": has_more,
    }


def _marks(data: bytes | str) -> int:
    """At least as many as there are values."""
    if isinstance(data, str):
        return sum(map(data.count, "[{,"))
    return sum(map(data.count, (b"[", b"{", b",")))


def _integer(text: str | None, name: str, default: int) -> int:
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError:
        raise ApiError(
            f"Invalid type for '{name}': expected an integer, got {text!r}.", code="invalid_type", param=name
        ) from None


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(f"The request body is larger than this server takes ({max_bytes} bytes).", status=413)
