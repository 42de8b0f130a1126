"""`previous_response_id` is exact: the model reads what a fresh request with the whole conversation would say."""

import json
import random
from collections.abc import Mapping
from typing import Any

from .heard import Heard

TURNS = 50
SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
FUNCTION: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def prompt(heard: Heard, body: Mapping[str, Any]) -> list[Any]:
    """What the model read, without the ids that a client keeps and a server may not."""
    entries = body["messages"] if heard.dialect == "chat" else body["input"]
    return [{key: value for key, value in entry.items() if key not in {"id", "status"}} for entry in entries]


def test_fifty_turns_have_the_tokens_that_they_should(heard: Heard) -> None:
    previous, said = None, []
    for number in range(TURNS):
        said.append(user(f"@@ say answer {number}"))
        response, (body,) = heard.ask(input=said[-1:], previous_response_id=previous)
        previous = response["id"]
        said.append({"role": "assistant", "content": f"answer {number}"})
    chained = prompt(heard, body)
    assert len(chained) == 2 * TURNS - 1
    _, (fresh,) = heard.ask(input=said[:-1], store=False)
    assert json.dumps(chained) == json.dumps(prompt(heard, fresh))
    # Nothing is said twice, and instructions are not carried on.
    assert len({json.dumps(entry) for entry in chained}) == len(chained)
    _, (first,) = heard.ask(input="@@ say x", instructions="Be brief.")
    assert "Be brief." in json.dumps(first)
    _, (after,) = heard.ask(input="@@ say y", previous_response_id=previous)
    assert "Be brief." not in json.dumps(after)


def test_any_branch_reads_what_a_fresh_request_would_say(heard: Heard) -> None:
    chance = random.Random(7)
    # Every response so far, with the whole conversation up to its end.
    known: list[tuple[str | None, list[Any]]] = [(None, [])]
    for number in range(25):
        previous, before = chance.choice(known)
        text = chance.choice(
            [f"@@ say s{number}", f"@@ think t{number}\n@@ say s{number}", f"@@ call f {{}}\n@@ say d{number}"]
        )
        given = [user(text)]
        waiting = [item["call_id"] for item in before if item.get("type") == "function_call"]
        answered = {item["call_id"] for item in before if item.get("type") == "function_call_output"}
        for call_id in [call_id for call_id in waiting if call_id not in answered]:
            given = [{"type": "function_call_output", "call_id": call_id, "output": f"o{number}"}]
        tools = [FUNCTION]
        response, (chained,) = heard.ask(input=given, previous_response_id=previous, tools=tools)
        _, (fresh,) = heard.ask(input=[*before, *given], tools=tools, store=False)
        assert json.dumps(prompt(heard, chained)) == json.dumps(prompt(heard, fresh))
        known.append((response["id"], [*before, *given, *response["output"]]))


def test_a_chain_keeps_its_computer_at_any_depth(heard: Heard) -> None:
    first, _ = heard.ask(input="@@ shell echo kept > f", tools=[SHELL])
    previous = first["id"]
    for number in range(5):
        answer, _ = heard.ask(input=f"@@ say {number}", previous_response_id=previous)
        previous = answer["id"]
    last, _ = heard.ask(input="@@ shell cat f", previous_response_id=previous, tools=[SHELL])
    output = next(item for item in last["output"] if item["type"] == "shell_call_output")
    assert output["output"][0]["stdout"] == "kept\n"
