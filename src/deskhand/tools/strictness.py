"""Function schemas made strict, as the API does when `strict` is left out (API reference, "Tools", function). Pure."""

from collections.abc import Mapping
from typing import Any, Final

_MAX_DEPTH: Final = 32
_NAMED: Final = ("properties", "$defs", "definitions")
_KEPT: Final = frozenset(
    {
        "type", "title", "description", "default", "examples", "enum", "const", "format", "pattern", "minimum",
        "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minLength",
        "maxLength", "$ref", "$schema", "required", "additionalProperties", "items", "anyOf", *_NAMED,
    }
)  # fmt: skip
"""Keywords that a strict schema may have. With any other the schema stays as it is."""


def made_strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` with every property required and no others allowed; None if it cannot be had so."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return None
    return _strict(schema, 0)


def _strict(schema: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    if depth > _MAX_DEPTH or not _KEPT.issuperset(schema) or schema.get("additionalProperties", False) is not False:
        return None
    made = dict(schema)
    for group in _NAMED:
        if group in schema:
            named = _each(schema[group], depth)
            if named is None:
                return None
            made[group] = named
    if "items" in schema:
        made["items"] = _inner(schema["items"], depth)
    if "anyOf" in schema:
        made["anyOf"] = [_inner(one, depth) for one in schema["anyOf"]] if isinstance(schema["anyOf"], list) else None
    if made.get("items", ()) is None or made.get("anyOf", ()) is None or None in made.get("anyOf", ()):
        return None
    if _is_object(schema):
        # An object of which nothing is said holds anything, which strict cannot say.
        if "properties" not in schema and depth:
            return None
        made |= {"required": list(made.get("properties") or ()), "additionalProperties": False}
    return made


def _each(group: Any, depth: int) -> dict[str, Any] | None:
    if not isinstance(group, Mapping):
        return None
    made = {name: _inner(inner, depth) for name, inner in group.items()}
    return None if None in made.values() else made


def _inner(schema: Any, depth: int) -> dict[str, Any] | None:
    return _strict(schema, depth + 1) if isinstance(schema, Mapping) else None


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
