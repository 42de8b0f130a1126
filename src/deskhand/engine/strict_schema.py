"""Is a JSON schema one that `strict: true` allows? (API reference, "Text format, structured output".) Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

_NAMED = ("properties", "$defs", "definitions")
_MAX_DEPTH = 64


def strict_complaint(schema: Mapping[str, Any]) -> str:
    """What is wrong with `schema` for strict use, in OpenAI's words; empty if nothing is."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return "schema must be a JSON Schema of 'type: \"object\"', got 'type: " + f'"{schema.get("type")}"' + "'."
    return next(_complaints(schema, (), 0), "")


def _complaints(schema: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        yield f"In context={path}, the schema is nested too deeply."
        return
    if "properties" in schema or schema.get("type") == "object":
        yield from _object_complaints(schema, path)
    for step, inner in _children(schema):
        yield from _complaints(inner, (*path, *step), depth + 1)


def _object_complaints(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
    properties = schema.get("properties")
    required = schema.get("required")
    known = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    missing = [name for name in properties if name not in known] if isinstance(properties, dict) else []
    if missing:
        yield (
            f"In context={path}, 'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing '{missing[0]}'."
        )


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for group in _NAMED:
        named = schema.get(group)
        for name, inner in named.items() if isinstance(named, dict) else ():
            if isinstance(inner, dict):
                yield (group, name), inner
    if isinstance(items := schema.get("items"), dict):
        yield ("items",), items
    branches = schema.get("anyOf")
    for index, inner in enumerate(branches if isinstance(branches, list) else ()):
        if isinstance(inner, dict):
            yield ("anyOf", str(index)), inner
