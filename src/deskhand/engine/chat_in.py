"""Chat completions as they are asked for: checked, and said as a call of a model that speaks otherwise. Pure."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..core.chat_fold import texts_of
from ..core.errors import ApiError, missing
from ..core.validation import api_error
from ..ports.model import (
    Declaration,
    FreeTextDeclaration,
    FunctionDeclaration,
    ModelRequest,
    NamedTool,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOutput,
    PromptReasoning,
    ToolChoice,
)
from ..wire.chat import (
    ChatCall,
    ChatMessage,
    ChatPart,
    ChatTool,
    CreateChatCompletion,
    NamedFunction,
    ResponseFormat,
)
from ..wire.codec import convert, plain
from ..wire.parts import InputAudio, InputFile, InputImage, InputText, Part, Refusal

Json = Mapping[str, Any]

_SERVED: Final = frozenset({"function", "custom", None})
_NO_SCHEMA: Final[Json] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for a chat completion: what is understood of it, and all of it as it came."""

    asked: CreateChatCompletion
    body: Json

    @property
    def told_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        options = self.asked.stream_options
        return options is not None and options.include_usage is True


def read_chat(body: Json) -> ChatRequest:
    """The request in a body. Raises `ApiError` for the first thing that is wrong with it."""
    for index, tool in enumerate(_list(body.get("tools"))):
        if isinstance(tool, dict) and isinstance(kind := tool.get("type"), str) and kind not in _SERVED:
            raise ApiError(
                f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'. Tools that this server runs "
                "by itself, such as a computer for the model, are offered by /v1/responses.",
                code="invalid_value",
                param=f"tools[{index}].type",
            )
    try:
        asked = convert(body, CreateChatCompletion)
    except msgspec.ValidationError as exc:
        raise api_error(exc) from None
    _check(asked)
    return ChatRequest(asked, body)


def model_request(request: ChatRequest, model: str, *, foreign_tools: bool) -> ModelRequest:
    """The model call that a request stands for. Raises `ApiError` for what cannot be said that way."""
    asked = request.asked
    if asked.modalities is not None and "text" not in asked.modalities:
        raise ApiError("The model behind this name says text only.", code="unsupported_value", param="modalities")
    tools, choice = _tools(asked)
    foreign = []
    if foreign_tools and asked.web_search_options is not None:
        foreign.append(_web_search(asked.web_search_options))
    return ModelRequest(
        model=model,
        prompt=list(_prompt(asked.messages)),
        tools=tools,
        foreign_tools=foreign,
        tool_choice=choice,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_logprobs=asked.top_logprobs if asked.logprobs else None,
        logprobs=asked.logprobs is True,
        text_format=_text_format(asked.response_format),
        verbosity=asked.verbosity,
        reasoning={"effort": asked.reasoning_effort} if asked.reasoning_effort else {},
        prompt_cache_key=asked.prompt_cache_key,
        user=asked.user,
    )


def stops(asked: CreateChatCompletion) -> Sequence[str]:
    """The texts at which the answer ends."""
    found = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return [stop for stop in found if stop]


def _check(asked: CreateChatCompletion) -> None:
    if asked.n is not None and asked.n > 1:
        message = f"Unsupported value: 'n' is {asked.n}; this server makes one choice of each request."
        raise ApiError(message, code="unsupported_value", param="n")
    if asked.metadata and not asked.store:
        raise ApiError(
            "The 'metadata' parameter is only allowed when 'store' is enabled.", code="invalid_value", param="metadata"
        )
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            code="invalid_value",
            param="stream_options",
        )
    if asked.top_logprobs is not None and not asked.logprobs:
        raise ApiError(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            code="invalid_value",
            param="top_logprobs",
        )
    for index, tool in enumerate(asked.tools or ()):
        if tool.named is None:
            raise missing(f"tools[{index}].{tool.type}")
    form = asked.response_format
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        raise missing("response_format.json_schema")
    for index, said in enumerate(asked.messages):
        _check_message(said, f"messages[{index}]")


def _check_message(message: ChatMessage, where: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise missing(f"{where}.tool_call_id")
    if message.role == "function" and not message.name:
        raise missing(f"{where}.name")
    says_otherwise = message.tool_calls or message.function_call or message.refusal
    if message.content is None and not (message.role in {"assistant", "function", "tool"} or says_otherwise):
        raise missing(f"{where}.content")
    for index, call in enumerate(message.tool_calls or ()):
        if (call.custom if call.type == "custom" else call.function) is None:
            raise missing(f"{where}.tool_calls[{index}].{call.type or 'function'}")


def _prompt(messages: Sequence[ChatMessage]) -> Iterator[PromptEntry]:
    """The history as prompt entries. Calls of the old kind have no ids, and are answered in their order."""
    free_text: set[str] = set()
    unanswered: dict[str, deque[str]] = {}
    for index, message in enumerate(messages):
        match message.role:
            case "tool":
                call_id = message.tool_call_id or ""
                yield PromptOutput(call_id, _output(message, f"messages[{index}]"), free_text=call_id in free_text)
            case "function":
                waiting = unanswered.get(message.name or "")
                if waiting:
                    yield PromptOutput(waiting.popleft(), _output(message, f"messages[{index}]"))
            case "assistant":
                yield from _said(message, index)
                for call in message.tool_calls or ():
                    if call.type == "custom":
                        free_text.add(call.id)
                    yield _call(call)
                if (called := message.function_call) is not None:
                    unanswered.setdefault(called.name, deque()).append(f"call_{index}")
                    yield PromptCall(f"call_{index}", called.name, called.arguments or "{}")
            case role:
                yield PromptMessage(role, _parts(message, f"messages[{index}]"))


def _said(message: ChatMessage, index: int) -> Iterator[PromptEntry]:
    for thought in (message.reasoning_content, message.reasoning):
        if isinstance(thought, str) and thought:
            yield PromptReasoning(f"rs_{index}", thought)
            break
    parts = _parts(message, f"messages[{index}]")
    if message.refusal:
        parts.append(Refusal(refusal=message.refusal))
    if parts:
        yield PromptMessage("assistant", parts)


def _call(call: ChatCall) -> PromptCall:
    if call.type == "custom":
        assert call.custom is not None
        return PromptCall(call.id, call.custom.name, call.custom.input or "", free_text=True)
    assert call.function is not None
    return PromptCall(call.id, call.function.name, call.function.arguments or "{}")


def _output(message: ChatMessage, where: str) -> str | list[Part]:
    parts = _parts(message, where)
    if all(isinstance(part, InputText) for part in parts):
        return texts_of(message.content)
    return parts


def _parts(message: ChatMessage, where: str) -> list[Part]:
    if isinstance(message.content, str):
        return [InputText(text=message.content)] if message.content or message.role != "assistant" else []
    found: list[Part] = []
    for index, fields in enumerate(message.content or ()):
        place = f"{where}.content[{index}]"
        try:
            found.append(_part(convert(fields, ChatPart), place))
        except msgspec.ValidationError as exc:
            raise api_error(exc, place) from None
    return found


def _part(part: ChatPart, where: str) -> Part:
    match part:
        case ChatPart(type="text", text=str(text)):
            return InputText(text=text)
        case ChatPart(type="refusal", refusal=str(refusal)):
            return Refusal(refusal=refusal)
        case ChatPart(type="image_url", image_url=image) if image is not None:
            return InputImage(image_url=image.url, detail=image.detail or "auto")
        case ChatPart(type="input_audio", input_audio=dict(audio)):
            return InputAudio(input_audio=audio)
        case ChatPart(type="file", file=file) if file is not None and file.file_data is not None:
            return InputFile(file_data=file.file_data, filename=file.filename or "file")
        case _:
            raise missing(f"{where}.{part.type}")


def _tools(asked: CreateChatCompletion) -> tuple[list[Declaration], ToolChoice]:
    """The tools that may be called, and what is to be done with them."""
    tools = [*(asked.tools or ()), *(ChatTool(function=function) for function in asked.functions or ())]
    choice: ToolChoice = "auto"
    match asked.tool_choice if asked.tool_choice is not None else asked.function_call:
        case None:
            pass
        case "auto" | "none" | "required" as word:
            choice = word
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(allowed), **rest}}:
            names = {_name_of(one) for one in allowed}
            tools = [tool for tool in tools if tool.named is not None and tool.named.name in names]
            choice = "required" if rest.get("mode") == "required" else "auto"
        case dict() as named if isinstance(name := _name_of(named), str):
            choice = NamedTool(name)
        case _:
            raise ApiError("Invalid value for 'tool_choice'.", code="invalid_value", param="tool_choice")
    declared = [_declared(tool) for tool in tools]
    if isinstance(choice, NamedTool) and all(tool.name != choice.name for tool in declared):
        message = f"Tool choice '{choice.name}' not found in 'tools' parameter."
        raise ApiError(message, code="invalid_value", param="tool_choice")
    if choice == "required" and not declared:
        raise ApiError(
            "'tool_choice' is only allowed when 'tools' are specified.", code="invalid_value", param="tool_choice"
        )
    return declared, choice


def _name_of(choice: Any) -> Any:
    """The name in a choice of any kind: `{"function": {"name"}}`, `{"custom": {"name"}}`, or the old `{"name"}`."""
    match choice:
        case {"function": {"name": name}} | {"custom": {"name": name}} | {"name": name}:
            return name
        case _:
            return None


def _declared(tool: ChatTool) -> Declaration:
    named = tool.named
    assert named is not None
    if tool.type == "custom":
        return FreeTextDeclaration(named.name, named.description or "", _format(named))
    return FunctionDeclaration(
        named.name, named.description or "", named.parameters or _NO_SCHEMA, strict=named.strict is True
    )


def _format(named: NamedFunction) -> Json | None:
    """The format as the Responses API spells it, where a grammar has no object of its own."""
    match named.format:
        case {"type": "grammar", "grammar": dict(grammar)}:
            return {"type": "grammar", **grammar}
        case form:
            return form


def _web_search(options: Json) -> Json:
    """The web search of the Responses API, which says with fewer words where the user is."""
    match options.get("user_location"):
        case {"approximate": dict(place)}:
            return {"type": "web_search", **options, "user_location": {"type": "approximate", **place}}
        case _:
            return {"type": "web_search", **options}


def _text_format(form: ResponseFormat | None) -> Json:
    if form is None or form.json_schema is None or form.type != "json_schema":
        return {"type": form.type if form is not None else "text"}
    given = {name: value for name, value in plain(form.json_schema).items() if value is not None}
    return {"type": "json_schema", "schema": {}} | given


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
