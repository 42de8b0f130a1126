"""Filters on the attributes of files in a vector store: reading them, and whether attributes match. Pure.

Operators and shapes: API reference, `ComparisonFilter` and `CompoundFilter`. What it leaves open is settled so: values
are equal only if they are of one kind (string, number, boolean), so that `true` is not `1`; `ne` and `nin` are exactly
the contrary of `eq` and `in`, so that they match files that lack the key; `gt`, `gte`, `lt` and `lte` compare numbers
with numbers and strings with strings, by code points as dates in ISO 8601 want it, and match nothing else.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard, get_args

from .errors import ApiError, missing

Scalar = str | int | float | bool
Comparator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Connective = Literal["and", "or"]

DEEPEST: Final = 16
"""Compound filters within each other."""
MOST_FILTERS: Final = 256
"""Filters in one filter, together."""
MOST_VALUES: Final = 1000
"""Values of one `in` or `nin`."""
LONGEST_KEY: Final = 64
"""API reference, "Vector stores": keys of attributes have at most 64 characters."""
LONGEST_VALUE: Final = 512
"""API reference, "Vector stores": values that are strings have at most 512 characters."""

_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute compared with a value; `in` and `nin` have several values, the others one."""

    key: str
    operator: Comparator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """Several filters. An empty `and` matches everything, an empty `or` nothing."""

    operator: Connective
    filters: tuple["Filter", ...]


Filter = Comparison | Compound


def read_filter(value: Any, param: str) -> Filter:
    """The filter in plain JSON; `param` says where in the request it stood. Raises `ApiError` (400)."""
    return _Reader().read(value, param, 1)


def matches(filter_: Filter, attributes: Mapping[str, Scalar]) -> bool:
    """Tell whether a file with `attributes` passes."""
    match filter_:
        case Compound("and", filters):
            return all(matches(one, attributes) for one in filters)
        case Compound(_, filters):
            return any(matches(one, attributes) for one in filters)
        case Comparison(key, "eq" | "in", values):
            return key in attributes and _is_among(attributes[key], values)
        case Comparison(key, "ne" | "nin", values):
            return key not in attributes or not _is_among(attributes[key], values)
        case Comparison(key, comparator, values):
            return key in attributes and _in_order(attributes[key], comparator, values[0])


class _Reader:
    """Reads one filter and counts its parts."""

    def __init__(self) -> None:
        self._left = MOST_FILTERS

    def read(self, value: Any, param: str, depth: int) -> Filter:
        if not isinstance(value, dict):
            raise _mistyped(param, "an object")
        self._left -= 1
        if self._left < 0:
            raise _too_many(param, f"a filter has at most {MOST_FILTERS} parts")
        match value.get("type"):
            case None:
                raise missing(f"{param}.type")
            case "and" | "or" as connective:
                return self._compound(connective, value, param, depth)
            case str() as name if name in get_args(Comparator):
                return _comparison(name, value, param)  # type: ignore[arg-type] # just found among them
            case _:
                known = ", ".join((*get_args(Comparator), *get_args(Connective)))
                raise _invalid(f"{param}.type", f"expected one of {known}")

    def _compound(self, connective: Connective, value: dict[str, Any], param: str, depth: int) -> Compound:
        where = f"{param}.filters"
        if depth > DEEPEST:
            raise _invalid(param, f"filters may be nested {DEEPEST} deep")
        if "filters" not in value:
            raise missing(where)
        parts = value["filters"]
        if not isinstance(parts, list):
            raise _mistyped(where, "an array of filters")
        return Compound(connective, tuple(self.read(one, f"{where}[{n}]", depth + 1) for n, one in enumerate(parts)))


def _comparison(comparator: Comparator, value: dict[str, Any], param: str) -> Comparison:
    for name in ("key", "value"):
        if name not in value:
            raise missing(f"{param}.{name}")
    key, given = value["key"], value["value"]
    if not isinstance(key, str):
        raise _mistyped(f"{param}.key", "a string")
    _require_length(key, LONGEST_KEY, f"{param}.key")
    where = f"{param}.value"
    if comparator in ("in", "nin"):
        return Comparison(key, comparator, _values(given, where))
    return Comparison(key, comparator, (_scalar(given, where),))


def _values(given: Any, param: str) -> tuple[Scalar, ...]:
    if not isinstance(given, list):
        raise _mistyped(param, "an array of strings and numbers")
    if len(given) > MOST_VALUES:
        raise _too_many(param, f"at most {MOST_VALUES} values")
    return tuple(_scalar(one, f"{param}[{n}]") for n, one in enumerate(given))


def _scalar(given: Any, param: str) -> Scalar:
    if not _is_scalar(given):
        raise _mistyped(param, "a string, a number or a boolean")
    if isinstance(given, str):
        _require_length(given, LONGEST_VALUE, param)
    return given


def _is_scalar(given: Any) -> TypeGuard[Scalar]:
    return isinstance(given, str | int | float)


def _is_among(found: Scalar, values: tuple[Scalar, ...]) -> bool:
    kind = _kind(found)
    return any(found == value and kind == _kind(value) for value in values)


def _in_order(found: Scalar, comparator: str, value: Scalar) -> bool:
    kind = _kind(found)
    return kind is not bool and kind == _kind(value) and _ORDER[comparator](found, value)


def _kind(value: Scalar) -> type:
    """What a value is to filters; to Python, booleans are numbers."""
    if isinstance(value, bool):
        return bool
    return str if isinstance(value, str) else float


def _require_length(text: str, most: int, param: str) -> None:
    if len(text) > most:
        message = f"Invalid '{param}': string too long, at most {most} characters."
        raise ApiError(message, code="string_above_max_length", param=param)


def _mistyped(param: str, expected: str) -> ApiError:
    return ApiError(f"Invalid type for '{param}': expected {expected}.", code="invalid_type", param=param)


def _invalid(param: str, why: str) -> ApiError:
    return ApiError(f"Invalid value for '{param}': {why}.", code="invalid_value", param=param)


def _too_many(param: str, why: str) -> ApiError:
    return ApiError(f"Invalid '{param}': {why}.", code="array_above_max_length", param=param)
