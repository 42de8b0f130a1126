"""Schemas that would keep the validator busy are refused before it sees them; ordinary ones never are."""

import resource
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from deskhand.engine.schema_cost import MAX_PARTS, is_larger, is_too_costly
from deskhand.engine.text_format import complaint, schema_complaint
from deskhand.wire.items import Message
from deskhand.wire.parts import OutputText


def _doubling(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next: 2^levels checks of one value, in about 60 bytes a level."""
    steps = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": steps | {f"d{levels}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def _nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"x": value}
    return value


pytestmark = pytest.mark.timeout(20, method="signal")  # a check that runs away must not take the suite with it

TWICE_A_LEVEL = {"$defs": {"a": {"allOf": [{"properties": {"x": {"$ref": "#/$defs/a"}}}] * 2}}, "$ref": "#/$defs/a"}
TREE = {
    "$defs": {
        "n": {"type": "object", "properties": {"l": {"$ref": "#/$defs/n"}, "r": {"anyOf": [{"$ref": "#/$defs/n"}]}}}
    },
    "$ref": "#/$defs/n",
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (_doubling(60), {}),
        (TWICE_A_LEVEL, _nested(60)),
        ({"$ref": "#"}, 1),
        ({"$ref": "https://example.com/elsewhere"}, 1),
        ({"$dynamicRef": "#me", "$dynamicAnchor": "me"}, 1),
        ({"items": {"allOf": [{"pattern": "a"}] * 90}}, ["a"] * 1000),
        ({"items": {"required": [f"a{n}" for n in range(2000)]}}, [{}] * 1000),
        ({"items": {"properties": {f"a{n}": {} for n in range(5000)}}}, [{}] * 5000),
        ({"items": {"enum": list(range(50_000))}}, list(range(5000))),
    ],
)
def test_what_takes_too_long_is_refused_at_once(schema: dict[str, Any], value: Any) -> None:
    assert is_too_costly(schema, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (_doubling(8), {}),
        (TREE, {"l": {"l": {}, "r": {}}, "r": {"l": {}}}),
        ({"$id": "https://example.com/s", "$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"}, 1),
        ({"$defs": {"n": {"$anchor": "n", "type": "integer"}}, "items": {"$ref": "#n"}}, [1, 2]),
        ({"items": {"type": "string", "pattern": "^[a-z]+$"}}, ["abc"] * 1000),
        ({"items": {"enum": list(range(1000))}}, list(range(1000))),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {str(n): n for n in range(10_000)}),
    ],
)
def test_ordinary_schemas_are_checked_and_the_validator_agrees(schema: dict[str, Any], value: Any) -> None:
    assert not is_too_costly(schema, value)
    assert jsonschema_rs.validator_for(schema).is_valid(value)


def test_an_answer_that_cannot_be_checked_in_time_is_told_and_not_tried() -> None:
    message = Message(id="msg_1", role="assistant", content=(OutputText(text="{}"),))
    words = complaint({"type": "json_schema", "schema": _doubling(40)}, [message])
    assert "too many ways" in words
    assert complaint({"type": "json_schema", "schema": _doubling(4)}, [message]) == ""


def _told(schema: dict[str, Any], text: str) -> str:
    message = Message(id="msg_1", role="assistant", content=(OutputText(text=text),))
    return complaint({"type": "json_schema", "schema": schema}, [message])


def test_the_words_for_what_is_wrong_are_few_however_much_is_wrong() -> None:
    text = msgspec.json.encode({"a": "x" * 200_000}).decode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for keyword in ("allOf", "anyOf", "oneOf"):
        said = _told({keyword: [{"type": "string"}] * 2000}, text)
        assert "does not match the schema" in said
        assert len(said) < 1000
    assert "is not of type" in _told({"allOf": [{"type": "string"}] * 2000}, "5")
    assert "not valid under any" in _told({"anyOf": [{"type": "string"}, {"type": "null"}]}, "5")
    assert "'a'" in _told({"items": {"enum": ["b"]}}, '["a"]').replace('"', "'")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 512 << 10, "an error for each, with a copy of the value"


def test_schemas_have_so_many_parts() -> None:
    fits: dict[str, Any] = {"properties": {f"a{n}": {} for n in range(MAX_PARTS - 1)}}
    assert not is_larger(fits, MAX_PARTS)
    assert schema_complaint(fits) == ""
    assert "more than" in schema_complaint({"properties": {**fits["properties"], "z": {}}})


def test_regular_expressions_are_few_small_and_do_not_run_away() -> None:
    assert schema_complaint({"pattern": r"^\d{3}-\p{L}+$"}) == ""
    assert "regex" in schema_complaint({"pattern": r"\p{L}{200}"})
    assert "100 regular expressions" in schema_complaint({"anyOf": [{"pattern": f"a{n}"} for n in range(101)]})
    message = Message(id="msg_1", role="assistant", content=(OutputText(text='"' + "ab" * 3000 + '"'),))
    assert complaint({"type": "json_schema", "schema": {"anyOf": [{"pattern": r"(.*)*\1z"}] * 90}}, [message])
