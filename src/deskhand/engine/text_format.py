"""Does the final text have the form that the request asked for? Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from ..wire.items import Item, Message
from ..wire.parts import Refusal, text_of
from .schema_cost import BACKTRACK_LIMIT, MAX_PATTERNS, PATTERN_BYTES, is_too_costly, patterns


def schema_complaint(schema: Mapping[str, Any]) -> str:
    """Why `schema` is no JSON schema, or not one for this server; empty if it is one."""
    if patterns(schema) > MAX_PATTERNS:
        return f"it has more than {MAX_PATTERNS} regular expressions"
    try:
        _validator(schema)
    except (jsonschema_rs.ValidationError, ValueError) as exc:
        return str(exc).splitlines()[0]
    return ""


def complaint(text_format: Mapping[str, Any], produced: Sequence[Item]) -> str:
    """What is wrong with the final message for `text_format`; empty if nothing is, or there is no final message."""
    last = produced[-1] if produced else None
    if text_format.get("type") not in {"json_schema", "json_object"} or not isinstance(last, Message):
        return ""
    if any(isinstance(part, Refusal) for part in last.content):
        return ""
    try:
        value = msgspec.json.decode(text_of(last.content))
    except (msgspec.DecodeError, RecursionError) as exc:
        return f"The model's final text is not JSON, as text.format asks: {exc}."
    if text_format["type"] == "json_object":
        return "" if isinstance(value, dict) else "The model's final text is not a JSON object, as text.format asks."
    schema = text_format.get("schema") or {}
    if is_too_costly(schema, value):
        return "The schema of text.format refers to itself in too many ways to check the model's final text against it."
    error = next(iter(_validator(schema).iter_errors(value)), None)
    if error is None:
        return ""
    where = "/".join(str(step) for step in error.instance_path) or "the root"
    return f"The model's final text does not match the schema of text.format: {error.message} (at {where})."


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    # Offline: a `$ref` of the client's must not make this server read files or call addresses.
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=PATTERN_BYTES)
    return jsonschema_rs.validator_for(dict(schema), offline=True, pattern_options=options)
