"""Asking a model for a summary: what it is shown, and what comes of models that fail, stay silent or do not stop."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from deskhand.core.errors import ContextTooLong
from deskhand.engine.compaction import compacted
from deskhand.engine.summary import MOST_ATTEMPTS, MOST_CHARACTERS, summarise
from deskhand.engine.tokens import MOST_RATIO, Meter, TokenScale, Weight, weigh
from deskhand.engine.window import opened
from deskhand.ports.model import (
    ModelEnd,
    ModelRequest,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOutput,
    RefusalDelta,
    TextDelta,
)
from deskhand.testing.script import HAND_OVER, Entry, Say
from deskhand.testing.scripted import ScriptedModel, Turn
from deskhand.testing.upstream import act
from deskhand.wire.items import Compaction, Item, Message
from deskhand.wire.parts import InputImage, InputText, OutputText, text_of
from deskhand.wire.response import Usage

REQUEST = ModelRequest("m", (), tools=(), reasoning={"effort": "low"})
TOO_LONG = [ContextTooLong("too long")]


def said(role: Any, text: str) -> PromptMessage:
    return PromptMessage(role, [InputText(text=text)])


def summary(turns: Sequence[Turn], entries: Sequence[PromptEntry]) -> tuple[str, Usage, list[list[dict[str, Any]]]]:
    """The summary, what it cost, and what was shown in each attempt."""
    with ScriptedModel(turns) as model:
        text, usage = asyncio.run(summarise(model, REQUEST, entries))
    return text, usage, [_lines(request) for request in model.requests]


def _lines(request: ModelRequest) -> list[dict[str, Any]]:
    (message,) = request.prompt
    assert isinstance(message, PromptMessage)
    (part,) = message.parts
    assert isinstance(part, InputText)
    assert request.tools == ()
    assert part.text.endswith(HAND_OVER)
    return [json.loads(line) for line in part.text.split("\n") if line.startswith("{")]


def test_the_model_is_shown_the_conversation_as_lines_of_json() -> None:
    image = PromptMessage("user", [InputText(text="see\n{}"), InputImage(image_url="data:,")])
    entries: list[PromptEntry] = [image, PromptCall("c", "shell", "{}"), PromptOutput("c", "a\n</conversation>")]
    usage = Usage(3, output_tokens=2, total_tokens=5)
    text, used, (shown,) = summary([[TextDelta(" so "), TextDelta("far "), ModelEnd("stop", usage)]], entries)
    assert (text, used) == ("so far", usage)
    assert shown == [
        {"role": "user", "text": "see\n{}", "images_or_files": 1},
        {"tool_call": "shell", "arguments": "{}"},
        {"tool_output": "a\n</conversation>"},
    ]


def test_what_is_too_long_is_shown_shorter_and_then_without_its_oldest_part() -> None:
    entries = [said("user", f"{n} " + "x" * 20_000) for n in range(8)]
    text, _, shown = summary([TOO_LONG, TOO_LONG, TOO_LONG, [TextDelta("short")]], entries)
    assert text == "short"
    assert [len(lines) for lines in shown] == [8, 8, 4, 2]
    sizes = [len(lines[-1]["text"]) for lines in shown]
    assert sizes[0] > 15_000 > 5_000 > sizes[1] == sizes[3]
    assert shown[-1][-1]["text"].startswith("7 ")


def test_a_model_for_which_everything_is_too_long_is_not_asked_for_ever() -> None:
    text, used, shown = summary([TOO_LONG] * MOST_ATTEMPTS, [said("user", str(n)) for n in range(4000)])
    assert (text, used, len(shown)) == ("", Usage(), MOST_ATTEMPTS)


def test_a_model_that_does_not_stop_is_not_listened_to_any_longer() -> None:
    text, _, _ = summary([[TextDelta("x" * 1000)] * 1000], [said("user", "u")])
    assert len(text) == MOST_CHARACTERS


def test_a_model_that_says_nothing_leaves_the_newest_items_and_a_note() -> None:
    items: list[Item] = [
        Message(id=f"m{n}", role="assistant", content=(OutputText(text=f"{n} " + "x" * 2000),)) for n in range(9)
    ]
    turns: list[Turn] = [[ModelEnd("stop")], [RefusalDelta("no"), ModelEnd("stop")]]
    for turn in turns:
        meter = Meter(ScriptedModel([turn]), TokenScale())
        window, _ = asyncio.run(compacted(meter, REQUEST, items, None, 8000))
        assert [item.id for item in window.items] == ["m5", "m6", "m7", "m8"]
        assert "without a summary" in str(opened(Compaction(id="c", encrypted_content="x"), window)[-1])


def test_a_context_that_fits_costs_no_call() -> None:
    items: list[Item] = [Message(id="m", role="user", content=(InputText(text="hello"),))]
    meter = Meter(ScriptedModel([]), TokenScale())
    window, usage = asyncio.run(compacted(meter, REQUEST, items, None, 8000))
    assert (list(window.items), window.summary, usage) == (items, None, Usage())


def test_what_is_reported_is_learnt_within_bounds() -> None:
    scale = TokenScale()
    assert scale.tokens("m", Weight(4000)) == 1000
    for _ in range(20):
        scale.learn("m", Weight(4000), 2000)
    assert abs(scale.tokens("m", Weight(4000)) - 2000) < 20
    assert scale.tokens("other", Weight(4000)) == 1000
    for _ in range(50):
        scale.learn("m", Weight(4_000_000), 1)
    assert scale.tokens("m", Weight(4000)) >= 4000 / MOST_RATIO
    scale.learn("small", Weight(10), 1000)
    assert scale.tokens("small", Weight(4000)) == 1000


def test_a_prompt_is_estimated_from_what_was_reported_for_the_one_before() -> None:
    one = ModelRequest("m", [said("user", "x" * 4000)])
    two = ModelRequest("m", [*one.prompt, said("user", "y" * 3984)])
    meter = Meter(ScriptedModel([[ModelEnd("stop", Usage(2000, output_tokens=1, total_tokens=2001))]]), TokenScale())

    async def listen() -> None:
        async for _ in meter.stream(one):
            pass

    asyncio.run(listen())
    # Learnt at once: the first report is all there is.
    assert meter.estimate(one) == 2000
    assert meter.estimate(two) == 2000 + -(-4000 * 2000 // weigh(one).bytes)


def test_the_scripted_model_hands_its_script_over() -> None:
    with ScriptedModel([[TextDelta("x")]]) as model:
        entries: list[PromptEntry] = [
            said("user", "REMEMBER(a)\n@@ shell ls\n@@ say x"),
            PromptCall("c", "shell", "{}"),
        ]
        asyncio.run(summarise(model, REQUEST, entries))
    (message,) = model.requests[0].prompt
    assert isinstance(message, PromptMessage)
    answer = act([Entry("user", text_of(tuple(message.parts)))], [], None, forced=None)
    assert answer == [Say("REMEMBER(a) Calls made so far: 1.")]
