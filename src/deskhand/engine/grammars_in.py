"""Grammars of a request's custom tools: refused here if they are none, before the model is asked to keep to them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.errors import ApiError
from ..ports.grammars import Grammars
from ..wire.codec import plain
from ..wire.tools import Tool

MAX_GRAMMARS = 16


async def check_grammars(grammars: Grammars, tools: Sequence[Tool], where: str) -> None:
    """Raise `ApiError` for the first grammar that is not valid, or for too many; `where` is where the tools came."""
    found = [one for index, tool in enumerate(tools) for one in _grammars(plain(tool), f"{where}[{index}]")]
    if len(found) > MAX_GRAMMARS:
        raise ApiError(f"At most {MAX_GRAMMARS} grammars fit a request.", code="array_above_max_length", param=where)
    for name, form, path in found:
        if complaint := await grammars.grammar_complaint(form):
            message = f"Invalid grammar for custom tool '{name}': {complaint}"
            raise ApiError(message, code="invalid_value", param=f"{path}.format")


def _grammars(tool: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """The name, the format and the place of each tool with a grammar in `tool`: itself, or a namespace's."""
    match tool:
        case {"type": "custom", "name": str(name), "format": {"type": "grammar"} as form}:
            yield name, form, path
        case {"type": "namespace", "tools": list(members)}:
            for index, member in enumerate(members):
                if isinstance(member, Mapping):
                    yield from _grammars(member, f"{path}.tools[{index}]")
        case _:
            return
