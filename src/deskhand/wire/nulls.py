"""Nulls, which count as left out: clients replay their SDK's objects with every optional field set to null."""

from typing import Any


def without_nulls(value: Any) -> Any:
    """`value` without the fields that are null, at any depth. Nulls in lists stay."""
    match value:
        case dict():
            return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [without_nulls(inner) for inner in value]
        case _:
            return value
