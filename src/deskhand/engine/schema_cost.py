"""How much work is it to check a value against a schema? Pure.

The validator is fast and cannot be interrupted, and a client's schema of two kilobytes can make it work for years: 40
definitions that each refer twice to the next are 2^40 checks. So the checks are counted first, in the plainest way and
only up to a ceiling. What is counted twice or too often errs on the side of refusing.

To say what is wrong costs more than to see that something is: below `anyOf` and `oneOf` every error of every branch is
made, each with a copy of the value that it is about.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

MAX_CHECKS = 500_000
COMPARISONS = 64
"""Values of an `enum` that count for one check: that many are compared in its time."""
ERROR_BYTES = 1000
"""What an error takes beside its copy of the value."""
MAX_ERROR_BYTES = 1 << 24
PATTERN_CHECKS = 200
"""What a regular expression counts for; the validator's own ceiling of backtracking bounds each."""
BACKTRACK_LIMIT = 20_000
PATTERN_BYTES = 1 << 20
"""Memory of one compiled expression; the validator would take eight times as much, for some tens of milliseconds."""
MAX_PATTERNS = 100
MAX_PARTS = 100_000
"""Of a schema, or of all tools of a request: they are compiled in about a quarter of a second, if they are valid."""

_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_EACH_CHILD = frozenset(
    {"items", "prefixItems", "additionalItems", "contains", "unevaluatedItems", "additionalProperties",
     "unevaluatedProperties"}
)  # fmt: skip
_BRANCHES = frozenset({"anyOf", "oneOf"})
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def is_too_costly(schema: Mapping[str, Any], value: Any) -> bool:
    """Tell whether checking `value` could take more than `MAX_CHECKS` steps, or refers to what cannot be found."""
    return checks(schema, value) is None


def is_costly_to_explain(schema: Mapping[str, Any], value_bytes: int, steps: int) -> bool:
    """Tell whether the words for what is wrong with a value could take too much memory, after so many `checks`."""
    return steps * (value_bytes + ERROR_BYTES) > MAX_ERROR_BYTES and _has_branches(schema)


def checks(schema: Mapping[str, Any], value: Any) -> int | None:
    """How many steps it could take to check `value`; None if it is too costly."""
    anchors = dict(_anchors(schema))
    left, waiting = MAX_CHECKS, [(schema, value)]
    while waiting:
        part, at = waiting.pop()
        if isinstance(part, list):
            left -= len(part)
            waiting += [(inner, at) for inner in part]
        elif isinstance(part, dict):
            left -= 1 + len(part)
            for key, inner in part.items():
                if key in _REFERENCES:
                    target = _target(schema, anchors, inner)
                    if target is None:
                        return None
                    waiting.append((target, at))
                left -= _weight(key, inner, at)
                if left < 0:
                    return None
                steps = list(_inside(key, inner, at))
                left -= len(steps)
                waiting += steps
        if left < 0:
            return None
    return MAX_CHECKS - left


def _has_branches(schema: Any) -> bool:
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and not _BRANCHES.isdisjoint(part):
            return True
        waiting += _children(part)
    return False


def is_larger(schema: Any, most: int) -> bool:
    """Tell whether a schema has more parts than `most`: keywords, names and entries of lists."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            most -= len(part)
            if most < 0:
                return True
            waiting += _children(part)
    return False


def patterns(schema: Any) -> int:
    """Count the regular expressions that a schema has compiled."""
    found, waiting = 0, [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += isinstance(part.get("pattern"), str)
            named = part.get("patternProperties")
            found += len(named) if isinstance(named, dict) else 0
        waiting += _children(part)
    return found


def _weight(key: str, inner: Any, value: Any) -> int:
    """What the keyword `key` counts for beside the schemas in it."""
    match key, inner, value:
        case "pattern", _, _:
            return PATTERN_CHECKS
        case "patternProperties", dict(), dict():
            return PATTERN_CHECKS * len(inner) * len(value)
        case "required" | "properties", list() | dict(), dict():
            return len(inner)
        case "enum", list(), _:
            return len(inner) // COMPARISONS
        case _:
            return 0


def _inside(key: str, inner: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """What the keyword `key` has checked: schemas, and the values that they are for."""
    if key in _IN_PLACE:
        yield inner, value
    elif key in {"dependentSchemas", "dependencies"} and isinstance(inner, dict):
        yield from ((schema, value) for schema in inner.values())
    elif key in _EACH_CHILD:
        yield from ((inner, child) for child in _children(value))
    elif key == "properties" and isinstance(inner, dict) and isinstance(value, dict):
        yield from ((inner[name], child) for name, child in value.items() if name in inner)
    elif key == "patternProperties" and isinstance(inner, dict) and isinstance(value, dict):
        yield from ((schema, child) for schema in inner.values() for child in value.values())
    elif key == "propertyNames" and isinstance(value, dict):
        yield from ((inner, name) for name in value)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _anchors(schema: Any) -> Iterator[tuple[str, Any]]:
    """Parts of a schema by the references that name them other than by their place."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := part.get(key), str):
                    yield f"#{name}", part
            for key in ("$id", "id"):
                if isinstance(name := part.get(key), str):
                    yield name, part
        waiting += _children(part)


def _target(schema: Any, anchors: Mapping[str, Any], reference: Any) -> Any:
    """What a reference names, by RFC 6901 below the root; None if that is not to be seen."""
    if not isinstance(reference, str):
        return None
    if reference in anchors:
        return anchors[reference]
    if reference != "#" and not reference.startswith("#/"):
        return None
    found = schema
    for step in unquote(reference[1:]).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            return None
    return found
