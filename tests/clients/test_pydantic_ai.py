"""Pydantic AI works with only its base URL changed: over Responses, a WebSocket, and chat completions."""

import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput, Tool, ToolOutput
from pydantic_ai.capabilities import NativeTool, ToolSearch
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.messages import NativeToolReturnPart, ThinkingPart
from pydantic_ai.models import Model
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAICompaction,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.native_tools import AbstractNativeTool, CodeExecutionTool, FileSearchTool, MCPServerTool
from pydantic_ai.providers.openai import OpenAIProvider

from deskhand.testing.upstream_embeddings import vector

from ..api.mcp_servers import Running
from ..conftest import KEY, Server

pytestmark = pytest.mark.anyio

WEATHER = '@@ call weather {"city": "Oslo"}'
OPENAI_NAME = "gpt-5.5"
"""A name by which it knows what the model can do; with others it leaves out what only OpenAI's models have."""


class Person(BaseModel):
    name: str
    age: int


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture
async def provider(server: Server) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key=KEY)
    async with provider:
        yield provider


@pytest.fixture
def responses(provider: OpenAIProvider) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(OPENAI_NAME, provider=provider)


def _responses(provider: OpenAIProvider) -> Model:
    return OpenAIResponsesModel(OPENAI_NAME, provider=provider)


def _websocket(provider: OpenAIProvider) -> Model:
    settings = OpenAIResponsesModelSettings(openai_transport="websocket")
    return OpenAIResponsesModel(OPENAI_NAME, provider=provider, settings=settings)


def _chat(provider: OpenAIProvider) -> Model:
    return OpenAIChatModel(OPENAI_NAME, provider=provider)


@pytest.fixture(params=[_responses, _websocket, _chat], ids=["responses", "websocket", "chat"])
def model(request: pytest.FixtureRequest, provider: OpenAIProvider) -> Model:
    """A model in each way that there is to reach one."""
    reached: Callable[[OpenAIProvider], Model] = request.param
    return reached(provider)


async def test_an_answer_and_one_that_follows(model: Model) -> None:
    agent = Agent(model, instructions="Be brief.")
    first = await agent.run("@@ say hello")
    assert first.output == "hello"
    assert first.usage.output_tokens > 0
    second = await agent.run("@@ say again", message_history=first.all_messages())
    assert second.output == "again"


async def test_a_function_is_called(model: Model) -> None:
    result = await Agent(model, tools=[weather]).run(f"{WEATHER}\n{WEATHER}")
    assert result.output == "RESULT: sunny in Oslo\nsunny in Oslo"
    assert result.usage.tool_calls == 2


async def test_an_answer_is_streamed(model: Model) -> None:
    async with Agent(model, tools=[weather]).run_stream(f"{WEATHER}\n@@ say one two three") as streamed:
        texts = [text async for text in streamed.stream_text(delta=True, debounce_by=None)]
    assert "".join(texts) == "one two three"
    assert len(texts) > 1, "it came in one piece"


async def test_an_answer_in_a_form(model: Model) -> None:
    native = Agent(model, output_type=NativeOutput(Person))
    assert (await native.run('@@ json {"name": "Ann", "age": 3}')).output == Person(name="Ann", age=3)
    by_tool = Agent(model, output_type=ToolOutput(Person, name="tell"))
    assert (await by_tool.run('@@ call tell {"name": "Ann", "age": 3}')).output == Person(name="Ann", age=3)


async def test_reasoning_is_given_back(responses: OpenAIResponsesModel) -> None:
    settings = OpenAIResponsesModelSettings(
        openai_reasoning_effort="low", openai_reasoning_summary="auto", openai_store=False
    )
    agent = Agent(responses, tools=[weather], model_settings=settings)
    result = await agent.run(f"@@ think hmm\n{WEATHER}\n@@ think well\n@@ say done")
    assert result.output == "done"
    thoughts = [part for part in result.all_messages()[1].parts if isinstance(part, ThinkingPart)]
    assert thoughts, "no reasoning was shown"
    assert (await agent.run("@@ say again", message_history=result.all_messages())).output == "again"


def kinds(result: Any) -> list[str]:
    return [part.part_kind for message in result.all_messages() for part in message.parts]


def returned(result: Any) -> list[NativeToolReturnPart]:
    parts = [part for message in result.all_messages() for part in message.parts]
    return [part for part in parts if isinstance(part, NativeToolReturnPart)]


async def hosted(model: Model, script: str, tool: AbstractNativeTool, settings: ModelSettings | None = None) -> Any:
    """The result with a tool that runs at the server; its history can be given back."""
    agent = Agent(model, capabilities=[NativeTool(tool)], model_settings=settings)
    result = await agent.run(script)
    assert (await agent.run("@@ say read", message_history=result.all_messages())).output == "read"
    async with agent.run_stream(script) as streamed:
        assert await streamed.get_output() == result.output
    return result


async def test_the_code_interpreter(responses: OpenAIResponsesModel) -> None:
    settings = OpenAIResponsesModelSettings(openai_include_code_execution_outputs=True)
    result = await hosted(responses, "@@ python print(6*7)", CodeExecutionTool(), settings)
    assert "42" in result.output
    (ran,) = returned(result)
    assert ran.content == {"status": "completed", "logs": ["42\n"]}


async def test_file_search(responses: OpenAIResponsesModel, client: OpenAI) -> None:
    store = client.vector_stores.create(name="kb")
    notes = ("zebra.md", io.BytesIO(b"The zebra code is 7391."))
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=notes)
    settings = OpenAIResponsesModelSettings(openai_include_file_search_results=True)
    result = await hosted(responses, "@@ search zebra code", FileSearchTool(file_store_ids=[store.id]), settings)
    assert "7391" in result.output
    assert "7391" in str(returned(result)[0].content)


async def test_a_remote_mcp_server(responses: OpenAIResponsesModel, calculator_server: Running) -> None:
    tool = MCPServerTool(id="calc", url=calculator_server.url, allowed_tools=["add"])
    result = await hosted(responses, '@@ mcp add {"a": 20, "b": 22}', tool)
    assert "42" in result.output


async def test_functions_that_are_found_by_search(responses: OpenAIResponsesModel) -> None:
    agent = Agent(responses, tools=[Tool(weather, defer_loading=True)], capabilities=[ToolSearch()])
    result = await agent.run(f'@@ call tool_search {{"paths": ["weather"]}}\n{WEATHER}')
    assert kinds(result)[1:5] == ["builtin-tool-call", "builtin-tool-return", "tool-call", "tool-return"]
    assert "sunny in Oslo" in result.output
    assert (await agent.run("@@ say on", message_history=result.all_messages())).output == "on"


async def test_answers_chained_by_the_server(responses: OpenAIResponsesModel, client: OpenAI) -> None:
    agent = Agent(responses, tools=[weather])
    chaining = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    result = await agent.run(WEATHER, model_settings=chaining)
    assert result.output == "RESULT: sunny in Oslo"
    ids = [message.provider_response_id for message in result.all_messages() if message.kind == "response"]
    assert client.responses.retrieve(str(ids[1])).previous_response_id == ids[0]
    conversation = client.conversations.create().id
    remembering = OpenAIResponsesModelSettings(openai_conversation_id=conversation)
    await agent.run(WEATHER, model_settings=remembering)
    assert len(client.conversations.items.list(conversation).data) == 4


def read() -> str:
    """Read very much."""
    return "REMEMBER(door-42) " + "x " * 4000


async def test_the_server_compacts_a_long_run(responses: OpenAIResponsesModel) -> None:
    agent = Agent(responses, tools=[read], capabilities=[OpenAICompaction(token_threshold=1000)])
    result = await agent.run("@@ call read {}\n@@ call read {}\n@@ call read {}")
    assert kinds(result).count("tool-return") == 3
    assert "compaction" in kinds(result), "nothing was compacted"


async def test_the_client_compacts_a_long_history(responses: OpenAIResponsesModel) -> None:
    agent = Agent(responses, tools=[weather], capabilities=[OpenAICompaction(message_count_threshold=4)])
    first = await agent.run(WEATHER)
    second = await agent.run("and?", message_history=first.all_messages())
    assert kinds(second) == ["compaction", "user-prompt", "text"]
    assert second.output == "RESULT: sunny in Oslo"


async def test_the_client_compacts_while_a_call_waits_and_does_not_answer_it(responses: OpenAIResponsesModel) -> None:
    agent = Agent(responses, tools=[weather], capabilities=[OpenAICompaction(message_count_threshold=2)])
    result = await agent.run(f"{WEATHER}\n@@ say over")
    assert kinds(result)[0] == "compaction"
    assert result.output == "over"


async def test_a_run_in_the_background(responses: OpenAIResponsesModel) -> None:
    agent = Agent(responses, model_settings=OpenAIResponsesModelSettings(openai_background=True))
    assert (await agent.run("@@ say hello")).output == "hello"


async def test_embeddings(provider: OpenAIProvider) -> None:
    embedder = Embedder(OpenAIEmbeddingModel("text-embedding-3-small", provider=provider))
    found = await embedder.embed_query("the cat sat")
    assert found.embeddings[0] == pytest.approx(vector("the cat sat"), rel=1e-6)
