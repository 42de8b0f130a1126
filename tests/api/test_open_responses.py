"""The compliance suite of Open Responses, case by case, against the built-in model: what it sends, what it accepts.

The suite runs all its cases at once; so does the last test.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..conftest import Server, launched
from . import open_responses as spec
from .oracle import TERMINAL, sse
from .sockets import Json, Line, line

MODEL = "gpt-4o-mini"
HEART = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}},
        "required": ["location"],
    },
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without an upstream: its model is the built-in one, which takes no scripts to follow plain words."""
    with launched(tmp_path_factory.mktemp("open-responses") / "data", None, model_aliases="*=demo") as running:
        yield running


def said(role: str, content: Any, **more: Any) -> Json:
    return {"type": "message", "role": role, "content": content, **more}


def asked(server: Server, *messages: Json, **body: Any) -> Json:
    """A response over HTTP, which must be complete and as the specification wants it."""
    with server.http() as http:
        answer = http.post("/v1/responses", json={"model": MODEL, "input": list(messages), **body})
    assert answer.status_code == 200, answer.text
    response: Json = answer.json()
    return whole(response)


def whole(response: Json) -> Json:
    spec.RESPONSE.validate(response)
    assert response["status"] == "completed"
    assert response["output"]
    return response


def turn(here: Line, **body: Any) -> Json:
    """The last event of a turn over a WebSocket that never keeps anything, all of whose events are checked."""
    here.send({"type": "response.create", "model": MODEL, **body})
    events = here.until(*TERMINAL, "error")
    for event in events:
        # The answer to an unmatched call output has no code, here as at OpenAI; the suite looks only that it fails.
        if event["type"] != "error" or event["error"]["code"] is not None:
            spec.EVENT.validate(event)
    return events[-1]


def chained(here: Line, text: Any, **body: Any) -> Json:
    return turn(here, store=False, input=text, **body)


def not_found(event: Json) -> bool:
    return (event["type"], event.get("error", {}).get("code")) == ("error", "previous_response_not_found")


# The cases


def basic_response(server: Server) -> None:
    asked(server, said("user", "Say hello in exactly 3 words."))


def assistant_phase(server: Server) -> None:
    asked(
        server,
        said("assistant", "I should answer with the saved number.", phase="commentary"),
        said("assistant", "The number is four.", phase="final_answer"),
        said("user", "Repeat only the number."),
    )


def response_output_phase_schema(server: Server) -> None:
    """The suite looks at its own schema here. A server's part of it: a phase goes in and comes back as it was."""
    kept = said("assistant", [{"type": "output_text", "text": "The answer is four."}], phase="final_answer")
    response = asked(server, kept, said("user", "Hello"))
    with server.http() as http:
        items = http.get(f"/v1/responses/{response['id']}/input_items", params={"order": "asc"}).json()["data"]
    assert items[0]["phase"] == "final_answer"
    spec.RESPONSE.validate({**response, "output": [items[0], *response["output"]]})


def streaming_response(server: Server) -> None:
    body = {"model": MODEL, "stream": True, "input": [said("user", "Count from 1 to 5.")]}
    with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        events = list(sse(answer.iter_lines()))
    for event in events:
        spec.EVENT.validate(event)
    whole(events[-1]["response"])


def system_prompt(server: Server) -> None:
    pirate = said("system", "You are a pirate. Always respond in pirate speak.")
    asked(server, pirate, said("user", "Say hello."))


def tool_calling(server: Server) -> None:
    response = asked(server, said("user", "What's the weather like in San Francisco?"), tools=[WEATHER])
    assert "function_call" in {item["type"] for item in response["output"]}


def image_input(server: Server) -> None:
    question = {"type": "input_text", "text": "What do you see in this image? Answer in one sentence."}
    asked(server, said("user", [question, {"type": "input_image", "image_url": HEART}]))


def multi_turn(server: Server) -> None:
    asked(
        server,
        said("user", "My name is Alice."),
        said("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
        said("user", "What is my name?"),
    )


def compacted(server: Server, *messages: Json, **body: Any) -> Json:
    with server.http() as http:
        answer = http.post("/v1/responses/compact", json={"model": MODEL, "input": list(messages), **body})
    assert answer.status_code == 200, answer.text
    made: Json = answer.json()
    spec.COMPACTED.validate(made)
    assert "compaction" in {item["type"] for item in made["output"]}
    return made


def compact_response(server: Server) -> None:
    compacted(
        server,
        said("user", "We agreed to launch on Tuesday and notify support first."),
        said("assistant", "Understood. The launch is Tuesday, with support notified beforehand."),
        prompt_cache_key="openresponses-compact-test",
    )


def compact_missing_model(server: Server) -> None:
    with server.http() as http:
        answer = http.post("/v1/responses/compact", json={"input": [said("user", "Compact this conversation.")]})
    assert answer.status_code in {400, 422}, answer.text


def websocket_response(server: Server) -> None:
    with line(server) as here:
        whole(turn(here, input=[said("user", "Count from 1 to 3.")])["response"])


def websocket_sequential_responses(server: Server) -> None:
    with line(server) as here:
        for word in ("first", "second"):
            whole(chained(here, f"Reply with exactly: {word}")["response"])


def websocket_continuation(server: Server) -> None:
    with line(server) as here:
        first = whole(chained(here, "Remember the code word: cobalt. Reply with OK.")["response"])
        question = "What is the code word? Reply with only the code word."
        whole(chained(here, question, previous_response_id=first["id"])["response"])


def websocket_reconnect_store_false_recovery(server: Server) -> None:
    with line(server) as before:
        first = whole(chained(before, "Remember the code word: copper. Reply with OK.")["response"])
    with line(server) as here:
        assert not_found(chained(here, "Try to continue after reconnect.", previous_response_id=first["id"]))
        whole(chained(here, [said("user", "Start a new response and reply with exactly: recovered")])["response"])


def websocket_previous_response_not_found(server: Server) -> None:
    with line(server) as here:
        assert not_found(chained(here, "This should fail.", previous_response_id="resp_openresponses_missing_1"))


def websocket_failed_continuation_evicts_cache(server: Server) -> None:
    unmatched = {"type": "function_call_output", "call_id": "call_openresponses_missing", "output": "No such call."}
    with line(server) as here:
        first = whole(chained(here, "Remember the code word: ember. Reply with OK.")["response"])
        failed = chained(here, [unmatched], previous_response_id=first["id"])
        assert failed["type"] in {"error", "response.failed"}
        assert not_found(chained(here, "Try to continue.", previous_response_id=first["id"]))


def websocket_compact_new_chain(server: Server) -> None:
    made = compacted(
        server,
        said("user", [{"type": "input_text", "text": "Remember the compaction code word: slate."}]),
        said("assistant", [{"type": "output_text", "text": "OK."}]),
        said("user", [{"type": "input_text", "text": "Compress this conversation for later continuation."}]),
    )
    onward = said("user", "Continue from here. Reply with exactly: compacted")
    with line(server) as here:
        whole(chained(here, [*made["output"], onward], tools=[])["response"])


CASES: list[Callable[[Server], None]] = [
    basic_response,
    assistant_phase,
    response_output_phase_schema,
    streaming_response,
    websocket_response,
    websocket_sequential_responses,
    websocket_continuation,
    websocket_reconnect_store_false_recovery,
    websocket_previous_response_not_found,
    websocket_failed_continuation_evicts_cache,
    websocket_compact_new_chain,
    system_prompt,
    tool_calling,
    image_input,
    multi_turn,
    compact_response,
    compact_missing_model,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case(case: Callable[[Server], None], demo: Server) -> None:
    case(demo)


def test_all_cases_at_once(demo: Server) -> None:
    with ThreadPoolExecutor(len(CASES)) as pool:
        for running in [pool.submit(case, demo) for case in CASES]:
            running.result()
