"""Prompts as chat messages: what strict servers ask for."""

import base64
from typing import Any

import pytest

from deskhand.models.chat_messages import messages
from deskhand.models.pairing import UNANSWERED
from deskhand.ports.model import (
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOpaque,
    PromptOutput,
    PromptReasoning,
)
from deskhand.wire.items import OpaqueItem
from deskhand.wire.parts import InputAudio, InputFile, InputImage, InputText, OutputText

URL = "data:image/png;base64,AAAA"


def user(text: str) -> PromptMessage:
    return PromptMessage("user", [InputText(text=text)])


def said(text: str) -> PromptMessage:
    return PromptMessage("assistant", [OutputText(text=text)])


def rendered(*prompt: PromptEntry, instructions: str | None = None) -> list[dict[str, Any]]:
    return messages(prompt, instructions, "reasoning_content")


def call(id_: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_the_calls_of_a_turn_are_one_message_with_the_text_before_them_and_their_answers_after_it() -> None:
    assert rendered(
        user("q"),
        said("Let me see."),
        PromptCall("a", "f", "{}"),
        PromptCall("b", "f", "{}"),
        PromptOutput("b", "2"),
        PromptOutput("a", "1"),
        said("done"),
    ) == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "assistant", "content": "done"},
    ]


def test_leading_system_messages_are_one() -> None:
    developer = PromptMessage("developer", [InputText(text="be kind")])
    found = rendered(developer, user("q"), developer, instructions="be brief")
    assert found == [
        {"role": "system", "content": "be brief\n\nbe kind"},
        {"role": "user", "content": "q"},
        {"role": "system", "content": "be kind"},
    ]


def test_orphans_are_repaired() -> None:
    found = rendered(PromptOutput("gone", "?"), user("q"), PromptCall("a", "f", "{}"), user("well?"))
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "user"]
    assert found[2]["content"] == UNANSWERED


def test_two_turns_with_one_call_id_keep_their_own_answers() -> None:
    turn: list[PromptEntry] = [PromptCall("call_0", "f", "{}"), PromptOutput("call_0", "one")]
    again: list[PromptEntry] = [PromptCall("call_0", "f", "{}"), PromptOutput("call_0", "two")]
    assert [m["content"] for m in rendered(user("q"), *turn, *again) if m["role"] == "tool"] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": ', '{"malformed_arguments":"{\\"a\\": "}'),
        ("[1]", None),
        ("[" * 5000, '{"malformed_arguments":"%s"}' % ("[" * 5000)),
    ],
)
def test_arguments_are_always_objects(arguments: str, sent: str | None) -> None:
    found = rendered(user("q"), PromptCall("a", "f", arguments), PromptOutput("a", ""))
    assert found[1]["tool_calls"][0]["function"]["arguments"] == (sent or '{"malformed_arguments":"[1]"}')


def test_free_text_is_wrapped() -> None:
    found = rendered(user("q"), PromptCall("a", "f", 'say "x"', free_text=True), PromptOutput("a", "", free_text=True))
    assert found[1]["tool_calls"][0]["function"]["arguments"] == '{"input":"say \\"x\\""}'


def test_reasoning_of_the_current_turn_goes_back() -> None:
    old, new = PromptReasoning("rs_1", "old"), PromptReasoning("rs_2", "new")
    found = rendered(user("q"), old, said("a"), user("r"), new, PromptCall("a", "f", "{}"), PromptOutput("a", "1"))
    assert [message.get("reasoning_content") for message in found] == [None, None, None, "new", None]
    assert "new" not in str(messages([user("q"), new, PromptCall("a", "f", "{}")], None, None))


def test_images_of_a_tool_are_shown_by_the_user() -> None:
    image = {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}
    picture = InputImage(image_url=URL, detail="low")
    found = rendered(user("q"), PromptCall("a", "f", "{}"), PromptOutput("a", [InputText(text="see"), picture]))
    assert found[2]["content"] == "see\n[shown in the next message]"
    assert found[3]["role"] == "user"
    assert found[3]["content"][1] == image
    assert rendered(PromptMessage("user", [InputText(text="q"), picture]))[0]["content"] == [
        {"type": "text", "text": "q"},
        image,
    ]


@pytest.mark.parametrize(
    ("media_type", "name", "inlined"),
    [
        ("text/csv", "a.csv", True),
        ("application/json", "a", True),
        ("application/pdf", "a.pdf", False),
        ("", "a", True),
    ],
)
def test_text_files_are_inlined_and_others_attached(media_type: str, name: str, inlined: bool) -> None:
    encoded = base64.b64encode("naïve,1".encode()).decode()
    data = f"data:{media_type};base64,{encoded}" if media_type else encoded
    [message] = rendered(PromptMessage("user", [InputFile(file_data=data, filename=name)]))
    if inlined:
        assert message["content"] == f"[file: {name}]\nnaïve,1\n[end of file: {name}]"
    else:
        assert message["content"] == [{"type": "file", "file": {"filename": name, "file_data": data}}]


def test_audio_passes_and_opaque_items_do_not() -> None:
    audio = {"data": "AAAA", "format": "wav"}
    opaque = PromptOpaque(OpaqueItem({"type": "web_search_call", "id": "ws_1"}))
    [message] = rendered(opaque, PromptMessage("user", [InputAudio(input_audio=audio)]))
    assert message["content"] == [{"type": "input_audio", "input_audio": audio}]
