"""Custom tools with grammars: refused if they are none, and kept to whatever the model does."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from deskhand.tools.grammar_program import text_complaint
from deskhand.tools.grammars import MAX_DEFINITION, LlGuidance

from .heard import Heard
from .oracle import stream

Json = dict[str, Any]
LARK = 'start: verb " " NUMBER\nverb: "add" | "sub"\nNUMBER: /[0-9]+/'


def custom(definition: str, syntax: str = "lark") -> Json:
    form = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "name": "calc", "description": "d", "format": form}


def test_a_text_that_matches_goes_to_the_client(heard: Heard) -> None:
    tool = custom(LARK)
    events = stream(heard.http, {"model": "m", "input": "@@ call calc add 12", "tools": [tool]})
    response = events[-1]["response"]
    assert [(item["type"], item["input"]) for item in response["output"]] == [("custom_tool_call", "add 12")]
    assert response["tools"][0]["format"] == tool["format"]
    assert "".join(e["delta"] for e in events if e["type"] == "response.custom_tool_call_input.delta") == "add 12"


def test_the_upstream_gets_the_grammar(heard: Heard) -> None:
    _, (body,) = heard.ask(input="@@ call calc add 12", tools=[custom(LARK)])
    (tool,) = body["tools"]
    if heard.dialect == "responses":
        assert tool["format"] == custom(LARK)["format"]
    else:
        assert LARK in tool["function"]["description"]


@pytest.mark.parametrize(
    ("tool", "wrong", "right"),
    [(custom(LARK), "mul 12", "sub 3"), (custom(r"\d{4}-\d\d", "regex"), "2024-123", "2024-12")],
)
def test_a_text_that_does_not_match_is_asked_for_again(heard: Heard, tool: Json, wrong: str, right: str) -> None:
    response, bodies = heard.ask(input=f"@@ call calc {wrong}\n@@ call calc {right}", tools=[tool])
    assert response["status"] == "completed"
    assert [item["input"] for item in response["output"]] == [right]
    assert len(bodies) == 2
    assert "does not match the tool's grammar" in str(bodies[1])
    assert response["usage"]["output_tokens"] == 10, "both drafts are counted"


def test_a_text_that_is_wrong_twice_fails_the_response_and_is_never_shown(heard: Heard) -> None:
    script = "@@ call calc mul 1\n@@ call calc mul 2\n@@ call calc add 3"
    events = stream(heard.http, {"model": "m", "input": script, "tools": [custom(LARK)]})
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["output"] == []
    assert "call of 'calc'" in response["error"]["message"]
    assert "mul 2" in response["error"]["message"]
    assert response["usage"]["output_tokens"] == 10


def test_a_right_call_beside_a_wrong_one_is_made_once(heard: Heard) -> None:
    script = "@@ call calc add 1\n@@& call calc mul 2\n@@ call calc sub 2"
    response, _ = heard.ask(input=script, tools=[custom(LARK)])
    assert [item["input"] for item in response["output"]] == ["add 1", "sub 2"]


@pytest.mark.parametrize(
    "tool",
    [
        custom("start: ((("),
        custom("start: missing"),
        custom("(?=a)b", "regex"),
        custom("x", "gbnf"),
        custom(""),
        custom("a" * (MAX_DEFINITION + 1), "regex"),
        # A chain of rules that overflows the checker's stack.
        custom("start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(3000)) + '\nr3000: "a"'),
    ],
)
def test_invalid_grammars_are_refused(heard: Heard, tool: Json) -> None:
    status, error = heard.refused(tools=[tool])
    assert (status, error["param"], error["code"]) == (400, "tools[0].format", "invalid_value")
    assert "calc" in error["message"]
    group = {"type": "namespace", "name": "n", "description": "d", "tools": [tool]}
    assert heard.refused(tools=[group])[1]["param"] == "tools[0].tools[0].format"


def test_grammars_are_few(heard: Heard) -> None:
    tools = [{**custom(LARK), "name": f"t{n}"} for n in range(17)]
    assert heard.refused(tools=tools)[0] == 400
    assert heard.ask(tools=tools[:16])[0]["status"] == "completed"


def test_a_check_that_takes_too_long_is_a_complaint() -> None:
    hostile = {"syntax": "lark", "definition": 'start: e\ne: e e e | e e | "x"'}

    async def check(text: str) -> str:
        return await LlGuidance().text_complaint(hostile, text)

    assert "could not be checked" in asyncio.run(check("x" * 2000))
    assert asyncio.run(check("xxx")) == ""


_ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(_ASCII)
def test_a_pattern_of_letters_takes_letters_only(text: str) -> None:
    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_regex("[a-c ]+"), log_level=0)
    assert (text_complaint(matcher, text) == "") == bool(re.fullmatch("[a-c ]+", text))
