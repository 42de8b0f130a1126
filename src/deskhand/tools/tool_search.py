"""The `tool_search` tool: tools that are hidden until the model looks for them (`defer_loading`).

The model gets a function that finds tools. This server answers it from the hidden tools of the request, in the same
response, or the client does (`execution`: `client`). What is found is offered from then on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..core.drafts import Closed, Draft, Opened
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.codec import encode
from ..wire.items import ToolSearchCall, ToolSearchOutput
from .whole_calls import WholeReader

NAME: Final = "tool_search"

MOST_FOUND: Final = 8
"""Tools that one query loads; those that are named are all loaded."""
_LISTED_CHARACTERS: Final = 20_000
_DESCRIPTION_CHARACTERS: Final = 200
_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_PARAMETERS: Final = {
    "type": "object",
    "properties": {
        "paths": {**_STRINGS, "description": "Names of tools to load, as listed."},
        "query": {"type": "string", "description": "Words to look for, if no name says what is needed."},
    },
}
_ANYTHING: Final = {"type": "object", "properties": {"query": {"type": "string"}}}
_WORD: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Hidden:
    """A tool that waits to be found: its `path` is `name`, or `namespace.name`. `fields` is what its finder gets."""

    path: str
    description: str
    fields: Mapping[str, Any]

    def words(self) -> set[str]:
        """What a query is held against."""
        return set(_WORD.findall(f"{self.path} {self.description}".lower()))


class ToolSearchTool:
    """Finds `hidden` tools, or lets the client find what it likes; `fields` is the tool on the wire."""

    hosted = False

    def __init__(self, fields: Mapping[str, Any], hidden: Sequence[Hidden]) -> None:
        self._fields = fields
        self._hidden = hidden
        self._client = fields.get("execution") == "client"

    @property
    def declaration(self) -> FunctionDeclaration:
        said = self._fields.get("description")
        if self._client:
            parameters = self._fields.get("parameters")
            description = str(said or "Find tools that are not offered yet; those found can be called afterwards.")
            return FunctionDeclaration(
                NAME, description, parameters if isinstance(parameters, dict) else _ANYTHING, checked=True
            )
        lead = f"{said}\n\n" if said else ""
        lead += "Load tools that are not offered yet, to call them afterwards. There are:\n"
        return FunctionDeclaration(NAME, lead + "\n".join(self._listed()), _PARAMETERS, checked=True)

    def read(self, call_id: str, new_id: NewId) -> "ToolSearchReader":
        execution = "client" if self._client else "server"
        call = ToolSearchCall(
            id=new_id("tsc"),
            call_id=call_id if self._client else None,
            execution="client" if execution == "client" else "server",
            status="in_progress",
        )
        return ToolSearchReader(call, None if self._client else self._hidden, new_id)

    def _listed(self) -> Iterator[str]:
        left = _LISTED_CHARACTERS
        for tool in self._hidden:
            line = f"- {tool.path}: {tool.description[:_DESCRIPTION_CHARACTERS]}".rstrip(": \n").replace("\n", " ")
            left -= len(line)
            if left < 0:
                yield "- and more, which a query finds"
                return
            yield line


class ToolSearchReader(WholeReader):
    """Shows the search once it is whole, and what this server found; `hidden` is None if the client looks."""

    def __init__(self, call: ToolSearchCall, hidden: Sequence[Hidden] | None, new_id: NewId) -> None:
        super().__init__()
        self._call = call
        self._hidden = hidden
        self._new_id = new_id

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        try:
            arguments = self._arguments.whole()
        except ValueError:
            # An upstream that sees to arguments itself has not: the text may still say what is looked for.
            arguments = {"query": self._arguments.text}
        call = msgspec.structs.replace(self._call, arguments=arguments, status=ending)
        drafts: list[Draft] = [Opened(self._call), Closed(call)]
        if self._hidden is None or ending == "incomplete":
            return drafts
        tools = tuple(dict(fields) for fields in merged(found(self._hidden, arguments)))
        output = ToolSearchOutput(id=self._new_id("tso"), tools=tools, status="in_progress")
        return [*drafts, Opened(output), Closed(msgspec.structs.replace(output, status="completed"))]


def found(hidden: Sequence[Hidden], arguments: Mapping[str, Any]) -> list[Hidden]:
    """The tools that a search finds: those it names, alone or by their namespace, and the best matches of its query."""
    paths = arguments.get("paths")
    named = {str(path).lower() for path in paths} if isinstance(paths, list) else set()
    chosen: list[Hidden] = []
    others: list[Hidden] = []
    for tool in hidden:
        (chosen if _is_named(tool, named) else others).append(tool)
    asked = arguments.get("query")
    query = str(asked) if isinstance(asked, str) else ""
    if not chosen:
        query += " " + " ".join(sorted(named))
    words = set(_WORD.findall(query.lower()))
    scored = [(len(words & tool.words()), tool) for tool in others]
    best = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])
    return chosen + [tool for _, tool in best[:MOST_FOUND]]


def merged(tools: Sequence[Hidden]) -> list[Mapping[str, Any]]:
    """The wire tools of what was found, with the members of one namespace in one object."""
    made: list[Mapping[str, Any]] = []
    gathered: dict[str, list[Any]] = {}
    for tool in tools:
        match tool.fields:
            case {"type": "namespace", "name": str(name), "tools": list(members)} if name in gathered:
                gathered[name] += members
            case {"type": "namespace", "name": str(name), "tools": list(members)}:
                gathered[name] = [*members]
                made.append({**tool.fields, "tools": gathered[name]})
            case _:
                made.append(tool.fields)
    return made


def _is_named(tool: Hidden, named: set[str]) -> bool:
    path = tool.path.lower()
    namespace, _, name = path.rpartition(".")
    return path in named or namespace in named or (bool(namespace) and f"{namespace}__{name}" in named)


def prompt_call(item: ToolSearchCall) -> PromptCall:
    """The call as the model reads it later."""
    arguments = item.arguments if isinstance(item.arguments, str) else encode(item.arguments or {}).decode()
    return PromptCall(item.call_id or item.id, NAME, arguments)


def prompt_output(item: ToolSearchOutput) -> PromptOutput:
    """What was found, as the model reads it: by name, as the tools themselves are offered."""
    names = [name for tool in item.tools for name in _names(tool)]
    text = f"Loaded, and can be called now: {', '.join(names)}." if names else "No tool was found."
    return PromptOutput(item.call_id or item.id, text)


def _names(tool: Mapping[str, Any]) -> Iterator[str]:
    match tool:
        case {"type": "namespace", "tools": list(members)}:
            for member in members:
                if isinstance(member, Mapping):
                    yield str(member.get("name"))
        case _:
            yield str(tool.get("name") or tool.get("server_label") or tool.get("type"))
