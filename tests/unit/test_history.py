"""What the model reads of the past."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.engine.history import INTERRUPTED, prompt, without_oldest
from deskhand.engine.sealed import seal, unseal
from deskhand.models.responses_input import input_items
from deskhand.ports.model import (
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOpaque,
    PromptOutput,
    PromptReasoning,
)
from deskhand.wire.items import (
    ContainerReference,
    ExitOutcome,
    FunctionCall,
    FunctionCallOutput,
    Message,
    OpaqueItem,
    Reasoning,
    ShellAction,
    ShellCall,
    ShellCallOutput,
    ShellOutput,
    TimeoutOutcome,
)
from deskhand.wire.parts import InputText, OutputText

CALL = ShellCall(
    id="sh_1",
    call_id="c1",
    action=ShellAction(commands=("ls", "id"), timeout_ms=5),
    environment=ContainerReference(container_id="dead"),
)


def test_half_written_messages_are_kept_out() -> None:
    whole = Message(id="m1", role="assistant", content=(OutputText(text="whole"),))
    half = Message(id="m2", role="assistant", content=(OutputText(text="ha"),), status="incomplete")
    asked = Message(id="m0", role="user", content=(InputText(text="x"),))
    assert prompt([asked, whole, half]) == [
        PromptMessage("user", asked.content),
        PromptMessage("assistant", whole.content),
    ]


def test_a_call_that_nothing_answers_is_said_to_be_interrupted() -> None:
    entries = prompt([FunctionCall(id="f", call_id="c", name="n", arguments="{}"), CALL])
    assert entries[1] == PromptOutput("c", INTERRUPTED)
    assert entries[3] == PromptOutput("c1", INTERRUPTED)


def test_an_answered_call_is_left_as_it_is() -> None:
    call = FunctionCall(id="f", call_id="c", name="n", arguments="{}", namespace="ns")
    entries = prompt([call, FunctionCallOutput(id="o", call_id="c", output="7")])
    assert entries == [PromptCall("c", "n", "{}", namespace="ns"), PromptOutput("c", "7")]


def test_a_shell_turn_in_a_dead_container_is_only_text_to_the_model() -> None:
    output = ShellCallOutput(
        id="o",
        call_id="c1",
        output=(
            ShellOutput(stdout="a.txt\n", stderr="", outcome=ExitOutcome(exit_code=0)),
            ShellOutput(stdout="part", stderr="oops\n", outcome=TimeoutOutcome()),
        ),
    )
    call, answer = prompt([CALL, output])
    assert call == PromptCall("c1", "shell", '{"commands": ["ls", "id"], "timeout_ms": 5}')
    assert isinstance(answer, PromptOutput)
    assert answer.output == "[command 0]\na.txt\n\n[command 1]\npart\n[stderr]\noops\n[timed out]"


def test_items_of_other_kinds_are_handed_on() -> None:
    item = OpaqueItem({"type": "web_search_call", "id": "ws_1"})
    assert prompt([item]) == [PromptOpaque(item)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            [{"type": "input_text", "text": "Do: "}, {"type": "encrypted_content", "encrypted_content": "dig"}],
            "Do: dig",
        ),
        ([{"type": "input_text", "text": "done"}, {"type": "input_image", "image_url": "x"}, 7, {"text": 7}], "done"),
    ],
)
def test_what_agents_tell_each_other_is_said_to_the_model(content: Any, text: str) -> None:
    item = OpaqueItem({"type": "agent_message", "id": "amsg_1", "author": "/a", "recipient": "/b", "content": content})
    (entry,) = prompt([item])
    assert entry == PromptMessage("user", (InputText(text=text),), native=item)
    assert input_items([entry], openais_own=False) == [{"type": "message", "role": "user", "content": text}]
    assert input_items([entry], openais_own=True) == [item.fields]


@pytest.mark.parametrize("content", [None, "x", {}, [], [None], [{"text": None}], [{"encrypted_content": ["x"]}]])
def test_agents_that_tell_each_other_nothing_are_handed_on(content: Any) -> None:
    item = OpaqueItem({"type": "agent_message", "id": "amsg_1", "content": content})
    assert prompt([item]) == [PromptOpaque(item)]


def said(role: Any, text: str) -> PromptMessage:
    return PromptMessage(role, (InputText(text=text),))


def test_the_oldest_turn_is_left_out_first_and_instructions_stay() -> None:
    told, one, two = said("system", "be nice"), said("user", "one"), said("user", "two")
    call, answer = PromptCall("c", "f", "{}"), PromptOutput("c", "7")
    later, result = PromptCall("d", "f", "{}"), PromptOutput("d", "8")
    entries: list[PromptEntry] = [told, one, call, answer, two, later, result]
    shorter = without_oldest(entries)
    assert shorter == [told, two, later, result]
    assert without_oldest(shorter) == [told, two]
    assert without_oldest([told, two]) is None


@given(st.text())
def test_sealed_reasoning_is_read_again(text: str) -> None:
    sealed = Reasoning(id="rs_1", encrypted_content=seal(text))
    foreign = Reasoning(id="rs_2", encrypted_content="gAAAA")
    readable = text.encode("utf-8", "replace").decode()
    assert prompt([sealed, foreign]) == [
        PromptReasoning("rs_1", readable, []),
        PromptReasoning("rs_2", "", [], "gAAAA"),
    ]


def test_a_broken_seal_is_somebody_elses() -> None:
    assert unseal("deskhand:%%%") is None
    assert unseal("deskhand:_w==") is None


def test_items_that_bring_tools_are_not_said() -> None:
    assert prompt([OpaqueItem({"type": "additional_tools", "id": "x", "tools": []})]) == []
