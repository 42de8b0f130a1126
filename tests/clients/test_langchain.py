"""LangChain works with only its base URL changed: over Responses, over chat completions, and its embeddings."""

import io
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings, custom_tool
from openai import DefaultAsyncHttpxClient, OpenAI
from pydantic import BaseModel, SecretStr

from deskhand.testing.upstream_embeddings import vector

from ..api.mcp_servers import PNG, Running
from ..conftest import KEY, Server

Json = dict[str, Any]

WEATHER = '@@ call weather {"city": "Oslo"}'
BOTH = pytest.mark.parametrize("use_responses_api", [True, False], ids=["responses", "chat"])


class Person(BaseModel):
    name: str
    age: int


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def model(server: Server, **more: Any) -> ChatOpenAI:
    fields = {"model": "m", "use_responses_api": True, "max_retries": 0, **more}
    return ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr(KEY), **fields)


@BOTH
def test_an_answer(server: Server, use_responses_api: bool) -> None:
    answer = model(server, use_responses_api=use_responses_api).invoke("@@ say hi")
    assert answer.text == "hi"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["id"].startswith("resp_" if use_responses_api else "chatcmpl-")


@BOTH
def test_an_answer_is_streamed(server: Server, use_responses_api: bool) -> None:
    asked = model(server, use_responses_api=use_responses_api, stream_usage=True)
    chunks = list(asked.stream("@@ say one two three"))
    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert len([chunk for chunk in chunks if chunk.text]) > 1, "it came in one piece"
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


@pytest.mark.anyio
@BOTH
async def test_an_answer_is_streamed_to_async_readers(server: Server, use_responses_api: bool) -> None:
    async with DefaultAsyncHttpxClient() as connections:  # its own are for the loop that first asks, and never closed
        asked = model(server, use_responses_api=use_responses_api, http_async_client=connections)
        texts = [chunk.text async for chunk in asked.astream("@@ say one two three")]
    assert "".join(texts) == "one two three"


@BOTH
def test_a_function_is_called_and_its_result_read(server: Server, use_responses_api: bool) -> None:
    asked = model(server, use_responses_api=use_responses_api).bind_tools([weather])
    question = HumanMessage(WEATHER)
    first = asked.invoke([question])
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    streamed = reduce(add, asked.stream([question]))
    assert [made["args"] for made in streamed.tool_calls] == [{"city": "Oslo"}]
    for answer in (first, streamed):
        result = ToolMessage("7C", tool_call_id=answer.tool_calls[0]["id"])
        assert asked.invoke([question, answer, result]).text == "RESULT: 7C"


@BOTH
def test_an_agent(server: Server, use_responses_api: bool) -> None:
    agent: Any = create_agent(model(server, use_responses_api=use_responses_api), [weather])
    state = agent.invoke({"messages": [{"role": "user", "content": f"{WEATHER}\n{WEATHER}"}]})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "RESULT: sunny in Oslo\nsunny in Oslo"


@BOTH
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_in_a_form(server: Server, use_responses_api: bool, method: Any) -> None:
    asked = model(server, use_responses_api=use_responses_api).with_structured_output(Person, method=method)
    script = {"json_schema": "@@ json", "function_calling": "@@ call Person"}[method]
    assert asked.invoke(f'{script} {{"name": "Ann", "age": 3}}') == Person(name="Ann", age=3)


@custom_tool
def query(text: str) -> str:
    """Run a query."""
    return f"ran {text}"


def test_a_tool_of_free_text(server: Server) -> None:
    agent: Any = create_agent(model(server), [query])
    state = agent.invoke({"messages": [HumanMessage("@@ call query SELECT 1")]})
    assert state["messages"][-1].text == "RESULT: ran SELECT 1"


@BOTH
def test_pictures_and_files_are_taken(server: Server, use_responses_api: bool) -> None:
    parts = [
        {"type": "text", "text": "@@ say seen"},
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"type": "file", "base64": "aGVsbG8=", "mime_type": "text/plain", "filename": "a.txt"},
    ]
    assert model(server, use_responses_api=use_responses_api).invoke([HumanMessage(parts)]).text == "seen"  # type: ignore[arg-type]


def test_answers_chained_by_the_server(server: Server, client: OpenAI) -> None:
    asked = model(server, use_previous_response_id=True)
    first = asked.invoke("@@ say a")
    second = asked.invoke([HumanMessage("@@ say a"), first, HumanMessage("@@ say b")])
    assert second.text == "b"
    kept = client.responses.retrieve(second.response_metadata["id"])
    assert kept.previous_response_id == first.response_metadata["id"]


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("form", ["v0", "responses/v1", "v1"])
def test_reasoning_and_calls_are_given_back(server: Server, form: Any, store: bool) -> None:
    include = ["reasoning.encrypted_content", "code_interpreter_call.outputs"]
    asked = model(
        server, output_version=form, store=store, include=include, reasoning={"effort": "low", "summary": "auto"}
    ).bind_tools([{"type": "code_interpreter", "container": {"type": "auto"}}])
    question = HumanMessage("@@ think hmm\n@@ python print(6*7)\n@@ say done")
    streamed = reduce(add, asked.stream([question]))
    for answer in (asked.invoke([question]), streamed):
        kinds = [block["type"] for block in answer.content_blocks]
        assert kinds == ["reasoning", "server_tool_call", "server_tool_result", "text"]
        assert answer.text == "done"
        assert asked.invoke([question, answer, HumanMessage("@@ say again")]).text == "again"


def hosted(server: Server, script: str, declared: Json, **more: Any) -> AIMessage:
    """The answer with a tool that runs at the server; and what was streamed is the same."""
    asked = model(server, **more).bind(tools=[declared])
    streamed = "".join(chunk.text for chunk in asked.stream(script))
    answer = asked.invoke(script)
    assert streamed == answer.text
    again = asked.invoke([HumanMessage(script), answer, HumanMessage("@@ say read")])
    assert again.text == "read", "what the tool did could not be given back"
    return answer


def test_the_hosted_shell(server: Server) -> None:
    answer = hosted(server, "@@ shell echo $((6*7))", {"type": "shell", "environment": {"type": "container_auto"}})
    assert "42" in answer.text


def test_the_code_interpreter(server: Server) -> None:
    declared = {"type": "code_interpreter", "container": {"type": "auto"}}
    answer = hosted(server, "@@ python print(6*7)", declared, include=["code_interpreter_call.outputs"])
    assert "42" in answer.text
    assert "server_tool_call" in [block["type"] for block in answer.content_blocks]


def test_file_search(server: Server, client: OpenAI) -> None:
    store = client.vector_stores.create(name="kb")
    notes = ("zebra.md", io.BytesIO(b"The zebra code is 7391."))
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=notes)
    declared = {"type": "file_search", "vector_store_ids": [store.id]}
    assert "7391" in hosted(server, "@@ search zebra code", declared, include=["file_search_call.results"]).text


def test_a_remote_mcp_server(server: Server, calculator_server: Running) -> None:
    declared = {
        "type": "mcp",
        "server_label": "calc",
        "server_url": calculator_server.url,
        "require_approval": "never",
    }
    answer = hosted(server, '@@ mcp add {"a": 20, "b": 22}', declared)
    assert "42" in answer.text


def test_embeddings(server: Server) -> None:
    # With the check, it sends tokens of OpenAI's tokenizer, for which it wants to download a table.
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=f"{server.url}/v1",
        api_key=SecretStr(KEY),
        check_embedding_ctx_length=False,
    )
    assert embeddings.embed_query("the cat sat") == pytest.approx(vector("the cat sat"), rel=1e-6)
    assert len(embeddings.embed_documents(["one", "two"])) == 2
