"""The smallest value that a JSON schema allows: what stand-in models answer when a form is asked for."""

from collections.abc import Mapping
from typing import Any, Final

DEEPEST: Final = 32


def smallest(schema: Any, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """A small value that `schema` allows. Covers what clients ask models for, not all of JSON Schema."""
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return None
    root = schema if root is None else root
    if isinstance(schema.get("$ref"), str):
        return smallest(_resolve(schema["$ref"], root), root, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _simplest(schema[key], root, depth)
    if schema.get("allOf"):
        merged = [smallest(part, root, depth + 1) for part in schema["allOf"]]
        objects = [value for value in merged if isinstance(value, dict)]
        return {k: v for value in objects for k, v in value.items()} if objects else merged[0]
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    match kind:
        case "object" | None if kind or "properties" in schema:
            properties = schema.get("properties") or {}
            required = schema.get("required", list(properties))
            return {name: smallest(properties.get(name, {}), root, depth + 1) for name in required}
        case "array":
            return [smallest(schema.get("items") or {}, root, depth + 1)] * int(schema.get("minItems") or 0)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = _FORMATS.get(str(schema.get("format")), "text")
            text = text.ljust(int(schema.get("minLength") or 0), "x")
            return text[: schema["maxLength"]] if isinstance(schema.get("maxLength"), int) else text


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    value: float = 1
    if isinstance(low, (int, float)) and value <= low:
        value = low + 1 if "exclusiveMinimum" in schema else low
    if isinstance(high, (int, float)) and value >= high:
        value = high - 1 if "exclusiveMaximum" in schema else high
    return int(value) if whole else value


def _simplest(choices: list[Any], root: Mapping[str, Any], depth: int) -> Any:
    values = [smallest(choice, root, depth + 1) for choice in choices]
    return next((value for value in values if value is not None), None)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    node: Any = root
    for step in reference.lstrip("#/").split("/"):
        if step and isinstance(node, Mapping):
            node = node.get(step.replace("~1", "/").replace("~0", "~"))
    return node


_FORMATS: Final = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
