"""What a request asks for, as its response echoes it and as the model is told. Pure but for the id and the clock."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from ..ports.model import ModelRequest
from ..tools.registry import Toolbox
from ..wire.codec import plain
from ..wire.request import CreateResponse, ReasoningOptions
from ..wire.response import Response
from ..wire.tools import Tool
from .ids import new_id

_CACHE_ECHO = ("mode", "ttl", "comparison_response_id")


def begun(request: CreateResponse, tools: Sequence[Tool], text_format: Mapping[str, Any]) -> Response:
    """The response as it begins: every setting echoed, defaults included."""
    assert request.model is not None
    verbosity = request.text.verbosity if request.text else None
    retention = request.prompt_cache_retention
    return Response(
        id=new_id("resp"),
        status="queued" if request.background else "in_progress",
        access_programs=request.access_programs,
        background=bool(request.background),
        conversation=request.conversation_ref,
        created_at=int(time.time()),
        model=request.model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        prompt_cache_options={"mode": "implicit", "ttl": "30m"} | _given(request.prompt_cache_options, _CACHE_ECHO),
        prompt_cache_retention="in_memory" if retention == "in-memory" else retention,
        reasoning=_reasoning(request.reasoning),
        safety_identifier=request.safety_identifier,
        service_tier=request.service_tier or "auto",
        store=request.store is not False,
        temperature=1.0 if request.temperature is None else request.temperature,
        text={"format": dict(text_format), "verbosity": verbosity or "medium"},
        tool_choice=request.tool_choice if request.tool_choice is not None else "auto",
        tools=list(tools),
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
    )


def model_request(
    request: CreateResponse, upstream_name: str, toolbox: Toolbox, text_format: Mapping[str, Any]
) -> ModelRequest:
    """The model call that a request asks for, but for its prompt."""
    reasoning = {key: value for key, value in plain(request.reasoning).items() if value} if request.reasoning else {}
    return ModelRequest(
        model=upstream_name,
        prompt=(),
        instructions=request.instructions,
        tools=toolbox.offered(()),
        foreign_tools=toolbox.foreign,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        logprobs="message.output_text.logprobs" in (request.include or []),
        text_format=text_format,
        verbosity=request.text.verbosity if request.text else None,
        reasoning=reasoning,
        seal_reasoning="reasoning.encrypted_content" in (request.include or []),
        truncation=request.truncation or "disabled",
        prompt_cache_key=request.prompt_cache_key,
        user=request.user,
    )


def _reasoning(asked: ReasoningOptions | None) -> dict[str, Any]:
    fields = _given(asked, ("effort", "summary", "context", "mode"))
    if asked is not None and asked.generate_summary and not asked.summary:
        fields["summary"] = asked.generate_summary
    return {"effort": None, "summary": None} | fields


def _given(options: Struct | None, names: Sequence[str]) -> dict[str, Any]:
    """Those of `names` that `options` sets."""
    fields = asdict(options) if options is not None else {}
    return {name: fields[name] for name in names if fields.get(name) is not None}
