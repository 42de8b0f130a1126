"""Filters on attributes: what they say, what they match, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.attribute_filters import (
    DEEPEST,
    LONGEST_KEY,
    LONGEST_VALUE,
    MOST_FILTERS,
    MOST_VALUES,
    Comparison,
    Compound,
    Scalar,
    matches,
    read_filter,
)
from deskhand.core.errors import ApiError

FILE: dict[str, Scalar] = {"year": 2024, "price": 9.5, "name": "Bee", "day": "2024-05-01", "draft": False, "one": 1}
SCALARS = st.one_of(st.text(max_size=5), st.integers(), st.floats(allow_nan=False), st.booleans())
KEYS = st.sampled_from(["a", "b", "c"])
COMPARISONS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]), "key": KEYS, "value": SCALARS}
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["in", "nin"]), "key": KEYS, "value": st.lists(SCALARS, max_size=4)}
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, max_size=4)}
    ),
    max_leaves=12,
)
ATTRIBUTES = st.dictionaries(KEYS, SCALARS)
JSON = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "key", "value", "filters", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


def passes(type_: str, key: str, value: Any) -> bool:
    """Whether `FILE` passes a comparison."""
    return matches(read_filter({"type": type_, "key": key, "value": value}, "filters"), FILE)


def refused(value: Any) -> ApiError:
    """The error that a filter raises."""
    with pytest.raises(ApiError) as raised:
        read_filter(value, "filters")
    assert raised.value.status == 400
    return raised.value


@pytest.mark.parametrize(
    ("type_", "key", "value", "expected"),
    [
        ("eq", "year", 2024, True),
        ("eq", "year", 2024.0, True),
        ("eq", "year", 2023, False),
        ("eq", "year", "2024", False),
        ("ne", "year", 2024, False),
        ("ne", "year", "2024", True),
        ("gt", "year", 2023, True),
        ("gt", "year", 2024, False),
        ("gte", "year", 2024, True),
        ("lt", "price", 10, True),
        ("lt", "price", 9.5, False),
        ("lte", "price", 9.5, True),
        ("gt", "day", "2024-04-30", True),
        ("lt", "day", "2024-04-30", False),
        ("in", "name", ["Ant", "Bee"], True),
        ("in", "name", ["bee"], False),
        ("in", "name", [], False),
        ("nin", "name", ["Ant", "Bee"], False),
        ("nin", "name", ["Ant"], True),
        ("nin", "name", [], True),
    ],
)
def test_a_comparison_does_what_its_operator_says(type_: str, key: str, value: Any, expected: bool) -> None:
    assert passes(type_, key, value) is expected


@pytest.mark.parametrize(("type_", "value"), [("eq", 1), ("gt", 1), ("gte", 1), ("lt", 1), ("lte", 1), ("in", [1])])
def test_what_a_file_lacks_is_not_equal_greater_or_less(type_: str, value: Any) -> None:
    assert not passes(type_, "missing", value)
    assert passes("ne", "missing", 1)
    assert passes("nin", "missing", [1])


def test_booleans_are_not_numbers() -> None:
    assert passes("eq", "draft", False)
    assert not passes("eq", "draft", 0)
    assert not passes("eq", "one", True)
    assert passes("eq", "one", 1)
    assert not passes("in", "one", [True])
    assert passes("ne", "one", True)


@pytest.mark.parametrize("type_", ["gt", "gte", "lt", "lte"])
def test_kinds_that_have_no_order_match_nothing(type_: str) -> None:
    assert not passes(type_, "name", 5)
    assert not passes(type_, "year", "2000")
    assert not passes(type_, "draft", False)
    assert not passes(type_, "draft", 0)


def test_filters_are_combined() -> None:
    new = {"type": "gte", "key": "year", "value": 2024}
    cheap = {"type": "lt", "key": "price", "value": 5}
    assert not matches(read_filter({"type": "and", "filters": [new, cheap]}, "filters"), FILE)
    assert matches(read_filter({"type": "or", "filters": [new, cheap]}, "filters"), FILE)
    nested = {"type": "and", "filters": [new, {"type": "or", "filters": [cheap, new]}]}
    assert matches(read_filter(nested, "filters"), FILE)
    assert read_filter(nested, "filters") == Compound(
        "and",
        (
            Comparison("year", "gte", (2024,)),
            Compound("or", (Comparison("price", "lt", (5,)), Comparison("year", "gte", (2024,)))),
        ),
    )


def test_no_filters_match_as_all_and_any_do() -> None:
    assert matches(read_filter({"type": "and", "filters": []}, "filters"), {})
    assert not matches(read_filter({"type": "or", "filters": []}, "filters"), FILE)


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        (None, "filters", "invalid_type"),
        ([], "filters", "invalid_type"),
        ({}, "filters.type", "missing_required_parameter"),
        ({"type": "like", "key": "a", "value": 1}, "filters.type", "invalid_value"),
        ({"type": 5, "key": "a", "value": 1}, "filters.type", "invalid_value"),
        ({"type": "eq", "value": 1}, "filters.key", "missing_required_parameter"),
        ({"type": "eq", "key": "a"}, "filters.value", "missing_required_parameter"),
        ({"type": "eq", "key": 1, "value": 1}, "filters.key", "invalid_type"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value", "invalid_type"),
        ({"type": "eq", "key": "a", "value": {}}, "filters.value", "invalid_type"),
        ({"type": "eq", "key": "a", "value": [1]}, "filters.value", "invalid_type"),
        ({"type": "in", "key": "a", "value": 1}, "filters.value", "invalid_type"),
        ({"type": "in", "key": "a", "value": [1, [2]]}, "filters.value[1]", "invalid_type"),
        ({"type": "in", "key": "a", "value": [1] * (MOST_VALUES + 1)}, "filters.value", "array_above_max_length"),
        ({"type": "eq", "key": "a" * (LONGEST_KEY + 1), "value": 1}, "filters.key", "string_above_max_length"),
        ({"type": "eq", "key": "a", "value": "a" * (LONGEST_VALUE + 1)}, "filters.value", "string_above_max_length"),
        ({"type": "and"}, "filters.filters", "missing_required_parameter"),
        ({"type": "and", "filters": {}}, "filters.filters", "invalid_type"),
        ({"type": "and", "filters": [{"type": "or", "filters": [3]}]}, "filters.filters[0].filters[0]", "invalid_type"),
    ],
)
def test_what_is_no_filter_is_refused_where_it_stands(value: Any, param: str, code: str) -> None:
    error = refused(value)
    assert (error.param, error.code) == (param, code)
    assert param in error.message


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {"type": "eq", "key": "year", "value": 2024}
        for _ in range(depth):
            value = {"type": "and", "filters": [value]}
        return value

    assert matches(read_filter(nested(DEEPEST), "filters"), FILE)
    assert refused(nested(DEEPEST + 1)).code == "invalid_value"
    assert refused(nested(5000)).code == "invalid_value"


def test_parts_are_counted_together() -> None:
    one = {"type": "eq", "key": "year", "value": 2024}

    def groups(count: int) -> dict[str, Any]:
        return {"type": "and", "filters": [{"type": "or", "filters": [one]}] * count}

    most = (MOST_FILTERS - 1) // 2
    assert matches(read_filter(groups(most), "filters"), FILE)
    assert refused(groups(most + 1)).code == "array_above_max_length"


@given(FILTERS, ATTRIBUTES)
def test_each_operator_is_the_contrary_of_its_opposite(value: dict[str, Any], attributes: dict[str, Scalar]) -> None:
    assert matches(read_filter(value, "filters"), attributes) is not matches(
        read_filter(_contrary(value, attributes), "filters"), attributes
    )


def _contrary(value: dict[str, Any], attributes: dict[str, Scalar]) -> dict[str, Any]:
    """A filter that matches exactly what `value` does not, where an order has no opposite by what it finds here."""
    match value["type"]:
        case "and" | "or" as connective:
            parts = [_contrary(one, attributes) for one in value["filters"]]
            return {"type": "or" if connective == "and" else "and", "filters": parts}
        case "eq" | "ne" | "in" | "nin" as comparator:
            return value | {"type": {"eq": "ne", "ne": "eq", "in": "nin", "nin": "in"}[comparator]}
        case _:
            found = matches(read_filter(value, "filters"), attributes)
            return {"type": "or" if found else "and", "filters": []}


@given(JSON)
def test_any_json_is_a_filter_or_a_clear_error(value: Any) -> None:
    try:
        filter_ = read_filter(value, "filters")
    except ApiError as error:
        complaint: ApiError | None = error
    else:
        complaint = None
        assert matches(filter_, FILE) in (True, False)
    assert complaint is None or (complaint.param or "").startswith("filters")
