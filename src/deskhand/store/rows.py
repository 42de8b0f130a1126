"""Stored text as the API's values, and what else of a run becomes rows."""

import time
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from ..core.turn import Turn
from ..ports.runs import ModelCall
from ..wire.codec import convert, decode
from ..wire.events import Event
from ..wire.items import Item, KnownItem, OpaqueItem
from ..wire.response import (
    Billing,
    ConversationRef,
    IncompleteDetails,
    Response,
    ResponseError,
    ToolUsage,
    Usage,
)
from ..wire.tools import decode_tool
from .text import body

# Not `decode_item`: that reads what clients send, and drops nulls that a stored item may mean.
_KNOWN = msgspec.json.Decoder(KnownItem)
_KNOWN_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(KnownItem))
_NESTED: Mapping[str, Any] = {
    "billing": Billing,
    "conversation": ConversationRef | None,
    "error": ResponseError | None,
    "incomplete_details": IncompleteDetails | None,
    "tool_usage": ToolUsage,
    "usage": Usage | None,
}


def stored_item(type_: str, text: str) -> Item:
    """The item of a stored body."""
    return _KNOWN.decode(text) if type_ in _KNOWN_TYPES else OpaqueItem(decode(text))


def stored_response(text: str, status: str, output: list[Item]) -> Response:
    """The response of a stored body, which has no output. Fields that this version does not know are left out."""
    return _response({**decode(text), "status": status}, output)


def event_row(response_id: str, event: Event) -> dict[str, Any]:
    """An event as it is stored."""
    return {
        "response_id": response_id,
        "sequence_number": event.sequence_number,
        "type": event.type,
        "output_index": event.fields.get("output_index"),
        "body": body(event.wire()),
    }


def stored_event(text: str) -> Event:
    """The event of a stored body, with its item or its response as they are when they are new."""
    fields = decode(text)
    type_, number = fields.pop("type"), fields.pop("sequence_number")
    if "item" in fields:
        fields["item"] = _item(fields["item"])
    elif "response" in fields:
        response = fields["response"]
        fields["response"] = _response(response, [_item(item) for item in response["output"]])
    return Event(type_, number, fields)


def call_row(response_id: str, call: ModelCall) -> dict[str, Any]:
    """A model call as it is stored."""
    usage = None if call.usage is None else body(call.usage)
    return {
        "response_id": response_id,
        "ended_at": int(time.time()),
        "turn": body(call.turn),
        "produced": call.produced,
        "usage": usage,
    }


def stored_call(turn: str, produced: int, usage: str | None) -> ModelCall:
    """The model call of a row."""
    used = None if usage is None else msgspec.json.decode(usage, type=Usage)
    return ModelCall(msgspec.json.decode(turn, type=Turn), produced, used)


def _item(fields: Mapping[str, Any]) -> Item:
    return msgspec.convert(fields, KnownItem) if fields.get("type") in _KNOWN_TYPES else OpaqueItem(fields)


def _response(given: Mapping[str, Any], output: list[Item]) -> Response:
    fields = {name: value for name, value in given.items() if name in Response.__struct_fields__}
    for name, kind in _NESTED.items():
        if name in fields:
            fields[name] = convert(fields[name], kind)
    fields["tools"] = [decode_tool(tool) for tool in fields.get("tools", ())]
    return Response(**{**fields, "output": output})
