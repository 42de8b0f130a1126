"""What `strict: true` allows."""

from typing import Any

import pytest

from deskhand.engine.strict_schema import strict_complaint

LEAF = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a=LEAF, b={"type": ["string", "null"]}),
        closed(a=closed(b=LEAF), c={"type": "array", "items": closed(d=LEAF)}),
        closed(a={"anyOf": [LEAF, closed(b=LEAF)]}) | {"$defs": {"x": closed(y=LEAF)}},
        closed(required=LEAF, properties=LEAF),
        closed(**{f"a{n}": LEAF for n in range(100_000)}),  # not each name against each
    ],
)
def test_a_strict_schema_is_let_pass(schema: dict[str, Any]) -> None:
    assert strict_complaint(schema) == ""


OPEN = {"type": "object", "properties": {"b": LEAF}, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, 'type: "object"'),
        (closed() | {"anyOf": [LEAF]}, 'type: "object"'),
        (OPEN, "In context=(), 'additionalProperties'"),
        (closed(a=LEAF) | {"required": []}, "Missing 'a'"),
        (closed(a=OPEN), "In context=('properties', 'a')"),
        (closed(a={"type": "array", "items": OPEN}), "'items'"),
        (closed(a={"anyOf": [LEAF, OPEN]}), "'anyOf', '1'"),
        (closed() | {"$defs": {"x": OPEN}}, "'$defs', 'x'"),
    ],
)
def test_an_open_schema_is_complained_of(schema: dict[str, Any], words: str) -> None:
    assert words in strict_complaint(schema)


def test_endless_nesting_is_refused() -> None:
    schema = closed()
    for _ in range(100):
        schema = closed(a=schema)
    assert "nested too deeply" in strict_complaint(schema)
