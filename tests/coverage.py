"""What of OpenAI's surface this server has: python -m tests.coverage writes docs/reference/coverage.md.

OpenAI's side is `docs/reference/openai-surface.json`, names only. Ours is read from the code: the operations of the
OpenAPI document, the wire types, and the names of events in what sends them.
"""

import ast
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import deskhand.compose  # noqa: F401  (loads every tool and item that there is)
from deskhand.api.operations import OPERATIONS
from deskhand.engine.tools_in import ADDED
from deskhand.engine.window import TRIGGER
from deskhand.tools.registry import EMULATED
from deskhand.wire import items, tools
from deskhand.wire.request import Include

ROOT: Final = Path(__file__).parents[1]
SURFACE: Final = ROOT / "docs" / "reference" / "openai-surface.json"
TABLE: Final = ROOT / "docs" / "reference" / "coverage.md"
SENDERS: Final = ("core", "engine", "tools", "wire")
"""The layers that say which events are sent."""

_HEAD: Final = """# Coverage of OpenAI's API

Written by `make docs` from the code and from `openai-surface.json` ({source}); a test fails when it lags.
Nothing that OpenAI accepts in a request is refused for being unknown here: a tool or an item of a kind without a "yes"
is kept, echoed and passed on to an upstream that may know it. An endpoint without a "yes" answers OpenAI's 404.
"""


def table() -> str:
    """The page."""
    surface = json.loads(SURFACE.read_text())
    served = {bare(f"{method} {path}") for method, path in OPERATIONS}
    theirs = [endpoint for group in surface["endpoints"].values() for endpoint in group]
    ours = sorted(served - {bare(endpoint) for endpoint in theirs})
    # These have no type of their own: `engine` acts on them by name.
    typed_items, typed_tools = _tags(items._Item) | {ADDED, TRIGGER}, _tags(tools._Tool)
    named_items = sorted({*surface["input_items"], *surface["output_items"]})
    parts = [
        _HEAD.format(source=surface["source"]),
        _endpoints(surface["endpoints"], served),
        _ours(ours),
        _names("Tools", surface["tools"], {*typed_tools, *EMULATED, "namespace"}, "served"),
        _names("Items", named_items, typed_items, "acted on"),
        _names("Events", surface["events"], sent(surface["events"]), "sent"),
        _names("Values of `include`", surface["include"], get_args(Include), "accepted"),
    ]
    return "\n".join(parts)


def sent(events: Iterable[str]) -> set[str]:
    """The events that the code can send: their name is in it whole, or as a stem and an ending."""
    whole, endings = set(), set()
    for layer in SENDERS:
        for path in sorted((ROOT / "src" / "deskhand" / layer).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Constant(value=str() as text):
                        whole.add(text)
                    case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str() as text)]):
                        endings.add(text)
    made = {stem + ending for stem in whole if stem.startswith("response.") for ending in endings}
    return {event for event in events if event in whole or event in made}


def _tags(base: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in _descendants(base)}


def _descendants(base: Any) -> Iterator[Any]:
    for kind in base.__subclasses__():
        yield kind
        yield from _descendants(kind)


def bare(endpoint: str) -> str:
    """An endpoint whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", endpoint)


def _endpoints(groups: Mapping[str, Sequence[str]], served: Collection[str]) -> str:
    """Groups that are served at all, endpoint by endpoint; the others in one line."""
    lines, absent, count, total = ["| endpoint | here |", "|---|---|"], [], 0, 0
    for group, endpoints in groups.items():
        here = [endpoint for endpoint in endpoints if bare(endpoint) in served]
        count, total = count + len(here), total + len(endpoints)
        if not here:
            absent.append(f"{group} ({len(endpoints)})")
            continue
        lines += [f"| `{endpoint}` | {'yes' if endpoint in here else 'no'} |" for endpoint in endpoints]
    return "\n".join(
        [f"## Endpoints: {count} of {total}\n", *lines, "", f"Not served at all: {', '.join(absent)}.", ""]
    )


def _ours(endpoints: Sequence[str]) -> str:
    return "\n".join(["## Endpoints of our own\n", *(f"- `{endpoint}`" for endpoint in endpoints), ""])


def _names(title: str, theirs: Sequence[str], ours: Collection[str], verb: str) -> str:
    rows = [f"| `{name}` | {'yes' if name in ours else 'no'} |" for name in theirs]
    count = sum(name in ours for name in theirs)
    return "\n".join([f"## {title}: {count} of {len(theirs)}\n", f"| name | {verb} |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    TABLE.write_text(table())
