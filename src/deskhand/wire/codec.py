"""JSON in and out of wire values. The one place that knows how opaque items and nulls are spelled."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import msgspec

from .items import ITEM_PREFIX, NO_PREFIX, Item, KnownItem, OpaqueItem
from .nulls import without_nulls
from .tools import OpaqueTool

T = TypeVar("T")

_WITH_SCHEMAS = frozenset({"tool_search_call", "tool_search_output"})

_KNOWN: Mapping[str, type[KnownItem]] = {str(t.__struct_config__.tag): t for t in get_args(KnownItem)}


def _hook(value: object) -> object:
    if isinstance(value, (OpaqueItem, OpaqueTool)):
        return value.fields
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_hook)


def encode(value: object) -> bytes:
    """`value` as JSON bytes. Takes wire values, containers of them, and plain JSON values."""
    return _ENCODER.encode(value)


def decode(data: bytes | str) -> Any:
    """Plain JSON values from `data`. Raises `msgspec.DecodeError` if it is not JSON."""
    return msgspec.json.decode(data)


def plain(value: object) -> Any:
    """`value` as plain dicts, lists and scalars, as the wire would carry it."""
    return msgspec.to_builtins(value, enc_hook=_hook)


def convert(value: Any, kind: type[T]) -> T:
    """Check plain JSON `value` against wire type `kind`. Raises `msgspec.ValidationError` with a `$.path`."""
    return msgspec.convert(value, kind)


def decode_item(fields: Mapping[str, Any]) -> Item:
    """An item from its plain wire object, which must have an `id` unless its type is opaque.

    Nulls count as left out, but in schemas and arguments, where they mean something, and in opaque items, which stay as
    they are. Raises `msgspec.ValidationError`.
    """
    kind = _KNOWN.get(str(fields.get("type")))
    if kind is None:
        return OpaqueItem(fields)
    given = {key: value for key, value in fields.items() if value is not None}
    return msgspec.convert(given if fields["type"] in _WITH_SCHEMAS else without_nulls(given), kind)


def item_prefix(type_: str) -> str:
    """The id prefix of an item type; `NO_PREFIX` for types without one."""
    return ITEM_PREFIX.get(type_, NO_PREFIX)
