"""JSON schemas of wire types, as an OpenAPI document holds them. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import GenericAlias
from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Struct

from ..wire.items import Item, KnownItem, OpaqueItem
from ..wire.tools import KnownTool, OpaqueTool, Tool
from .operations import Either, Form, Listed

Json = dict[str, Any]

PREFIX: Final = "#/components/schemas/"
_OPEN: Final[Json] = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
"""An item or a tool of a type that is passed on as it is."""


class _AnyItem:
    """Stands for `Item`, a union that msgspec can write but has no schema for."""


class _AnyTool:
    """The same for `Tool`."""


_STAND_INS: Final[Mapping[Any, type]] = {Item: _AnyItem, Tool: _AnyTool}
_UNIONS: Final[Mapping[str, tuple[Any, type]]] = {
    "Item": (KnownItem, OpaqueItem),
    "Tool": (KnownTool, OpaqueTool),
}


class Schemas:
    """The schemas of everything that is taken or answered, and references to them."""

    def __init__(self, taken: Iterable[Any], answered: Iterable[Any]) -> None:
        """`taken` and `answered` are types; what is only ever answered always has all of its fields."""
        taken_types = [kind for one in taken for kind in _types(one)]
        answered_types = [kind for one in answered for kind in _types(one)]
        unions = [kind for members, _ in _UNIONS.values() for kind in get_args(members)]
        everything = list(dict.fromkeys((*taken_types, *answered_types, *unions)))
        schemas, self.components = msgspec.json.schema_components(
            [_stood_in(kind) for kind in everything], schema_hook=_hook, ref_template=PREFIX + "{name}"
        )
        self._schemas: dict[Any, Json] = dict(zip(everything, schemas, strict=True))
        for name, (members, _) in _UNIONS.items():
            self.components[name] = {"anyOf": [*(self._schemas[kind] for kind in get_args(members)), _OPEN]}
        given = {kind for one in taken_types for kind in _structs(one)}
        for kind in {kind for one in (*answered_types, *unions) for kind in _structs(one)} - given:
            self._complete(kind)

    def _complete(self, kind: type[Struct]) -> None:
        """Say that an answer has every field that is never left out."""
        component = self.components.get(kind.__name__) or self.components[f"{kind.__module__}.{kind.__qualname__}"]
        required = component.setdefault("required", [])
        for one in msgspec.structs.fields(kind):
            left_out = one.default is UNSET or (kind.__struct_config__.omit_defaults and not one.required)
            if not left_out and one.encode_name not in required:
                required.append(one.encode_name)

    def of(self, kind: Any) -> Json:
        """The schema of a type, a page or a form that was named at the start."""
        match kind:
            case Listed(kind=inner):
                return _page(self.of(inner))
            case Either(kinds=kinds):
                return {"anyOf": [self.of(one) for one in kinds]}
            case Form():
                return _form(kind)
            case _ if kind in _STAND_INS:
                return _hook(_STAND_INS[kind])
            case _:
                return self._schemas[kind]


def inline(kind: Any) -> Json:
    """The schema of a type that has no structs in it."""
    return msgspec.json.schema(kind)


def _types(one: Any) -> Sequence[Any]:
    """The types that need a schema of their own."""
    match one:
        case Listed(kind=inner):
            return _types(inner)
        case Either(kinds=kinds):
            return [kind for each in kinds for kind in _types(each)]
        case None | Form():
            return ()
        case _ if one in _STAND_INS:
            return ()
        case _:
            return (one,)


def _stood_in(kind: Any) -> Any:
    """A struct without the unions that msgspec has no schema for: the same, with stand-ins for them."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return kind
    hints = get_type_hints(kind, include_extras=True)
    if not any(set(get_args(hint)) & set(_STAND_INS) for hint in hints.values()):
        return kind
    fields = [(one.name, _stand_in(hints[one.name])) for one in msgspec.structs.fields(kind)]
    return msgspec.defstruct(kind.__name__, fields, namespace={"__doc__": kind.__doc__}, kw_only=True)


def _stand_in(hint: Any) -> Any:
    """A list of stand-ins for a list of a union that msgspec has no schema for."""
    for inner in get_args(hint):
        if inner in _STAND_INS:
            return GenericAlias(list, (_STAND_INS[inner],))
    return hint


def _structs(kind: Any) -> Iterator[type[Struct]]:
    """The structs that a type is made of, itself included."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
        for hint in get_type_hints(kind, include_extras=True).values():
            yield from _structs(hint)
        return
    for inner in get_args(kind):
        yield from _structs(inner)


def _hook(kind: type) -> Json:
    if kind is _AnyItem:
        return {"$ref": PREFIX + "Item"}
    if kind is _AnyTool:
        return {"$ref": PREFIX + "Tool"}
    raise NotImplementedError(kind.__name__)


def _page(entry: Json) -> Json:
    return {
        "type": "object",
        "required": ["object", "data", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": entry},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
            "has_more": {"type": "boolean"},
        },
    }


def _form(form: Form) -> Json:
    binary: Json = {"type": "string", "format": "binary"}
    content = {"type": "array", "items": binary, "minItems": 1} if form.many else binary
    texts = {name: inline(kind) for name, kind in form.texts}
    return {"type": "object", "required": [*form.needed, form.bytes], "properties": {**texts, form.bytes: content}}
