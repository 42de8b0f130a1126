"""What every `Model` must do, as checks to run against an implementation.

`SCRIPT_CHECKS` take any model that plays `@@` scripts, by itself or through a `ScriptedUpstream`. A check raises
`AssertionError`. What the network can do to a model is checked by `conformance_model_network`.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..core.errors import UpstreamError
from ..ports.model import (
    CallDelta,
    CallEnd,
    FreeTextDeclaration,
    FunctionDeclaration,
    Model,
    ModelChunk,
    ModelEnd,
    ModelRequest,
    NamedTool,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOutput,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from ..wire.parts import InputImage, InputText

ScriptCheck = Callable[[Model], Awaitable[None]]

PIXEL: Final = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHELL: Final = FunctionDeclaration(
    "shell",
    "Run commands.",
    {
        "type": "object",
        "properties": {"commands": {"type": "array", "items": {"type": "string"}}},
        "required": ["commands"],
    },
)
NOTE: Final = FreeTextDeclaration("note", "Take a note.")


@dataclass(slots=True)
class Heard:
    """What a model said in one turn, put together."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    end: ModelEnd | None = None


def ask(text: str, **given: Any) -> ModelRequest:
    """A request of one user message; both kinds of tools are offered."""
    prompt = [PromptMessage("user", [InputText(text=text)])]
    return replace(ModelRequest("scripted", prompt, tools=[SHELL, NOTE]), **given)


def put_together(chunks: Sequence[ModelChunk]) -> Heard:
    """`chunks` joined. Raises `AssertionError` if they break the rules of the port."""
    heard = Heard()
    keys: list[str] = []
    ended: set[str] = set()
    for chunk in chunks:
        assert heard.end is None, f"{chunk!r} after the end"
        match chunk:
            case TextDelta(text=text):
                heard.text += text
            case RefusalDelta(text=text):
                heard.refusal += text
            case ReasoningDelta(text=text):
                heard.reasoning += text
            case CallDelta(key=key, arguments=arguments):
                assert key not in ended, f"{chunk!r} after its call's end"
                if key not in keys:
                    assert chunk.call_id, f"the first piece of a call without an id: {chunk!r}"
                    assert chunk.name, f"the first piece of a call without a name: {chunk!r}"
                    keys.append(key)
                    heard.ids.append(chunk.call_id)
                    heard.calls.append((chunk.name, ""))
                at = keys.index(key)
                heard.calls[at] = (heard.calls[at][0], heard.calls[at][1] + arguments)
            case CallEnd(key=key):
                ended.add(key)
            case ModelEnd():
                heard.end = chunk
            case _:
                pass
    assert len(set(heard.ids)) == len(heard.ids), "two calls with one id"
    return heard


async def hear(model: Model, request: ModelRequest) -> Heard:
    """One whole turn."""
    heard = put_together([chunk async for chunk in model.stream(request)])
    assert heard.end is not None, "no end"
    return heard


async def failure(model: Model, request: ModelRequest) -> tuple[list[ModelChunk], UpstreamError]:
    """What was said before the turn failed, and the failure."""
    said: list[ModelChunk] = []
    try:
        async for chunk in model.stream(request):
            said.append(chunk)
    except UpstreamError as exc:
        return said, exc
    raise AssertionError(f"no failure but {said!r}")


async def check_text_is_streamed(model: Model) -> None:
    chunks = [chunk async for chunk in model.stream(ask("@@ say one two three, naïve 日本"))]
    assert put_together(chunks).text == "one two three, naïve 日本"
    assert sum(isinstance(chunk, TextDelta) for chunk in chunks) > 2
    assert chunks[-1] == put_together(chunks).end


async def check_a_function_is_called(model: Model) -> None:
    heard = await hear(model, ask("@@ shell echo 'a \"b\" \\ é'"))
    [(name, arguments)] = heard.calls
    assert (name, json.loads(arguments)) == ("shell", {"commands": ["echo 'a \"b\" \\ é'"]})


async def check_calls_in_parallel(model: Model) -> None:
    heard = await hear(model, ask("@@ shell one\n@@& shell two\n@@& call note three"))
    assert [name for name, _ in heard.calls] == ["shell", "shell", "note"]
    assert [json.loads(a)["commands"] for _, a in heard.calls[:2]] == [["one"], ["two"]]


async def check_free_text_arrives_as_it_is(model: Model) -> None:
    text = 'line "one"\n\\ttwo \\\\ {"x": 1}\n日本 🙂'
    heard = await hear(model, ask(f"@@ call note <<EOF\n{text}\nEOF"))
    assert heard.calls == [("note", text)]


async def check_text_before_a_call(model: Model) -> None:
    heard = await hear(model, ask("@@ note Let me see.\n@@ shell ls"))
    assert heard.text == "Let me see."
    assert len(heard.calls) == 1


async def check_reasoning_comes_first(model: Model) -> None:
    chunks = [chunk async for chunk in model.stream(ask("@@ think hard about it\n@@ say done"))]
    kinds = [type(chunk) for chunk in chunks if isinstance(chunk, (ReasoningDelta, TextDelta))]
    assert put_together(chunks).reasoning == "hard about it"
    assert kinds == sorted(kinds, key=lambda kind: kind is TextDelta)


async def check_a_refusal(model: Model) -> None:
    heard = await hear(model, ask("@@ refuse I would rather not."))
    assert (heard.text, heard.refusal) == ("", "I would rather not.")


async def check_length_and_filter(model: Model) -> None:
    for said, reason in (("max_output_tokens", "length"), ("content_filter", "content_filter")):
        heard = await hear(model, ask(f"@@ note half of\n@@ incomplete {said}"))
        assert heard.text == "half of"
        assert heard.end is not None
        assert heard.end.reason == reason


async def check_usage(model: Model) -> None:
    heard = await hear(model, ask("@@ say hi"))
    assert heard.end is not None
    assert heard.end.usage is not None
    usage = heard.end.usage
    assert usage.input_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


async def check_outputs_reach_the_model(model: Model) -> None:
    prompt: list[PromptEntry] = [*ask("@@ shell one\n@@& call note two").prompt]
    heard = await hear(model, ask("", prompt=prompt))
    for id_, (name, arguments) in zip(heard.ids, heard.calls, strict=True):
        prompt.append(PromptCall(id_, name, arguments, free_text=name == "note"))
    prompt += [PromptOutput(id_, f"out of {id_}", free_text=i == 1) for i, id_ in enumerate(heard.ids)]
    heard = await hear(model, ask("", prompt=prompt))
    assert heard.text == "RESULT: " + "\n".join(f"out of {name}" for name in _ids(prompt))


async def check_orphans_are_repaired(model: Model) -> None:
    prompt: list[PromptEntry] = [
        PromptOutput("call_gone", "nobody asked"),
        *ask("@@ shell one\n@@ say two").prompt,
        PromptCall("call_1", "shell", '{"commands": ["one"]}'),
    ]
    assert (await hear(model, ask("", prompt=prompt))).text == "two"


async def check_a_script_failure(model: Model) -> None:
    _, exc = await failure(model, ask("@@ fail server_error the GPU is on fire"))
    assert "the GPU is on fire" in exc.message


async def check_a_form_is_filled(model: Model) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    heard = await hear(model, ask("Fill it.", text_format={"type": "json_schema", "name": "n", "schema": schema}))
    assert json.loads(heard.text) == {"n": 1}


async def check_a_named_tool_is_called(model: Model) -> None:
    assert (await hear(model, ask("Anything.", tool_choice=NamedTool("note")))).calls == [("note", "text")]


async def check_images_are_taken(model: Model) -> None:
    image = InputImage(image_url=PIXEL)
    prompt: list[PromptEntry] = [
        PromptMessage("user", [image, InputText(text="@@ shell look\n@@ say seen")]),
        PromptCall("call_1", "shell", '{"commands": ["look"]}'),
        PromptOutput("call_1", [InputText(text="a picture"), image]),
    ]
    heard = await hear(model, ask("", prompt=prompt))
    assert heard.text == "seen"


def _ids(prompt: Sequence[PromptEntry]) -> list[str]:
    return [entry.call_id for entry in prompt if isinstance(entry, PromptOutput)]


SCRIPT_CHECKS: Final[Sequence[ScriptCheck]] = (
    check_text_is_streamed,
    check_a_function_is_called,
    check_calls_in_parallel,
    check_free_text_arrives_as_it_is,
    check_text_before_a_call,
    check_reasoning_comes_first,
    check_a_refusal,
    check_length_and_filter,
    check_usage,
    check_outputs_reach_the_model,
    check_orphans_are_repaired,
    check_a_script_failure,
    check_a_form_is_filled,
    check_a_named_tool_is_called,
    check_images_are_taken,
)
