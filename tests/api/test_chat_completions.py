"""Chat completions through the real SDK, in both dialects of upstreams: what comes back, and what was asked for it."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, BadRequestError, NotFoundError, OpenAI, PermissionDeniedError, RateLimitError
from openai.types.chat import ChatCompletion

from deskhand.testing.upstream import Faults, Status

from ..conftest import Launch, Server, launched
from .heard import Heard, listening

Json = dict[str, Any]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
NOTE: Any = {"type": "custom", "custom": {"name": "note", "description": "takes a note"}}
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(scope="module")
def sdk(heard: Heard) -> OpenAI:
    return heard.server.client()


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "heard" in request.fixturenames:
        request.getfixturevalue("heard").upstream.faults = Faults()


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def ask(sdk: OpenAI, text: str, **fields: Any) -> ChatCompletion:
    completion = sdk.chat.completions.create(model="m", messages=user(text), **fields)
    assert isinstance(completion, ChatCompletion)
    return completion


def heard_last(heard: Heard) -> Any:
    return heard.upstream.requests[-1].body


def stumble(heard: Heard, *statuses: Status) -> None:
    """Let the upstream answer the next requests with these."""
    done = [Status(200)] * len(heard.upstream.requests)
    heard.upstream.faults = Faults(statuses=[*done, *statuses])


def refused(heard: Heard, body: Any) -> Json:
    """The error of a request that is refused, before the upstream hears of it."""
    before = len(heard.upstream.requests)
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    answer = heard.http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert len(heard.upstream.requests) == before
    error: Json = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def test_a_completion(heard: Heard, sdk: OpenAI) -> None:
    completion = ask(sdk, "@@ say hello there")
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == "m"
    assert completion.choices[0].message.content == "hello there"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0
    sent = heard_last(heard)
    assert sent["model"] == "scripted"
    if heard.dialect == "chat":
        assert sent["messages"] == user("@@ say hello there")
        assert not sent.get("stream")


def test_a_stream(heard: Heard, sdk: OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="m", messages=user("@@ say one two three"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {(chunks[0].id, "m", "chat.completion.chunk")}
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "one two three"
    assert len([piece for piece in said if piece]) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


def test_a_stream_ends_with_done_and_says_usage_only_if_asked(heard: Heard) -> None:
    body = {"model": "m", "messages": user("@@ say x"), "stream": True}
    answer = heard.http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert not any(json.loads(line[6:]).get("usage") for line in lines[:-1])


def test_a_stream_through_the_helper_of_the_sdk(sdk: OpenAI) -> None:
    with sdk.chat.completions.stream(
        model="m",
        messages=user('@@ call add {"a": 3}'),
        tools=[ADD],
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert json.loads(calls[0].function.arguments) == {"a": 3}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_is_called_and_answered(heard: Heard, sdk: OpenAI, streamed: bool) -> None:
    script = '@@ call add {"a": 3}\n@@ say done'
    called = _answer(sdk, user(script), streamed, tools=[ADD])
    assert called["finish_reason"] == "tool_calls"
    [call] = called["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "add"
    assert json.loads(call["function"]["arguments"]) == {"a": 3}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    outcome = {"role": "tool", "tool_call_id": call["id"], "content": "7"}
    answered = _answer(sdk, [*user(script), turn, outcome], streamed, tools=[ADD])
    assert answered["message"]["content"] == "done"
    sent = heard_last(heard)
    if heard.dialect == "chat":
        assert sent["messages"][-1]["content"] == "7"
    else:
        assert sent["input"][-1] == {"type": "function_call_output", "call_id": call["id"], "output": "7"}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_of_free_text_is_called_and_answered(heard: Heard, sdk: OpenAI, streamed: bool) -> None:
    script = '@@ call note <<X\nsome "text"\nX\n@@ say done'
    called = _answer(sdk, user(script), streamed, tools=[NOTE])
    [call] = called["message"]["tool_calls"]
    assert call["type"] == "custom"
    assert call["custom"] == {"name": "note", "input": 'some "text"'}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    outcome = {"role": "tool", "tool_call_id": call["id"], "content": "noted"}
    answered = _answer(sdk, [*user(script), turn, outcome], streamed, tools=[NOTE])
    assert answered["message"]["content"] == "done"
    if heard.dialect == "responses":
        assert heard_last(heard)["input"][-1]["type"] == "custom_tool_call_output"


def test_a_free_text_tool_reaches_a_chat_upstream_as_a_function(heard: Heard, sdk: OpenAI) -> None:
    ask(sdk, "@@ say x", tools=[NOTE], tool_choice={"type": "custom", "custom": {"name": "note"}})
    sent = heard_last(heard)
    if heard.dialect == "chat":
        assert sent["tools"][0]["type"] == "function"
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "note"}}
    else:
        assert sent["tools"][0]["type"] == "custom"
        assert sent["tool_choice"] == {"type": "custom", "name": "note"}


def test_allowed_tools(heard: Heard, sdk: OpenAI) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "add"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
    called = ask(sdk, "hello", tools=[other, ADD], tool_choice=choice)
    assert called.choices[0].message.tool_calls is not None
    sent = heard_last(heard)
    assert len(sent["tools"]) == 1
    assert sent["tool_choice"] == "required"


def test_the_old_kind_of_functions(heard: Heard, sdk: OpenAI) -> None:
    if heard.dialect == "chat":
        pytest.skip("they are passed on as they are")
    script = '@@ call add {"a": 3}\n@@ say done'
    called = ask(sdk, script, functions=[ADD["function"]])
    assert called.choices[0].finish_reason == "function_call"
    assert called.choices[0].message.function_call is not None
    history = [
        *user(script),
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 3}'}},
        {"role": "function", "name": "add", "content": "7"},
    ]
    answered = sdk.chat.completions.create(model="m", messages=history, functions=[ADD["function"]])
    assert answered.choices[0].message.content == "done"
    assert heard_last(heard)["input"][-1]["output"] == "7"


def test_structured_output(heard: Heard, sdk: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    assert isinstance(json.loads(ask(sdk, "hello", response_format=form).choices[0].message.content or "")["n"], int)
    sent = heard_last(heard)
    assert schema in (
        sent.get("response_format", {}).get("json_schema", {}).get("schema"),
        sent.get("text", {}).get("format", {}).get("schema"),
    )


def test_log_probabilities(heard: Heard, sdk: OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="m", messages=user("@@ say hi you"), logprobs=True, top_logprobs=2, stream=True
    )
    told = [chunk.choices[0].logprobs for chunk in stream if chunk.choices]
    tokens = [token for one in told if one is not None for token in one.content or ()]
    assert "".join(token.token for token in tokens) == "hi you"
    if heard.dialect == "chat":
        assert all(len(token.top_logprobs) == 2 for token in tokens)
    else:
        assert heard_last(heard)["top_logprobs"] == 2


def test_reasoning_comes_back_and_goes_there(heard: Heard, sdk: OpenAI) -> None:
    message = ask(sdk, "@@ think about it\n@@ say done", reasoning_effort="low").choices[0].message
    assert message.content == "done"
    assert message.reasoning_content == "about it"  # type: ignore[attr-defined]
    sent = heard_last(heard)
    assert "low" in (sent.get("reasoning_effort"), sent.get("reasoning", {}).get("effort"))


def test_what_is_not_known_here_reaches_a_chat_upstream(heard: Heard, sdk: OpenAI) -> None:
    ask(
        sdk,
        "@@ say x",
        seed=7,
        stop=["END"],
        frequency_penalty=0.5,
        logit_bias={"50256": -100},
        user="u1",
        service_tier="auto",
        extra_body={"top_k": 40, "min_p": None, "chat_template_kwargs": {"enable_thinking": False}},
    )
    sent = heard_last(heard)
    if heard.dialect == "chat":
        expected = {"seed": 7, "stop": ["END"], "frequency_penalty": 0.5, "user": "u1", "top_k": 40}
        assert {name: sent.get(name) for name in expected} == expected
        assert sent["chat_template_kwargs"] == {"enable_thinking": False}
        assert "min_p" not in sent
    else:
        assert "top_k" not in sent


def test_the_text_ends_at_a_stop(heard: Heard, sdk: OpenAI) -> None:
    if heard.dialect == "chat":
        pytest.skip("that is the upstream's to do")
    choice = ask(sdk, "@@ say one two three four", stop=["three"]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("one two ", "stop")
    assert ask(sdk, "@@ say one two thr", stop=["three"]).choices[0].message.content == "one two thr"


def test_images_and_files(heard: Heard, sdk: OpenAI) -> None:
    uploaded = sdk.files.create(file=("notes.txt", b"remember"), purpose="user_data")
    parts: list[Any] = [
        {"type": "text", "text": "@@ say seen"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "file", "file": {"file_id": uploaded.id}},
    ]
    sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
    sent = json.dumps(heard_last(heard))
    assert PNG in sent
    assert uploaded.id not in sent
    assert base64.b64encode(b"remember").decode() in sent
    assert "notes.txt" in sent
    parts[2] = {"type": "file", "file": {"file_id": "file-nothing"}}
    with pytest.raises(NotFoundError) as caught:
        sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
    assert caught.value.param == "messages[0].content[2].file.file_id"


def test_every_role_reaches_the_model(heard: Heard, sdk: OpenAI) -> None:
    history: list[Any] = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
        {"role": "user", "content": "hello", "name": "ann"},
        {"role": "assistant", "content": "hi", "refusal": None, "annotations": [], "audio": None},
        {"role": "user", "content": [{"type": "text", "text": "@@ say ok"}]},
    ]
    assert sdk.chat.completions.create(model="m", messages=history).choices[0].message.content == "ok"
    sent = json.dumps(heard_last(heard))
    assert all(text in sent for text in ("be brief", "be kind", "hello", "hi"))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0].function"),
        ({"model": None}, "model"),
        ({"model": ["m"]}, "model"),
        ({"n": 2}, "n"),
        ({"n": 10**12}, "n"),
        ({"n": "1"}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"tools": [{"type": "shell"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": 7}}]}, "tools[0].function.name"),
        ({"tools": {}}, "tools"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"store": True, "metadata": {"a": 1}}, "metadata"),
        ({"store": True, "metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
    ],
)
def test_what_is_wrong_is_named(heard: Heard, change: Json, param: str) -> None:
    body = {"model": "m", "messages": user("hello"), **change}
    error = refused(heard, body)
    assert error["param"] == param, error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"model": "m", "messages": ' + b"[" * 100_000,
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}], "seed": 1e999}',
    ],
)
def test_what_is_no_request_is_refused(heard: Heard, content: bytes) -> None:
    refused(heard, content)


@pytest.mark.parametrize("depth", [50, 400, 900, 5000])
@pytest.mark.parametrize("field", ["metadata_of_mine", "tools", "content"])
def test_deep_json_is_no_failure_of_ours(heard: Heard, depth: int, field: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    fields = {
        "metadata_of_mine": f'"messages": [{{"role": "user", "content": "@@ say x"}}], "extra": {deep}',
        "tools": '"messages": [{"role": "user", "content": "@@ say x"}], "tools": [{"type": "function", "function": '
        f'{{"name": "f", "parameters": {deep}}}}}]',
        "content": f'"messages": [{{"role": "user", "content": [{deep}]}}]',
    }
    content = f'{{"model": "m", {fields[field]}}}'
    answer = heard.http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), answer.text


def test_a_model_that_nobody_serves(launch: Launch) -> None:
    server = launch(model_aliases="gpt-5.5=scripted", upstream=None)
    with pytest.raises(NotFoundError) as caught:
        ask(server.client(), "hello")
    assert caught.value.code == "model_not_found"


def test_the_offline_model_answers_too(launch: Launch) -> None:
    client = launch(upstream=None).client()
    found = client.chat.completions.create(model="demo", messages=user("@@ say offline"))
    assert found.choices[0].message.content == "offline"
    chunks = list(client.chat.completions.create(model="demo", messages=user("@@ say offline"), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "offline"


def test_what_the_upstream_refuses_is_the_clients_to_read(heard: Heard, sdk: OpenAI) -> None:
    heard.upstream.faults = Faults(rejects=["temperature"])
    with pytest.raises(BadRequestError, match="temperature") as caught:
        ask(sdk, "@@ say x", temperature=0.5)
    assert caught.value.param == "temperature"
    heard.upstream.faults = Faults(window=5)
    with pytest.raises(BadRequestError) as caught:
        ask(sdk, "@@ say something that is much too long for that")
    assert caught.value.code == "context_length_exceeded"


def test_what_the_upstream_does_not_know_is_left_out_or_renamed(heard: Heard, sdk: OpenAI) -> None:
    if heard.dialect == "responses":
        pytest.skip("tested with responses")
    heard.upstream.faults = Faults(rejects=["max_completion_tokens", "user"])
    assert ask(sdk, "@@ say x", max_completion_tokens=50, user="me").choices[0].message.content == "x"
    assert heard_last(heard)["max_tokens"] == 50
    assert "user" not in heard_last(heard)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_failing_upstream_before_anything_was_said(heard: Heard, sdk: OpenAI, streamed: bool) -> None:
    stumble(heard, Status(500), Status(503))
    assert _answer(sdk, user("@@ say again"), streamed)["message"]["content"] == "again"
    stumble(heard, Status(401, message="bad key"))
    with pytest.raises(APIError) as caught:
        _answer(sdk, user("@@ say x"), streamed)
    assert getattr(caught.value, "status_code", None) == 502
    stumble(heard, *[Status(429, retry_after="0")] * 3)
    with pytest.raises(RateLimitError):
        _answer(sdk, user("@@ say x"), streamed)


def test_a_stream_that_breaks_off_says_so(heard: Heard, sdk: OpenAI) -> None:
    heard.upstream.faults = Faults(die_after=6 if heard.dialect == "responses" else 3)
    stream = sdk.chat.completions.create(model="m", messages=user("@@ say one two three"), stream=True)
    chunks = iter(stream)
    assert next(chunks).choices[0].delta.role == "assistant"
    with pytest.raises(APIError, match="closed the connection|broke off"):
        list(chunks)


@pytest.mark.parametrize("whole", [False, True])
def test_an_upstream_that_answers_in_the_other_way(heard: Heard, sdk: OpenAI, whole: bool) -> None:
    if heard.dialect == "responses":
        pytest.skip("it is always streamed")
    if whole:
        heard.upstream.faults = Faults(whole=True)
        streamed = _answer(sdk, user('@@ call add {"a": 3}'), True, tools=[ADD])
        assert streamed["finish_reason"] == "tool_calls"
        assert json.loads(streamed["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": 3}
    else:
        chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("a", "b")]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
        raw = "".join(f"data: {json.dumps(one)}\n\n" for one in [*chunks, end])
        heard.upstream.faults = Faults(raw=raw.encode())
        choice = ask(sdk, "x").choices[0]
        assert (choice.message.content, choice.finish_reason) == ("ab", "length")


@pytest.mark.parametrize("raw", [b"<html>no</html>", b"{}", b'{"error": "no"}', b"[]", b"data: 7\n\n", b""])
def test_an_upstream_that_talks_nonsense(heard: Heard, sdk: OpenAI, raw: bytes) -> None:
    heard.upstream.faults = Faults(raw=raw)
    with pytest.raises(APIError) as caught:
        ask(sdk, "x")
    assert getattr(caught.value, "status_code", 0) in (400, 502)


@pytest.mark.parametrize("streamed", [False, True])
def test_with_its_client_gone_the_upstream_is_not_asked_any_more(heard: Heard, streamed: bool) -> None:
    # A whole is cut off after its first bytes, so that both dialects are still being read.
    half = Faults(raw=b'{"choices": [', cuts=(5,), silent_after=1)
    heard.upstream.faults = Faults(delay_s=0.05) if streamed else half
    heard.upstream.disconnected.clear()
    body = {"model": "m", "messages": user("@@ say " + "word " * 400), "stream": streamed}
    if streamed:
        with heard.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert next(answer.iter_bytes())
    else:
        with pytest.raises(httpx2.ReadTimeout):
            heard.http.post("/v1/chat/completions", json=body, timeout=0.5)
    deadline = time.monotonic() + 10
    while not heard.upstream.disconnected.is_set():
        assert time.monotonic() < deadline, "the upstream was still being read"
        time.sleep(0.05)


def test_completions_count_as_runs(upstream_url: str, tmp_path: Path) -> None:
    with listening() as upstream, launched(tmp_path / "data", upstream.url, max_concurrent_runs="1") as server:
        upstream.faults = Faults(delay_s=0.05)
        client = server.client()
        stream = client.chat.completions.create(model="m", messages=user("@@ say " + "word " * 400), stream=True)
        next(iter(stream))
        with pytest.raises(RateLimitError):
            ask(client, "@@ say x")
        with pytest.raises(RateLimitError):
            client.responses.create(model="m", input="@@ say x")
        with pytest.raises(RateLimitError):
            client.embeddings.create(model="m", input="x")
        stream.close()
        upstream.faults = Faults()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert ask(client, "@@ say free").choices[0].message.content == "free"
                break
            except RateLimitError:
                assert time.monotonic() < deadline, "the run was never given back"
                time.sleep(0.05)


def test_a_run_has_an_end(tmp_path: Path) -> None:
    with listening() as upstream, launched(tmp_path / "data", upstream.url, max_run_seconds="0.5") as server:
        upstream.faults = Faults(silent_after=2)
        with pytest.raises(APIError, match="max_run_seconds"):
            list(server.client().chat.completions.create(model="m", messages=user("@@ say a b c"), stream=True))


def test_many_at_once(heard: Heard, sdk: OpenAI) -> None:
    found: list[str | None] = [None] * 20

    def one(number: int) -> None:
        found[number] = ask(sdk, f"@@ say number {number}").choices[0].message.content

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [f"number {number}" for number in range(20)]


def test_kept_completions(heard: Heard, sdk: OpenAI) -> None:
    assert not _is_kept(sdk, ask(sdk, "@@ say x").id)
    mark = f"m{time.monotonic_ns()}"
    kept = [
        ask(sdk, f"@@ say number {n}", store=True, metadata={"mark": mark, "n": str(n)}, temperature=0.5)
        for n in range(3)
    ]
    sent = heard_last(heard)
    assert "metadata" not in sent
    assert not sent.get("store")
    found = sdk.chat.completions.retrieve(kept[0].id)
    assert found.choices[0].message.content == "number 0"
    assert found.metadata == {"mark": mark, "n": "0"}
    assert found.temperature == 0.5  # type: ignore[attr-defined]
    listed = [one.id for one in sdk.chat.completions.list(metadata={"mark": mark}, limit=2)]
    assert listed == [one.id for one in kept]
    newest = [one.id for one in sdk.chat.completions.list(metadata={"mark": mark}, order="desc")]
    assert newest == listed[::-1]
    assert [one.id for one in sdk.chat.completions.list(metadata={"n": "1", "mark": mark})] == [kept[1].id]
    assert not list(sdk.chat.completions.list(metadata={"mark": mark.upper()}))
    assert not list(sdk.chat.completions.list(model="other", metadata={"mark": mark}))
    assert len(list(sdk.chat.completions.list(model="m", metadata={"mark": mark}))) == 3
    updated = sdk.chat.completions.update(kept[1].id, metadata={"other": "1"})
    assert updated.metadata == {"other": "1"}
    assert len(list(sdk.chat.completions.list(metadata={"mark": mark}))) == 2
    [message] = list(sdk.chat.completions.messages.list(kept[0].id))
    assert (message.role, message.content) == ("user", "@@ say number 0")
    assert message.id == f"{kept[0].id}-0"
    deleted = sdk.chat.completions.delete(kept[0].id)
    assert (deleted.deleted, deleted.object) == (True, "chat.completion.deleted")
    assert not _is_kept(sdk, kept[0].id)
    with pytest.raises(NotFoundError):
        sdk.chat.completions.delete(kept[0].id)
    with pytest.raises(NotFoundError):
        sdk.chat.completions.messages.list(kept[0].id)


def test_a_kept_stream_is_the_whole(sdk: OpenAI) -> None:
    script = '@@ note first\n@@& call add {"a": 3}'
    chunks = list(
        sdk.chat.completions.create(
            model="m",
            messages=user(script),
            tools=[ADD],
            stream=True,
            store=True,
        )
    )
    choice = sdk.chat.completions.retrieve(chunks[0].id).choices[0]
    assert choice.message.content == "first"
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.name == "add"  # type: ignore[union-attr]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"a": 3}  # type: ignore[union-attr]


def test_messages_of_a_kept_completion_come_in_pages(sdk: OpenAI) -> None:
    parts = [{"type": "text", "text": "@@ say x"}, {"type": "image_url", "image_url": {"url": PNG}}]
    history: list[Any] = [*user("one"), {"role": "assistant", "content": "two"}, {"role": "user", "content": parts}]
    kept = sdk.chat.completions.create(model="m", messages=history, store=True)
    found = list(sdk.chat.completions.messages.list(kept.id, limit=2))
    assert [message.content for message in found] == ["one", "two", "@@ say x"]
    assert found[2].content_parts is not None
    assert len(found[2].content_parts) == 2
    backwards = list(sdk.chat.completions.messages.list(kept.id, order="desc"))
    assert [message.id for message in backwards] == [message.id for message in found[::-1]]


def test_nobody_sees_what_another_project_keeps(tmp_path: Path, upstream_url: str) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text('[[keys]]\nkey = "sk-other"\nproject = "proj_other"\n')
    with launched(tmp_path / "data", upstream_url, config=str(config)) as server:
        kept = ask(server.client(), "@@ say mine", store=True)
        assert _is_kept(server.client(), kept.id)
        other = server.client("sk-other")
        assert not _is_kept(other, kept.id)
        assert list(other.chat.completions.list()) == []
        for attempt in (
            lambda: other.chat.completions.update(kept.id, metadata={}),
            lambda: other.chat.completions.delete(kept.id),
            lambda: other.chat.completions.messages.list(kept.id),
        ):
            with pytest.raises(NotFoundError):
                attempt()


def test_kept_completions_survive_a_restart_and_go_with_time(launch: Launch) -> None:
    server = launch("kept")
    kept = ask(server.client(), "@@ say x", store=True)
    _stop(server)
    server = launch("kept")
    assert _is_kept(server.client(), kept.id)
    _stop(server)
    # A millionth of a day is less than what has passed.
    server = launch("kept", response_retention_days="0.000001")
    deadline = time.monotonic() + 20
    while _is_kept(server.client(), kept.id):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=nobody", "after")]
)
def test_bad_lists(heard: Heard, query: str, param: str) -> None:
    answer = heard.http.get(f"/v1/chat/completions?{query}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_legacy_completions(heard: Heard, sdk: OpenAI) -> None:
    found = sdk.completions.create(model="m", prompt=["@@ say one", "@@ say two"], max_tokens=50)
    assert found.id.startswith("cmpl-")
    assert found.object == "text_completion"
    assert [(choice.index, choice.text) for choice in found.choices] == [(0, "one"), (1, "two")]
    assert found.usage is not None
    assert found.usage.total_tokens > 0
    assert sdk.completions.create(model="m", prompt="@@ say x", echo=True).choices[0].text == "@@ say xx"
    sent = heard_last(heard)
    assert 16 in (sent.get("max_tokens"), sent.get("max_output_tokens"))
    chunks = list(sdk.completions.create(model="m", prompt=["@@ say one two", "@@ say three"], stream=True))
    texts = ["".join(c.choices[0].text for c in chunks if c.choices[0].index == at) for at in (0, 1)]
    assert texts == ["one two", "three"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop", "stop"]
    told = {"include_usage": True}
    chunks = list(sdk.completions.create(model="m", prompt=["@@ say one two"] * 2, stream=True, stream_options=told))  # type: ignore[call-overload]
    whole = [sdk.completions.create(model="m", prompt=["@@ say one two"] * times).usage for times in (1, 2)]
    one, both = (usage.total_tokens if usage else 0 for usage in whole)
    assert [c.usage.total_tokens for c in chunks if c.usage] == [both] == [2 * one], "said once, of all prompts"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 9}, "logprobs"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_is_wrong_with_a_legacy_request_is_named(heard: Heard, change: Json, param: str) -> None:
    answer = heard.http.post("/v1/completions", json={"model": "m", "prompt": "x", **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_models(heard: Heard, sdk: OpenAI) -> None:
    assert "gpt-5.6" in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve("gpt-5.6").id == "gpt-5.6"
    with pytest.raises(PermissionDeniedError):
        sdk.models.delete("gpt-5.6")


def test_models_as_codex_wants_them(heard: Heard) -> None:
    found = heard.http.get("/v1/models?client_version=0.169.0").json()
    assert found.keys() == {"models"}
    entry = next(one for one in found["models"] if one["slug"] == "gpt-5.6")
    needed = {
        "slug",
        "display_name",
        "supported_reasoning_levels",
        "shell_type",
        "visibility",
        "supported_in_api",
        "priority",
        "support_verbosity",
        "truncation_policy",
        "experimental_supported_tools",
        "base_instructions",
    }
    assert needed <= entry.keys()
    assert entry["apply_patch_tool_type"] == "freeform"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/audio/speech"),
        ("GET", "/v1/chat/nothing"),
        ("DELETE", "/v1/fine_tuning/jobs/x"),
    ],
)
def test_what_is_not_served_is_a_404_in_the_shape_of_the_api(heard: Heard, method: str, path: str) -> None:
    answer = heard.http.request(method, path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error == {
        "message": f"Invalid URL ({method} {path})",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def _answer(sdk: OpenAI, messages: list[Any], streamed: bool, **fields: Any) -> Json:
    """The one choice, put together by hand if it is streamed."""
    if not streamed:
        whole = sdk.chat.completions.create(model="m", messages=messages, **fields)
        choice: Json = whole.choices[0].to_dict()
        return choice
    content, reason = "", None
    calls: dict[int, Json] = {}
    for chunk in sdk.chat.completions.create(model="m", messages=messages, stream=True, **fields):
        for one in chunk.to_dict()["choices"]:
            content += one["delta"].get("content") or ""
            reason = one.get("finish_reason") or reason
            for piece in one["delta"].get("tool_calls") or ():
                _grow(calls.setdefault(piece["index"], {}), piece)
    return {"message": {"content": content, "tool_calls": list(calls.values())}, "finish_reason": reason}


def _grow(call: Json, piece: Json) -> None:
    for name, value in piece.items():
        if isinstance(value, dict):
            inner = call.setdefault(name, {})
            for key, text in value.items():
                inner[key] = inner.get(key, "") + text
        elif name != "index":
            call[name] = value


def _is_kept(sdk: OpenAI, completion_id: str) -> bool:
    try:
        sdk.chat.completions.retrieve(completion_id)
    except NotFoundError:
        return False
    return True


def _stop(server: Server) -> None:
    server.process.terminate()
    server.process.wait(30)
