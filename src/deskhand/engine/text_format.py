"""Does the final text have the form that the request asked for? Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from ..core.errors import ApiError
from ..wire.items import Item, Message
from ..wire.parts import Refusal, text_of


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise `ApiError` if `schema` is no JSON schema."""
    try:
        jsonschema_rs.validator_for(dict(schema))
    except (jsonschema_rs.ValidationError, ValueError) as exc:
        raise ApiError(
            f"Invalid schema for response_format: {str(exc).splitlines()[0]}",
            code="invalid_json_schema",
            param="text.format.schema",
        ) from None


def complaint(text_format: Mapping[str, Any], produced: Sequence[Item]) -> str:
    """What is wrong with the final message for `text_format`; empty if nothing is, or there is no final message."""
    last = produced[-1] if produced else None
    if text_format.get("type") not in {"json_schema", "json_object"} or not isinstance(last, Message):
        return ""
    if any(isinstance(part, Refusal) for part in last.content):
        return ""
    try:
        value = msgspec.json.decode(text_of(last.content))
    except msgspec.DecodeError as exc:
        return f"The model's final text is not JSON, as text.format asks: {exc}."
    if text_format["type"] == "json_object":
        return "" if isinstance(value, dict) else "The model's final text is not a JSON object, as text.format asks."
    validator = jsonschema_rs.validator_for(dict(text_format.get("schema") or {}))
    error = next(iter(validator.iter_errors(value)), None)
    if error is None:
        return ""
    where = "/".join(str(step) for step in error.instance_path) or "the root"
    return f"The model's final text does not match the schema of text.format: {error.message} (at {where})."
