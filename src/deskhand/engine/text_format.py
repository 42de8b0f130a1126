"""Does the final text have the form that the request asked for? Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from ..wire.items import Item, Message
from ..wire.parts import Refusal, text_of
from .schema_cost import (
    BACKTRACK_LIMIT,
    MAX_PARTS,
    MAX_PATTERNS,
    PATTERN_BYTES,
    checks,
    is_costly_to_explain,
    is_larger,
    patterns,
)

LONGEST_REASON = 400
"""Characters; reasons quote what they are about, all of it."""


def schema_complaint(schema: Mapping[str, Any]) -> str:
    """Why `schema` is no JSON schema, or not one for this server; empty if it is one."""
    if is_larger(schema, MAX_PARTS):
        return f"it has more than {MAX_PARTS} keywords, names and entries of lists"
    if patterns(schema) > MAX_PATTERNS:
        return f"it has more than {MAX_PATTERNS} regular expressions"
    try:
        _validator(schema)
    except (jsonschema_rs.ValidationError, ValueError) as exc:
        return _short(str(exc).splitlines()[0])
    return ""


def complaint(text_format: Mapping[str, Any], produced: Sequence[Item]) -> str:
    """What is wrong with the final message for `text_format`; empty if nothing is, or there is no final message."""
    last = produced[-1] if produced else None
    if not is_form(text_format) or not isinstance(last, Message):
        return ""
    if any(isinstance(part, Refusal) for part in last.content):
        return ""
    return text_complaint(text_format, text_of(last.content))


def is_form(text_format: Mapping[str, Any]) -> bool:
    """Whether `text_format` asks for more than text."""
    return text_format.get("type") in {"json_schema", "json_object"}


def text_complaint(text_format: Mapping[str, Any], text: str) -> str:
    """What is wrong with a final text for a `text_format` that is a form; empty if nothing is."""
    schema = (text_format.get("schema") or {}) if text_format["type"] == "json_schema" else {"type": "object"}
    if found := _complaint(schema, text, "text.format"):
        return f"The model's final text {found}."
    return ""


def arguments_complaint(parameters: Mapping[str, Any], arguments: str) -> str:
    """Why `arguments` are none of a function with these `parameters`; empty if they are."""
    return _complaint(parameters, arguments or "{}", "its parameters")


def _complaint(schema: Mapping[str, Any], text: str, whose: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        return f"is not JSON, as {whose} asks: {exc}"
    if schema == {"type": "object"}:
        return "" if isinstance(value, dict) else f"is not a JSON object, as {whose} asks"
    steps = checks(schema, value)
    if steps is None:
        return f"cannot be checked: the schema of {whose} refers to itself in too many ways"
    validator = _validator(schema)
    if validator.is_valid(value):
        return ""
    if is_costly_to_explain(schema, len(text), steps):
        return f"does not match the schema of {whose}"
    try:
        validator.validate(value)  # up to the first error: there may be one for every check
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path) or "the root"
        return f"does not match the schema of {whose}: {_short(error.message)} (at {_short(where)})"
    return ""


def _short(words: str) -> str:
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}…"


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    # Offline: a `$ref` of the client's must not make this server read files or call addresses.
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=PATTERN_BYTES)
    return jsonschema_rs.validator_for(dict(schema), offline=True, pattern_options=options)
