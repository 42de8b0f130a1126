"""Responses without a connection: polled, streamed again from any number, cancelled, and alive after `kill -9`."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.responses import Response

from deskhand.core.fold import fold
from deskhand.store.rows import stored_event
from deskhand.testing.upstream import Faults

from ..conftest import Launch, Server, launched
from .heard import listening

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


def ended(client: OpenAI, response_id: str, seconds: float = 60) -> Response:
    """The response, once it has ended."""
    deadline = time.monotonic() + seconds
    while (found := client.responses.retrieve(response_id)).status in {"queued", "in_progress"}:
        assert time.monotonic() < deadline, f"still {found.status}"
        time.sleep(0.05)
    return found


def once(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(http: httpx2.Client, response_id: str, after: int | None = None) -> list[bytes]:
    """The `data` of a response's events, as bytes, until the stream ends."""
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    with http.stream("GET", f"/v1/responses/{response_id}", params=query) as answer:
        assert answer.status_code == 200
        return list(data_of(answer))


def data_of(answer: httpx2.Response) -> Iterator[bytes]:
    """The `data` of each event of a stream."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ").encode()


def until_command(server: Server, body: dict[str, Any]) -> list[bytes]:
    """The `data` of a new response's events until its first command has begun; then the reader goes away."""
    seen: list[bytes] = []
    with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        for data in data_of(answer):
            seen.append(data)
            if json.loads(data)["type"] == "response.output_item.added" and b"shell_call_output" in data:
                return seen
    raise AssertionError("no command has begun")


def test_a_response_is_queued_then_polled_until_it_is_done(client: OpenAI) -> None:
    begun = client.responses.create(model="m", input="@@ say hello", background=True)
    assert begun.status == "queued"
    assert begun.background is True
    assert begun.output == []
    done = ended(client, begun.id)
    assert done.status == "completed"
    assert done.output_text == "hello"
    assert done.usage is not None
    assert done.usage.output_tokens > 0
    after = client.responses.create(model="m", input="@@ say on", previous_response_id=begun.id, background=True)
    assert ended(client, after.id).output_text == "on"


def test_its_stream_can_be_read_again_from_any_number(client: OpenAI, http: httpx2.Client) -> None:
    script = "@@ shell echo one; echo two >&2\n@@ say done"
    body = {"model": "m", "input": script, "tools": [SHELL], "background": True, "stream": True}
    with http.stream("POST", "/v1/responses", json=body) as answer:
        seen = list(data_of(answer))
    events = [json.loads(data) for data in seen]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    response_id = events[0]["response"]["id"]
    assert read(http, response_id) == seen
    for after in range(-1, len(seen) + 2):
        assert read(http, response_id, after) == seen[after + 1 :]
    # What the events add up to is what is retrieved.
    retrieved = http.get(f"/v1/responses/{response_id}").json()
    assert events[-1]["response"] == retrieved
    assert fold([stored_event(data.decode()) for data in seen]) == stored_event(seen[-1].decode()).fields["response"]


def test_the_sdk_reads_the_stream_live_and_again(client: OpenAI) -> None:
    live = list(client.responses.create(model="m", input="@@ say x y z", background=True, stream=True))
    response_id = live[0].response.id  # type: ignore[union-attr]  # the first event is response.created
    again = list(client.responses.retrieve(response_id, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in live]
    rest = list(client.responses.retrieve(response_id, stream=True, starting_after=3))
    assert [event.sequence_number for event in rest] == [event.sequence_number for event in live[4:]]
    with client.responses.stream(response_id=response_id, starting_after=3) as helper:
        assert helper.get_final_response().output_text == "x y z"


def test_it_goes_on_without_its_reader(server: Server, client: OpenAI) -> None:
    body = {
        "model": "m",
        "input": "@@ shell sleep 1; echo late\n@@ say done",
        "tools": [SHELL],
        "background": True,
        "stream": True,
    }
    with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        response_id = json.loads(next(data_of(answer)))["response"]["id"]
    assert ended(client, response_id).output_text == "done"


@pytest.mark.parametrize("streamed", [False, True])
def test_cancelling_stops_the_command_and_is_idempotent(client: OpenAI, http: httpx2.Client, streamed: bool) -> None:
    body = {"model": "m", "input": "@@ shell echo begun; sleep 100", "tools": [SHELL], "background": True}
    if streamed:
        with http.stream("POST", "/v1/responses", json={**body, "stream": True}) as answer:
            response_id = json.loads(next(data_of(answer)))["response"]["id"]
    else:
        response_id = http.post("/v1/responses", json=body).json()["id"]
    once(lambda: any(item.type == "shell_call_output" for item in client.responses.retrieve(response_id).output))
    cancelled = client.responses.cancel(response_id)
    assert cancelled.status == "cancelled"
    assert [item.type for item in cancelled.output] == ["shell_call", "shell_call_output"]
    assert cancelled.output[1].status == "incomplete"  # type: ignore[union-attr]
    assert client.responses.cancel(response_id).to_dict() == cancelled.to_dict()
    if streamed:
        events = [json.loads(data) for data in read(http, response_id)]
        assert events[-1]["type"] == "response.incomplete"
        assert events[-1]["response"]["status"] == "cancelled"
    # One that has ended stays as it is.
    done = client.responses.create(model="m", input="@@ say x", background=True)
    ended(client, done.id)
    assert client.responses.cancel(done.id).status == "completed"


def test_what_cannot_be(client: OpenAI, http: httpx2.Client) -> None:
    plain = client.responses.create(model="m", input="@@ say x")
    with pytest.raises(BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(plain.id)
    with pytest.raises(BadRequestError, match="background and stream"):
        client.responses.retrieve(plain.id, stream=True)
    with pytest.raises(BadRequestError, match="requires 'store'"):
        client.responses.create(model="m", input="@@ say x", background=True, store=False)
    with pytest.raises(NotFoundError):
        client.responses.cancel("resp_unknown")
    for wrong in ("x", "99999999999999999999999"):
        answer = http.get(f"/v1/responses/{plain.id}", params={"stream": "true", "starting_after": wrong})
        assert answer.status_code == 400


def test_more_than_there_is_room_for_wait_in_a_queue(launch: Launch) -> None:
    client = launch(max_background_runs="1").client()
    first = client.responses.create(model="m", input="@@ shell sleep 100", tools=[SHELL], background=True)
    once(lambda: client.responses.retrieve(first.id).status == "in_progress")
    second = client.responses.create(model="m", input="@@ say second", background=True)
    third = client.responses.create(model="m", input="@@ say third", background=True)
    # A queued one can be cancelled although it has no process yet.
    assert client.responses.cancel(third.id).status == "cancelled"
    assert client.responses.retrieve(second.id).status == "queued"
    assert client.responses.cancel(first.id).status == "cancelled"
    assert ended(client, second.id).output_text == "second"


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_run_goes_on_after_its_process_died(launch: Launch, how: str) -> None:
    first = launch()
    script = "@@ shell echo ran >> ran; sleep 30\n@@ shell cat ran\n@@ say done"
    body = {"model": "m", "input": script, "tools": [SHELL], "background": True, "stream": True}
    seen = until_command(first, body)
    time.sleep(0.5)
    getattr(first.process, how)()
    first.process.wait()

    second = launch()
    response_id = json.loads(seen[0])["response"]["id"]
    done = ended(second.client(), response_id)
    assert done.status == "completed", done.error
    assert done.output_text == "done"
    outputs = [item for item in done.output if item.type == "shell_call_output"]
    assert "interrupted" in outputs[0].output[0].stderr
    # The command that was cut off was not run a second time, and its computer is the same.
    assert outputs[1].output[0].stdout == "ran\n"
    with second.http() as http:
        everything = read(http, response_id)
        assert everything[: len(seen)] == seen
        assert [json.loads(data)["sequence_number"] for data in everything] == list(range(len(everything)))
        terminal = [data for data in everything if json.loads(data)["type"] == "response.completed"]
        assert terminal == everything[-1:]
        assert json.loads(everything[-1])["response"] == http.get(f"/v1/responses/{response_id}").json()
    assert done.usage is not None
    # Three model calls: the interrupted one and both after it.
    assert done.usage.input_tokens > 0


def test_a_half_said_message_stays_out_of_the_next_prompt(tmp_path: Any) -> None:
    with listening() as upstream:
        upstream.faults = Faults(delay_s=0.2)
        words = " ".join(f"word{n}" for n in range(40))
        with launched(tmp_path / "data", upstream.url) as first:
            body = {"model": "m", "input": f"@@ say {words}", "background": True, "stream": True}
            with first.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
                stream = data_of(answer)
                response_id = json.loads(next(stream))["response"]["id"]
                next(data for data in stream if b"word2" in data)
            first.process.kill()
            first.process.wait()
        upstream.faults = Faults()
        before = len(upstream.requests)
        with launched(tmp_path / "data", upstream.url) as second:
            done = ended(second.client(), response_id)
        half, whole = (item for item in done.output if item.type == "message")
        assert [half.status, whole.status] == ["incomplete", "completed"]
        assert half.content[0].text.startswith("word0 word1")  # type: ignore[union-attr]  # not a refusal
        assert whole.content[0].text == words  # type: ignore[union-attr]
        (request,) = upstream.requests[before:]
        assert [message["role"] for message in request.body["messages"]] == ["user"]
