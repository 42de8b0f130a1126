"""Upstreams that speak the Responses API themselves. Nothing is stored there: the whole prompt travels every time."""

from collections.abc import AsyncGenerator
from typing import Any, Final

from ..ports.model import (
    Declaration,
    ForeignChoice,
    FreeTextDeclaration,
    FunctionDeclaration,
    ModelChunk,
    ModelRequest,
    NamedTool,
)
from ..wire.codec import encode
from .adapting import Adaptation
from .http import Endpoint, Exchange, speak
from .responses_input import input_items
from .responses_reader import ResponsesReader

Json = dict[str, Any]

LEAST_OUTPUT_TOKENS: Final = 16
"""Least `max_output_tokens` of the Responses API."""

_OPTIONAL: Final = {
    "include": r"\binclude\b|reasoning\.encrypted_content|[Ee]ncrypted content",
    "parallel_tool_calls": r"\bparallel[_ ]tool[_ ]calls?\b",
    "reasoning": r"['\"`]reasoning(?:\.\w+)?['\"`]|not support (?:thinking|reasoning)",
    "truncation": r"\btruncation\b",
    "prompt_cache_key": r"\bprompt_cache_key\b",
    "user": r"['\"`]user['\"`]",
}


class ResponsesModel:
    """A `Model` behind a Responses API. `endpoint` is the caller's to close."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._adaptation = Adaptation(_OPTIONAL)

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """What the model says; see `Model.stream`."""
        return speak(self._endpoint, lambda: self._begin(request))

    async def _begin(self, request: ModelRequest) -> tuple[Exchange, ResponsesReader]:
        def attempt(refused: frozenset[str]) -> Any:
            body = render(request, refused, openais_own=self._endpoint.openais_own)
            return frozenset(_OPTIONAL.keys() & body.keys()), self._endpoint.open("/responses", encode(body))

        exchange: Exchange = await self._adaptation.send(request.model, attempt)
        return exchange, ResponsesReader(self._endpoint.name, self._endpoint.key)


def render(request: ModelRequest, refused: frozenset[str], *, openais_own: bool) -> Json:
    """The body of a Responses request, without the optional parameters that were `refused` before."""
    include = ["reasoning.encrypted_content"]
    if request.logprobs or request.top_logprobs:
        include.append("message.output_text.logprobs")
    text: Json = {"format": dict(request.text_format)} if request.text_format.get("type") != "text" else {}
    if request.verbosity:
        text["verbosity"] = request.verbosity
    tools = [*map(_tool, request.tools), *map(dict, request.foreign_tools)]
    reasoning = {name: value for name, value in request.reasoning.items() if value is not None}
    body: Json = {
        "model": request.model,
        "input": input_items(request.prompt, openais_own=openais_own),
        "instructions": request.instructions or None,
        "stream": True,
        "store": False,
        "include": include,
        "max_output_tokens": _allowed_tokens(request.max_output_tokens),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs,
        "text": text or None,
        "reasoning": reasoning or None,
        "truncation": "auto" if request.truncation == "auto" else None,
        "prompt_cache_key": request.prompt_cache_key,
        "user": request.user,
    }
    if tools:
        body["tools"] = tools
        body["parallel_tool_calls"] = request.parallel_tool_calls
        body["tool_choice"] = _tool_choice(request)
    return {name: value for name, value in body.items() if value is not None and name not in refused}


def _allowed_tokens(wanted: int | None) -> int | None:
    # What is left of a budget may be less than the least that the API takes (16).
    return None if wanted is None else max(wanted, LEAST_OUTPUT_TOKENS)


def _tool(tool: Declaration) -> Json:
    match tool:
        case FunctionDeclaration():
            # Left out, OpenAI would make the schema strict by itself.
            return {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": tool.strict,
            }
        case FreeTextDeclaration():
            custom: Json = {"type": "custom", "name": tool.name, "description": tool.description}
            return custom | ({"format": tool.format} if tool.format else {})


def _tool_choice(request: ModelRequest) -> Any:
    match request.tool_choice:
        case NamedTool(name=name):
            free = any(isinstance(tool, FreeTextDeclaration) and tool.name == name for tool in request.tools)
            return {"type": "custom" if free else "function", "name": name}
        case ForeignChoice(fields=fields):
            return dict(fields)
        case "auto":
            return None
        case choice:
            return choice
