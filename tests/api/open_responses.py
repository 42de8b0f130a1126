"""The Open Responses specification, as far as its compliance suite checks answers: a schema of each thing it parses.

The suite parses with its own generated types, in which a field that may be left out may still not be null, and unions
of events and items are closed. Fields that the specification does not name are allowed.
"""

from collections.abc import Mapping
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
INTEGER: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
STATUS: Final[Schema] = {"enum": ["in_progress", "completed", "incomplete"]}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _typed(name: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return _object({"type": {"const": name}, **required}, optional)


_LOGPROB: Final = _object(
    {
        "token": STRING,
        "logprob": NUMBER,
        "bytes": _list(INTEGER),
        "top_logprobs": _list(_object({"token": STRING, "logprob": NUMBER, "bytes": _list(INTEGER)})),
    }
)
_ANNOTATION: Final = _typed(
    "url_citation", {"url": STRING, "start_index": INTEGER, "end_index": INTEGER, "title": STRING}
)
_PART: Final[Schema] = {
    "anyOf": [
        _typed("input_text", {"text": STRING}),
        _typed("output_text", {"text": STRING, "annotations": _list(_ANNOTATION)}, {"logprobs": _list(_LOGPROB)}),
        _typed("text", {"text": STRING}),
        _typed("summary_text", {"text": STRING}),
        _typed("reasoning_text", {"text": STRING}),
        _typed("refusal", {"refusal": STRING}),
        _typed("input_image", {"image_url": _nullable(STRING), "detail": {"enum": ["low", "high", "auto"]}}),
        _typed("input_file", {}, {"filename": STRING, "file_url": STRING}),
    ]
}
_ITEM: Final[Schema] = {
    "anyOf": [
        _typed(
            "message",
            {
                "id": STRING,
                "status": STATUS,
                "role": {"enum": ["user", "assistant", "system", "developer"]},
                "content": _list(_PART),
            },
            {"phase": {"enum": ["commentary", "final_answer"]}},
        ),
        _typed(
            "function_call", {"id": STRING, "call_id": STRING, "name": STRING, "arguments": STRING, "status": STATUS}
        ),
        _typed(
            "function_call_output",
            {"id": STRING, "call_id": STRING, "output": {"anyOf": [STRING, _list(_PART)]}, "status": STATUS},
        ),
        _typed(
            "reasoning",
            {"id": STRING, "summary": _list(_PART)},
            {"content": _list(_PART), "encrypted_content": STRING},
        ),
        _typed("compaction", {"id": STRING, "encrypted_content": STRING}, {"created_by": STRING}),
    ]
}
_USAGE: Final = _object(
    {
        "input_tokens": INTEGER,
        "output_tokens": INTEGER,
        "total_tokens": INTEGER,
        "input_tokens_details": _object({"cached_tokens": INTEGER}),
        "output_tokens_details": _object({"reasoning_tokens": INTEGER}),
    }
)
_FUNCTION: Final = _typed(
    "function",
    {
        "name": STRING,
        "description": _nullable(STRING),
        "parameters": _nullable({"type": "object"}),
        "strict": _nullable(BOOLEAN),
    },
)
_TOOL_CHOICE: Final[Schema] = {
    "anyOf": [
        {"enum": ["none", "auto", "required"]},
        _typed("function", {}, {"name": STRING}),
        _typed("allowed_tools", {"tools": _list({"type": "object"}), "mode": {"enum": ["none", "auto", "required"]}}),
    ]
}
_RESPONSE: Final = _object(
    {
        "id": STRING,
        "object": {"const": "response"},
        "created_at": INTEGER,
        "completed_at": _nullable(INTEGER),
        "status": STRING,
        "incomplete_details": _nullable(_object({"reason": STRING})),
        "model": STRING,
        "previous_response_id": _nullable(STRING),
        "instructions": _nullable(STRING),
        "output": _list(_ITEM),
        "error": _nullable(_object({"code": STRING, "message": STRING})),
        "tools": _list(_FUNCTION),
        "tool_choice": _TOOL_CHOICE,
        "truncation": {"enum": ["auto", "disabled"]},
        "parallel_tool_calls": BOOLEAN,
        "text": _object({"format": {"type": "object"}}, {"verbosity": {"enum": ["low", "medium", "high"]}}),
        "top_p": NUMBER,
        "presence_penalty": NUMBER,
        "frequency_penalty": NUMBER,
        "top_logprobs": INTEGER,
        "temperature": NUMBER,
        "reasoning": _nullable(_object({"effort": _nullable(STRING), "summary": _nullable(STRING)})),
        "user": _nullable(STRING),
        "usage": _nullable(_USAGE),
        "max_output_tokens": _nullable(INTEGER),
        "max_tool_calls": _nullable(INTEGER),
        "store": BOOLEAN,
        "background": BOOLEAN,
        "service_tier": STRING,
        "metadata": {"type": "object", "additionalProperties": STRING},
        "safety_identifier": _nullable(STRING),
        "prompt_cache_key": _nullable(STRING),
    },
    {"conversation": _nullable(_object({"id": STRING})), "billing": {"type": "object"}},
)
_COMPACTED: Final = _object(
    {
        "id": STRING,
        "object": {"const": "response.compaction"},
        "output": _list(_ITEM),
        "created_at": INTEGER,
        "usage": _USAGE,
    }
)

_IN_ITEM: Final = {"item_id": STRING, "output_index": INTEGER}
_IN_CONTENT: Final = {**_IN_ITEM, "content_index": INTEGER}
_IN_SUMMARY: Final = {**_IN_ITEM, "summary_index": INTEGER}
_PADDED: Final = {"obfuscation": STRING}
_LOGGED: Final = {"logprobs": _list(_LOGPROB)}
_EVENT: Final[Schema] = {
    "anyOf": [
        *(
            _typed(f"response.{state}", {"sequence_number": INTEGER, "response": _RESPONSE})
            for state in ("created", "queued", "in_progress", "completed", "failed", "incomplete")
        ),
        *(
            _typed(name, {"sequence_number": INTEGER, **required}, optional)
            for name, required, optional in (
                ("response.output_item.added", {"output_index": INTEGER, "item": _nullable(_ITEM)}, {}),
                ("response.output_item.done", {"output_index": INTEGER, "item": _nullable(_ITEM)}, {}),
                ("response.content_part.added", {**_IN_CONTENT, "part": _PART}, {}),
                ("response.content_part.done", {**_IN_CONTENT, "part": _PART}, {}),
                ("response.output_text.delta", {**_IN_CONTENT, "delta": STRING}, {**_LOGGED, **_PADDED}),
                ("response.output_text.done", {**_IN_CONTENT, "text": STRING}, _LOGGED),
                ("response.refusal.delta", {**_IN_CONTENT, "delta": STRING}, {}),
                ("response.refusal.done", {**_IN_CONTENT, "refusal": STRING}, {}),
                ("response.function_call_arguments.delta", {**_IN_ITEM, "delta": STRING}, _PADDED),
                ("response.function_call_arguments.done", {**_IN_ITEM, "arguments": STRING}, {}),
                ("response.reasoning_summary_part.added", {**_IN_SUMMARY, "part": _PART}, {}),
                ("response.reasoning_summary_part.done", {**_IN_SUMMARY, "part": _PART}, {}),
                ("response.reasoning.delta", {**_IN_CONTENT, "delta": STRING}, _PADDED),
                ("response.reasoning.done", {**_IN_CONTENT, "text": STRING}, {}),
                ("response.reasoning_summary_text.delta", {**_IN_SUMMARY, "delta": STRING}, _PADDED),
                ("response.reasoning_summary_text.done", {**_IN_SUMMARY, "text": STRING}, {}),
                (
                    "response.output_text.annotation.added",
                    {**_IN_CONTENT, "annotation_index": INTEGER, "annotation": _nullable(_ANNOTATION)},
                    {},
                ),
            )
        ),
        _typed("error", {"status": INTEGER, "error": _object({"code": STRING, "message": STRING})}),
    ]
}

RESPONSE: Final = Draft202012Validator(_RESPONSE)
COMPACTED: Final = Draft202012Validator(_COMPACTED)
EVENT: Final = Draft202012Validator(_EVENT)
