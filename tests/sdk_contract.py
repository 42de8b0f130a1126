"""OpenAI's side of the contract: an OpenAPI document made from the official SDK, which is generated from OpenAI's own.

The SDK names for every endpoint what it takes (a typed dict) and what it answers (a model); both say their JSON schema.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeGuard

import openai.resources
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.json_schema import JsonSchemaMode

from .coverage import bare

SENDERS: Final = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_delete": "DELETE"}
REFERENCE: Final = "#/components/schemas/{model}"

WRONG: Final = {
    ("ChatCompletionStoreMessage", "role"): "stored messages are not all said by the assistant, as examples show",
    ("CompactedResponse", "output"): "the user's messages are kept as well (API reference, compaction)",
    ("FileObject", "purpose"): "a file may be made for `evals`",
}
"""Fields of answers that the SDK's types are wrong about, and why. They may be anything here."""

Operation = tuple[str, str]
"""A method and a path."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the SDK knows of an endpoint: `takes` is the type of its body or query, `answers` that of its answer."""

    method: str
    path: str
    takes: Any
    answers: Any


def endpoints() -> Iterator[Endpoint]:
    """Every endpoint that the SDK calls. Its methods are read, not called."""
    for found in pkgutil.walk_packages(openai.resources.__path__, "openai.resources."):
        module = importlib.import_module(found.name)
        for kind in ast.parse(Path(str(module.__file__)).read_text()).body:
            if isinstance(kind, ast.ClassDef):
                yield from _called(module, kind)


def document(served: Collection[Operation]) -> dict[str, Any]:
    """The OpenAPI document of those endpoints that are `served`, whatever the parameters of their paths are called.

    What a form with files takes is not described: types of files have no JSON schema.
    """
    ours = {(method, bare(path)): path for method, path in served}
    shared: dict[Operation, Endpoint] = {}
    for one in endpoints():
        # The first of a path is the plain one: `create` before `parse`.
        if path := ours.get((one.method, bare(one.path))):
            shared.setdefault((one.method, path), one)
    described: list[tuple[tuple[Operation, str], JsonSchemaMode, TypeAdapter[Any]]] = []
    for operation, one in shared.items():
        for side, kind in (("takes", one.takes), ("answers", one.answers)):
            if (adapter := _adapter(kind)) is not None:
                described.append(((operation, side), "validation", adapter))
    schemas, definitions = TypeAdapter.json_schemas(described, ref_template=REFERENCE)
    defined: dict[str, Any] = definitions.get("$defs", {})
    for model, name in WRONG:
        if model in defined:
            assert name in defined[model]["properties"]
            defined[model]["properties"][name] = {}
    paths: dict[str, Any] = {}
    for method, path in shared:
        takes, answers = (schemas.get((((method, path), side), "validation")) for side in ("takes", "answers"))
        parameters = [_parameter("path", name, {"type": "string"}) for name in re.findall(r"\{(\w+)\}", path)]
        body: dict[str, Any] = {}
        if method == "GET":
            properties = _resolved(takes or {}, defined).get("properties", {})
            parameters += [_parameter("query", name, schema) for name, schema in properties.items()]
        elif takes:
            body = {"requestBody": {"required": True, "content": {"application/json": {"schema": takes}}}}
        answer = {"content": {"application/json": {"schema": answers}}} if answers else {}
        responses = {"200": {"description": "As the SDK reads it.", **answer}, "default": {"description": "An error."}}
        paths.setdefault(path, {})[method.lower()] = {"parameters": parameters, "responses": responses, **body}
    info = {"title": "OpenAI, as its SDK knows it", "version": openai.__version__}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": defined}}


def _called(module: ModuleType, kind: ast.ClassDef) -> Iterator[Endpoint]:
    for node in ast.walk(kind):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=sender)) if sender in SENDERS:
                yield _endpoint(module, sender, node)


def _endpoint(module: ModuleType, sender: str, call: ast.Call) -> Endpoint:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    path = call.args[0].args[0] if isinstance(call.args[0], ast.Call) else call.args[0]
    method = named.get("method", ast.Constant(SENDERS[sender]))
    taken = [node.args[1] for node in ast.walk(call) if _is_call_of(node, "maybe_transform") and node.args[1:]]
    return Endpoint(
        method=str(ast.literal_eval(method)).upper(),
        path=f"/v1{ast.literal_eval(path)}",
        takes=_type(module, taken[0]) if taken else None,
        answers=_type(module, named.get("page", named.get("cast_to"))),
    )


def _is_call_of(node: ast.AST, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith(name)


def _type(module: ModuleType, expression: ast.expr | None) -> Any:
    """The type that an expression means in a module; of one for streams and one for the rest, the second."""
    match expression:
        case None:
            return None
        case ast.IfExp(orelse=other):
            return _type(module, other)
        case _:
            try:
                return eval(ast.unparse(expression), dict(vars(module)))  # noqa: S307 (what the SDK itself would do)
            except NameError:
                return None  # an argument of the method


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    if kind in (None, type(None), str):
        return None
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return None


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What a schema that may be a reference refers to."""
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = definitions[reference] if reference else schema
    return found
