"""The `file_search` tool behind a scripted model: searched for real, shown on demand, cited."""

import io
from typing import Any

import openai
import pytest
from openai import OpenAI

from ..conftest import Server
from .oracle import stream, types

RESULTS: Any = ["file_search_call.results"]
TEXTS = {
    "cats.md": b"The zebra code is 7391. Cats purr when they are content.",
    "boats.md": b"Sailing boats need wind. A keel keeps a boat upright.",
}


@pytest.fixture(scope="module")
def store_id(client: OpenAI) -> str:
    store = client.vector_stores.create(name="kb")
    files = [(name, io.BytesIO(text)) for name, text in TEXTS.items()]
    batch = client.vector_stores.file_batches.upload_and_poll(vector_store_id=store.id, files=files)
    assert batch.file_counts.completed == 2
    return store.id


def tool(store_id: str, **more: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": [store_id], **more}


def ask(client: OpenAI, script: str, *tools: Any, **more: Any) -> Any:
    return client.responses.create(model="m", input=script, tools=list(tools), **more)


def test_the_model_searches_and_reads_what_was_found(client: OpenAI, store_id: str) -> None:
    response = ask(client, "@@ search zebra code", tool(store_id), include=RESULTS)
    assert [item.type for item in response.output] == ["file_search_call", "message"]
    call = response.output[0]
    assert call.id.startswith("fs_")
    assert (call.status, call.queries) == ("completed", ["zebra code"])
    assert [(result.filename, result.text) for result in call.results] == [("cats.md", TEXTS["cats.md"].decode())]
    assert 0 < call.results[0].score <= 1
    assert "7391" in response.output_text, "the model did not read what was found"
    echoed = response.tools[0].to_dict()
    assert (echoed["max_num_results"], echoed["ranking_options"]["ranker"]) == (20, "auto")


def test_the_events_of_a_search(server: Server, store_id: str) -> None:
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "@@ search keel", "tools": [tool(store_id)], "include": RESULTS})
    assert types(events)[:8] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
    ]
    added, done = events[2]["item"], events[6]["item"]
    assert (added["status"], added["queries"], added["results"]) == ("in_progress", [], None)
    assert (done["status"], done["queries"], len(done["results"])) == ("completed", ["keel"], 1)
    for event in events[3:6]:
        assert (event["output_index"], event["item_id"]) == (0, added["id"])


def test_results_are_shown_only_to_who_asks(client: OpenAI, store_id: str) -> None:
    response = ask(client, "@@ search zebra", tool(store_id))
    assert response.output[0].results is None
    assert client.responses.retrieve(response.id).output[0].results is None  # type: ignore[union-attr]
    asked: Any = client.responses.retrieve(response.id, include=RESULTS)
    assert asked.output[0].results[0].filename == "cats.md"


def test_a_file_that_the_model_names_is_cited(client: OpenAI, store_id: str) -> None:
    text = "The code is 7391 (cats.md), not in boats.markdown."
    response = ask(client, f"@@ search zebra\n@@ say {text}", tool(store_id), include=RESULTS)
    assert response.output_text == text
    (citation,) = response.output[1].content[0].annotations
    file_id = response.output[0].results[0].file_id
    assert citation.to_dict() == {
        "type": "file_citation",
        "file_id": file_id,
        "filename": "cats.md",
        "index": text.index("cats.md") + len("cats.md"),
    }


def test_filters_and_limits_of_the_tool(client: OpenAI, store_id: str) -> None:
    by_both = ask(client, "@@ search zebra keel", tool(store_id), include=RESULTS).output[0].results
    assert {result.filename for result in by_both} == set(TEXTS), "the control"
    one = ask(client, "@@ search zebra keel", tool(store_id, max_num_results=1), include=RESULTS).output[0].results
    assert len(one) == 1
    nothing = {"type": "eq", "key": "a", "value": "b"}
    none = ask(client, "@@ search zebra keel", tool(store_id, filters=nothing), include=RESULTS)
    assert none.output[0].results == []
    assert "Nothing was found" in none.output_text
    strict = tool(store_id, ranking_options={"score_threshold": 1.0})
    assert len(ask(client, "@@ search zebra keel", strict, include=RESULTS).output[0].results) == 1


def test_several_queries_in_one_call(client: OpenAI, store_id: str) -> None:
    script = '@@ call file_search {"queries": ["zebra", "keel"]}'
    call = ask(client, script, tool(store_id), include=RESULTS).output[0]
    assert call.queries == ["zebra", "keel"]
    assert {result.filename for result in call.results} == set(TEXTS)


@pytest.mark.parametrize("arguments", ["{}", '{"queries": []}', '{"queries": [1]}', '{"queries": " "}', "nonsense"])
def test_arguments_that_make_no_sense_are_told_to_the_model(client: OpenAI, store_id: str, arguments: str) -> None:
    response = ask(client, f"@@ call file_search {arguments}", tool(store_id))
    assert (response.status, response.output[0].status) == ("completed", "failed")
    assert "unreadable" in response.output_text


def test_a_search_is_part_of_the_conversation(client: OpenAI, store_id: str) -> None:
    first = ask(client, "@@ search zebra", tool(store_id), include=RESULTS)
    second = client.responses.create(model="m", previous_response_id=first.id, input="@@ say on")
    assert second.output_text == "on"
    replayed: Any = [{"role": "user", "content": "hello"}, *(item.to_dict() for item in first.output)]
    third = client.responses.create(model="m", input=[*replayed, {"role": "user", "content": "@@ say third"}])
    assert third.output_text == "third"


def test_a_search_can_be_forced(client: OpenAI, store_id: str) -> None:
    response = ask(client, "find the keel", tool(store_id), tool_choice={"type": "file_search"})
    assert response.output[0].type == "file_search_call"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "find the keel", tool_choice={"type": "file_search"})
    assert caught.value.param == "tool_choice"


def test_bad_tools_are_named(client: OpenAI, store_id: str) -> None:
    for status, param, bad in [
        (400, "tools[0].vector_store_ids", {"type": "file_search", "vector_store_ids": []}),
        (400, "tools[0].vector_store_ids", {"type": "file_search"}),
        (404, "tools[0].vector_store_ids", tool("vs_nobody")),
        (400, "tools[0].max_num_results", tool(store_id, max_num_results=51)),
        (400, "tools[0].filters.type", tool(store_id, filters={"type": "like"})),
        (400, "tools[0].ranking_options.score_threshold", tool(store_id, ranking_options={"score_threshold": 2})),
    ]:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, "@@ search zebra", bad)
        assert (caught.value.status_code, caught.value.param) == (status, param)
