"""From what a model says to drafts: every turn becomes legal drafts, and deltas add up to what is closed."""

from collections.abc import Sequence
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.drafts import Closed, Draft, Opened, Progress
from deskhand.core.writer import ResponseWriter
from deskhand.engine.assembly import Assembler
from deskhand.ports.model import (
    CallDelta,
    MessagePhase,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from deskhand.tools.commands import CommandLimits
from deskhand.tools.registry import Toolbox, offer
from deskhand.wire.items import ContainerReference, CustomToolCall, FunctionCall, Message, Reasoning, ShellCall
from deskhand.wire.parts import OutputText, Refusal
from deskhand.wire.response import Response
from deskhand.wire.tools import CustomTool, FunctionTool, ShellTool, Tool


def toolbox() -> Toolbox:
    tools: list[Tool] = [
        FunctionTool(name="f"),
        CustomTool(name="c"),
        ShellTool(environment=ContainerReference(container_id="cntr_1")),
    ]
    return offer(tools, CommandLimits(), in_order=False)


def assemble(chunks: Sequence[ModelChunk], *, tool_calls_left: int | None = None) -> tuple[list[Draft], Assembler]:
    numbers = count()
    assembler = Assembler(toolbox(), lambda prefix: f"{prefix}_{next(numbers)}", tool_calls_left=tool_calls_left)
    drafts: list[Draft] = []
    for chunk in chunks:
        drafts += assembler.feed(chunk)
    drafts += assembler.end("completed")
    return drafts, assembler


def closed(drafts: Sequence[Draft]) -> list[object]:
    return [draft.item for draft in drafts if isinstance(draft, Closed)]


TEXT = st.text(max_size=5)
CHUNK: st.SearchStrategy[ModelChunk] = st.one_of(
    st.builds(TextDelta, TEXT),
    st.builds(RefusalDelta, TEXT),
    st.builds(ReasoningDelta, TEXT, st.sampled_from(["content", "summary"]), st.integers(0, 2)),
    st.builds(ReasoningSealed, TEXT),
    st.builds(MessagePhase, st.just("commentary")),
    st.builds(TextAnnotation, st.just({"type": "url_citation"})),
    st.builds(
        CallDelta,
        st.sampled_from(["0", "1", "2"]),
        arguments=st.text(alphabet='{}"commands:[]ls,', max_size=8),
        call_id=st.just("call_x"),
        name=st.sampled_from(["f", "c", "shell", "made_up"]),
    ),
    st.just(ModelEnd("stop")),
)


@given(st.lists(CHUNK, max_size=25), st.one_of(st.none(), st.integers(0, 2)))
def test_whatever_a_model_says_becomes_a_legal_stream(chunks: list[ModelChunk], left: int | None) -> None:
    drafts, _ = assemble(chunks, tool_calls_left=left)
    writer = ResponseWriter(Response(id="resp_1", created_at=1, model="m"))
    for draft in drafts:
        writer.write(draft)
    opened = sum(isinstance(draft, Opened) for draft in drafts)
    assert opened == len(closed(drafts)) == len(writer.output)


@given(st.lists(st.text(max_size=6), max_size=10))
def test_text_deltas_add_up_to_the_closed_text(pieces: list[str]) -> None:
    drafts, _ = assemble([TextDelta(piece) for piece in pieces])
    deltas = [d.fields["delta"] for d in drafts if isinstance(d, Progress) and d.type == "response.output_text.delta"]
    assert "".join(deltas) == "".join(pieces)
    messages = [item for item in closed(drafts) if isinstance(item, Message)]
    assert [message.content for message in messages] == ([(OutputText(text="".join(pieces)),)] if deltas else [])


def test_the_events_of_a_message_come_in_the_recorded_order() -> None:
    drafts, _ = assemble([TextDelta("a"), TextDelta("b")])
    assert [d.type for d in drafts if isinstance(d, Progress)] == [
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
    ]
    assert isinstance(drafts[0], Opened)
    assert isinstance(drafts[-1], Closed)


def test_reasoning_text_and_calls_become_items_in_their_order() -> None:
    drafts, _ = assemble(
        [
            ReasoningDelta("hm", "summary"),
            ReasoningSealed("blob"),
            TextDelta("I will look."),
            CallDelta("0", call_id="call_1", name="f"),
            CallDelta("0", '{"a":'),
            CallDelta("0", "1}"),
            CallDelta("1", "SELECT", call_id="call_2", name="c"),
        ]
    )
    reasoning, message, function, custom = closed(drafts)
    assert isinstance(reasoning, Reasoning)
    assert (reasoning.summary[0].text, reasoning.encrypted_content) == ("hm", "blob")
    assert isinstance(message, Message)
    assert isinstance(function, FunctionCall)
    assert (function.call_id, function.arguments) == ("call_1", '{"a":1}')
    assert isinstance(custom, CustomToolCall)
    assert custom.input == "SELECT"


def test_a_refusal_after_text_is_a_second_part() -> None:
    (message,) = closed(assemble([TextDelta("well"), RefusalDelta("no")])[0])
    assert isinstance(message, Message)
    assert message.content == (OutputText(text="well"), Refusal(refusal="no"))


def test_hosted_calls_beyond_the_budget_are_ignored_and_counted() -> None:
    call = '{"commands": ["ls"]}'
    drafts, assembler = assemble(
        [CallDelta(str(n), call, call_id=f"call_{n}", name="shell") for n in range(3)], tool_calls_left=1
    )
    assert [type(item) for item in closed(drafts)] == [ShellCall]
    assert assembler.ignored == 2


def test_a_made_up_tool_is_answered_so_that_the_model_can_adapt() -> None:
    drafts, _ = assemble([CallDelta("0", "{}", call_id="call_1", name="made_up")])
    call, output = closed(drafts)
    assert isinstance(call, FunctionCall)
    assert "no tool named 'made_up'" in output.output  # type: ignore[attr-defined]


def test_a_function_without_arguments_gets_an_empty_object() -> None:
    (call,) = closed(assemble([CallDelta("0", call_id="call_1", name="f")])[0])
    assert isinstance(call, FunctionCall)
    assert call.arguments == "{}"


def test_a_call_id_that_was_used_before_is_replaced() -> None:
    drafts, _ = assemble([CallDelta("0", call_id="same", name="f"), CallDelta("1", call_id="same", name="f")])
    first, second = closed(drafts)
    assert isinstance(first, FunctionCall)
    assert isinstance(second, FunctionCall)
    assert first.call_id == "same" != second.call_id
