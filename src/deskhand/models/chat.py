"""Upstreams that speak OpenAI-compatible chat completions. Always streamed; a whole JSON answer is read as well."""

import uuid
from collections.abc import AsyncGenerator, Callable
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
from . import free_text
from .adapting import Adaptation
from .chat_messages import messages
from .chat_reader import ChatReader
from .http import Endpoint, Exchange, speak

Json = dict[str, Any]

REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")

OPTIONAL: Final = {
    "stream_options": r"\bstream_options\b|\binclude_usage\b",
    "max_tokens": r"\bmax_tokens\b",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
    "parallel_tool_calls": r"\bparallel[_ ]tool[_ ]calls?\b",
    "reasoning_effort": r"\breasoning_effort\b|not support (?:thinking|reasoning)",
    "verbosity": r"\bverbosity\b",
    "prompt_cache_key": r"\bprompt_cache_key\b",
    "user": r"['\"`]user['\"`]",
    "strict": r"\bstrict\b",
    "reasoning_field": r"\breasoning_content\b|['\"`.](?:reasoning|thinking)['\"`]",
}


class ChatModel:
    """A `Model` behind chat completions.

    `endpoint` is the caller's to close. `mint_id` makes ids for the calls of servers that send none.
    """

    def __init__(self, endpoint: Endpoint, *, mint_id: Callable[[], str] = lambda: f"call_{uuid.uuid4().hex}") -> None:
        self._endpoint = endpoint
        self._mint_id = mint_id
        self._adaptation = Adaptation(OPTIONAL)
        self._reasoning_field = REASONING_FIELDS[0]
        self._max_tokens = "max_completion_tokens" if endpoint.openais_own else "max_tokens"

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """What the model says; see `Model.stream`."""
        return speak(self._endpoint, lambda: self._begin(request))

    async def _begin(self, request: ModelRequest) -> tuple[Exchange, ChatReader]:
        def attempt(refused: frozenset[str]) -> Any:
            body = render(request, refused, max_tokens=self._max_tokens, reasoning_field=self._reasoning_field)
            return _sent(body), self._endpoint.open("/chat/completions", encode(body))

        exchange: Exchange = await self._adaptation.send(request.model, attempt)
        reader = ChatReader(
            self._endpoint.name,
            self._endpoint.key,
            functions=[tool.name for tool in request.tools if isinstance(tool, FunctionDeclaration)],
            free_text=[tool.name for tool in request.tools if isinstance(tool, FreeTextDeclaration)],
            mint_id=self._mint_id,
            on_reasoning_field=self._learn_reasoning_field,
            # Who asks for a summary reads no other field; these servers make none but the whole.
            reasoning_channel="summary" if _asks_for_summary(request) else "content",
        )
        return exchange, reader

    def _learn_reasoning_field(self, name: str) -> None:
        self._reasoning_field = name


def render(request: ModelRequest, refused: frozenset[str], *, max_tokens: str, reasoning_field: str) -> Json:
    """The body of a chat-completions request, without the optional parameters that were `refused` before."""
    field = None if "reasoning_field" in refused else reasoning_field
    body: Json = {
        "model": request.model,
        "messages": messages(request.prompt, request.instructions, field),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": request.temperature,
        "top_p": request.top_p,
        "reasoning_effort": request.reasoning.get("effort"),
        "verbosity": request.verbosity,
        "prompt_cache_key": request.prompt_cache_key,
        "user": request.user,
        "response_format": _response_format(request),
    }
    if request.tools:
        body["tools"] = [_tool(tool, strict="strict" not in refused) for tool in request.tools]
        body["parallel_tool_calls"] = request.parallel_tool_calls
        body["tool_choice"] = _tool_choice(request)
    if request.logprobs or request.top_logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = request.top_logprobs
    if request.max_output_tokens is not None:
        other = "max_tokens" if max_tokens == "max_completion_tokens" else "max_completion_tokens"
        body[other if max_tokens in refused else max_tokens] = request.max_output_tokens
    return {name: value for name, value in body.items() if value is not None and name not in refused}


def _asks_for_summary(request: ModelRequest) -> bool:
    return bool(request.reasoning.get("summary") or request.reasoning.get("generate_summary"))


def _sent(body: Json) -> frozenset[str]:
    """The optional parameters that `body` carries."""
    sent = {name for name in OPTIONAL if name in body}
    if any(name in message for message in body["messages"] for name in REASONING_FIELDS):
        sent.add("reasoning_field")
    if any(tool["function"].get("strict") for tool in body.get("tools") or ()):
        sent.add("strict")
    return frozenset(sent)


def _tool(tool: Declaration, *, strict: bool) -> Json:
    match tool:
        case FreeTextDeclaration():
            function: Json = {
                "name": tool.name,
                "description": free_text.description(tool),
                "parameters": free_text.schema(tool),
            }
        case FunctionDeclaration():
            function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            if tool.strict and strict:
                function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice(request: ModelRequest) -> Any:
    match request.tool_choice:
        case NamedTool(name=name):
            return {"type": "function", "function": {"name": name}}
        # Foreign tools do not reach a chat upstream, nor does a choice among them.
        case "auto" | ForeignChoice():
            return None
        case choice:
            return choice


def _response_format(request: ModelRequest) -> Json | None:
    match request.text_format:
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case {"type": "json_schema"}:
            kept = ("name", "description", "schema", "strict")
            inner = {k: request.text_format[k] for k in kept if request.text_format.get(k) is not None}
            return {"type": "json_schema", "json_schema": inner}
        case _:
            return None
