"""The OpenAI Agents SDK works with only its base URL changed: hosted tools run at the server, the others here."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    AsyncComputer,
    CodeInterpreterTool,
    ComputerTool,
    CustomTool,
    FileSearchTool,
    HostedMCPTool,
    LocalShellCommandRequest,
    LocalShellTool,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIProvider,
    OpenAIResponsesWSModel,
    RunConfig,
    Runner,
    RunState,
    ShellCallOutcome,
    ShellCommandOutput,
    ShellCommandRequest,
    ShellResult,
    ShellTool,
    SQLiteSession,
    ToolSearchTool,
    apply_diff,
    function_tool,
    set_default_openai_client,
    set_trace_processors,
    tool_namespace,
    trace,
)
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from agents.memory import OpenAIResponsesCompactionSession
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.entries import File
from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor
from openai import AsyncOpenAI, NotFoundError
from openai.types.responses.tool_param import Mcp
from openai.types.shared import Reasoning
from pydantic import BaseModel

from ..api.mcp_servers import PNG, Running
from ..conftest import KEY, Server

pytestmark = pytest.mark.anyio

WEATHER = '@@ call weather {"city": "Oslo"}'
ADD = '@@ mcp add {"a": 20, "b": 22}'
OPENAI_NAME = "gpt-5.5"
"""A name that the SDK takes for one of OpenAI's: some of it works with no other."""


class Person(BaseModel):
    name: str
    age: int


@function_tool
def weather(city: str) -> str:
    return f"sunny in {city}"


@pytest.fixture(autouse=True)
async def sdk(server: Server) -> AsyncIterator[AsyncOpenAI]:
    """The client of every agent that is told of no other."""
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        set_default_openai_client(client, use_for_tracing=False)
        yield client


@pytest.fixture(scope="module", autouse=True)
def traces(server: Server) -> Iterator[BatchTraceProcessor]:
    """Where traces go: to the server, as our documentation says, and not to OpenAI."""
    exporter = BackendSpanExporter(api_key=KEY, endpoint=f"{server.url}/v1/traces/ingest")
    processor = BatchTraceProcessor(exporter)
    set_trace_processors([processor])
    yield processor
    set_trace_processors([])
    processor.shutdown()
    exporter.close()  # type: ignore[no-untyped-call]


def agent(*tools: Any, **more: Any) -> Agent[Any]:
    return Agent(name="A", **{"model": "m", "tools": list(tools), **more})


def called(result: Any, kind: str) -> dict[str, Any]:
    """The only call of a kind, as it came over the wire."""
    raw = [item.raw_item for item in result.new_items if item.type == "tool_call_item"]
    calls = [one if isinstance(one, dict) else one.to_dict() for one in raw]
    (call,) = [one for one in calls if one["type"] == kind]
    return call


async def test_a_function_is_called_and_the_run_continued(sdk: AsyncOpenAI) -> None:
    first = await Runner.run(agent(weather, instructions="Be brief."), WEATHER)
    assert first.final_output == "RESULT: sunny in Oslo"
    assert first.context_wrapper.usage.requests == 2
    continued: Any = [*first.to_input_list(), {"role": "user", "content": "@@ say bye"}]
    second = await Runner.run(agent(weather), continued)
    assert second.final_output == "bye"
    assert second.last_response_id is not None
    sent = [item.type for item in (await sdk.responses.input_items.list(second.last_response_id, order="asc")).data]
    assert sent == ["message", "function_call", "function_call_output", "message", "message"]


async def test_a_run_is_streamed() -> None:
    result = Runner.run_streamed(agent(weather), WEATHER)
    events = [event async for event in result.stream_events()]
    steps = [event.name for event in events if event.type == "run_item_stream_event"]
    assert steps == ["tool_called", "tool_output", "message_output_created"]
    raw = [event.data for event in events if event.type == "raw_response_event"]
    assert "".join(event.delta for event in raw if event.type == "response.output_text.delta") == result.final_output
    assert result.final_output == "RESULT: sunny in Oslo"


@function_tool(defer_loading=True)
def lookup(customer: str) -> str:
    return f"found {customer}"


async def test_functions_that_are_found_by_search() -> None:
    group = tool_namespace(name="crm", description="Customers.", tools=[lookup])
    searching = agent(ToolSearchTool(), *group)
    result = await Runner.run(searching, '@@ call tool_search {"paths": ["crm"]}\n@@ call lookup {"customer": "Ann"}')
    assert [item.type for item in result.new_items] == [
        "tool_search_call_item",
        "tool_search_output_item",
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]
    assert "found Ann" in result.final_output
    continued: Any = [*result.to_input_list(), {"role": "user", "content": "@@ say on"}]
    assert (await Runner.run(searching, continued)).final_output == "on"


async def test_a_tool_of_free_text_with_a_grammar() -> None:
    async def query(_: Any, text: str) -> str:
        return f"ran {text}"

    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "SELECT " /[0-9]+/'}
    tool = CustomTool(name="sql", description="Queries.", on_invoke_tool=query, format=grammar)
    result = await Runner.run(agent(tool), "@@ call sql SELECT 1")
    assert result.final_output == "RESULT: ran SELECT 1"


async def test_a_run_of_which_nothing_is_stored(sdk: AsyncOpenAI) -> None:
    settings = ModelSettings(
        store=False,
        reasoning=Reasoning(effort="low", summary="auto"),
        response_include=["reasoning.encrypted_content"],
    )
    result = await Runner.run(
        agent(weather, model_settings=settings), f"@@ think hm\n{WEATHER}\n@@ think well\n@@ say ok"
    )
    assert result.final_output == "ok"
    kinds = [item.type for item in result.new_items]
    assert kinds == [
        "reasoning_item",
        "tool_call_item",
        "tool_call_output_item",
        "reasoning_item",
        "message_output_item",
    ]
    with pytest.raises(NotFoundError):
        await sdk.responses.retrieve(str(result.last_response_id))


async def test_an_answer_in_a_form() -> None:
    asked = agent(output_type=Person)
    result = await Runner.run(asked, '@@ json {"name": "Ann", "age": 3}')
    assert result.final_output == Person(name="Ann", age=3)
    mended = await Runner.run(asked, '@@ draft {"name": "Ann"}\n@@ json {"name": "Ann", "age": 3}')
    assert mended.final_output == result.final_output


async def test_one_agent_hands_over_to_another() -> None:
    billing = Agent[Any](name="Billing", model="m", instructions="You do bills.")
    result = await Runner.run(agent(handoffs=[billing]), "@@ call transfer_to_billing {}\n@@ say paid")
    assert (result.last_agent.name, result.final_output) == ("Billing", "paid")


async def test_the_hosted_shell_and_its_container(sdk: AsyncOpenAI) -> None:
    shell = ShellTool(environment={"type": "container_auto"})
    first = await Runner.run(agent(shell), "@@ shell echo $((6*7)) > a.txt; cat a.txt")
    assert "42" in first.final_output
    container = called(first, "shell_call")["environment"]["container_id"]
    again = ShellTool(environment={"type": "container_reference", "container_id": container})
    second = await Runner.run(agent(again), "@@ shell cat a.txt; echo on stderr >&2; exit 3")
    assert "42" in second.final_output
    assert "on stderr" in second.final_output
    files = await sdk.containers.files.list(container)
    assert [file.path for file in files.data] == ["/mnt/data/a.txt"]


async def test_the_hosted_shell_is_streamed() -> None:
    result = Runner.run_streamed(agent(ShellTool(environment={"type": "container_auto"})), "@@ shell echo $((6*7))")
    steps = [event.name async for event in result.stream_events() if event.type == "run_item_stream_event"]
    assert steps == ["tool_called", "tool_output", "message_output_created"]
    assert "42" in result.final_output


async def run_here(request: ShellCommandRequest) -> ShellResult:
    outputs = []
    for command in request.data.action.commands:
        process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
        stdout, _ = await process.communicate()
        ended = ShellCallOutcome(type="exit", exit_code=process.returncode)
        outputs.append(ShellCommandOutput(command=command, stdout=stdout.decode(), outcome=ended))
    return ShellResult(output=outputs)


async def test_the_shell_of_the_client() -> None:
    result = await Runner.run(agent(ShellTool(executor=run_here)), "@@ shell echo here-$((1+1))")
    assert "here-2" in result.final_output


async def test_the_older_shell_of_the_client() -> None:
    commands: list[list[str]] = []

    def execute(request: LocalShellCommandRequest) -> str:
        commands.append(request.data.action.command)
        return "from the client"

    result = await Runner.run(agent(LocalShellTool(executor=execute)), '@@ call local_shell {"command": ["ls", "-l"]}')
    assert commands == [["ls", "-l"]]
    assert "from the client" in result.final_output


class Editor:
    """Applies what the model wants in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        (self.folder / operation.path).write_text(apply_diff("", operation.diff or "", mode="create"))
        return ApplyPatchResult(output=f"Created {operation.path}")

    def update_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        path = self.folder / operation.path
        path.write_text(apply_diff(path.read_text(), operation.diff or ""))
        return ApplyPatchResult(output=f"Updated {operation.path}")

    def delete_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        (self.folder / operation.path).unlink()
        return ApplyPatchResult(output=f"Deleted {operation.path}")


async def test_patches_of_the_clients_files(tmp_path: Path) -> None:
    script = "@@ create t.txt <<E\nalpha\nbeta\nE\n@@ update t.txt <<E\n@@\n alpha\n-beta\n+gamma\nE"
    patching = agent(ApplyPatchTool(editor=Editor(tmp_path)))
    result = await Runner.run(patching, script)
    assert (tmp_path / "t.txt").read_text().strip() == "alpha\ngamma"
    assert "Updated t.txt" in result.final_output
    await Runner.run(patching, "@@ delete t.txt")
    assert not (tmp_path / "t.txt").exists()


async def test_the_code_interpreter() -> None:
    tool = CodeInterpreterTool(tool_config={"type": "code_interpreter", "container": {"type": "auto"}})
    result = await Runner.run(agent(tool), "@@ python print(273*312821+1782)")
    assert "85401915" in result.final_output
    assert called(result, "code_interpreter_call")["code"] == "print(273*312821+1782)"


async def test_file_search(sdk: AsyncOpenAI) -> None:
    store = await sdk.vector_stores.create(name="kb")
    notes = ("zebra.md", io.BytesIO(b"The zebra code is 7391."))
    await sdk.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=notes)
    tool = FileSearchTool(vector_store_ids=[store.id], max_num_results=3, include_search_results=True)
    result = await Runner.run(agent(tool), "@@ search zebra code")
    assert "7391" in result.final_output
    (found,) = called(result, "file_search_call")["results"]
    assert (found["filename"], found["text"]) == ("zebra.md", "The zebra code is 7391.")


def remote(server: Running, approval: Any) -> Mcp:
    return {"type": "mcp", "server_label": "calc", "server_url": server.url, "require_approval": approval}


async def test_a_remote_mcp_server(calculator_server: Running) -> None:
    tool = HostedMCPTool(tool_config=remote(calculator_server, "never"))
    result = await Runner.run(agent(tool), ADD)
    assert called(result, "mcp_call")["output"] == "42"
    assert "42" in result.final_output


@pytest.mark.parametrize("approve", [True, False])
async def test_a_remote_mcp_server_that_needs_approval(calculator_server: Running, approve: bool) -> None:
    asked: list[tuple[str, str]] = []

    def decide(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        asked.append((request.data.server_label, request.data.name))
        return {"approve": approve, "reason": "because"}

    tool = HostedMCPTool(tool_config=remote(calculator_server, "always"), on_approval_request=decide)
    result = await Runner.run(agent(tool), ADD)
    assert asked == [("calc", "add")]
    assert ("42" in result.final_output) is approve


async def test_a_run_that_waits_for_approval_is_taken_up_from_what_was_saved(calculator_server: Running) -> None:
    asking = agent(HostedMCPTool(tool_config=remote(calculator_server, "always")))
    waiting = await Runner.run(asking, ADD)
    (request,) = waiting.interruptions
    state = waiting.to_state()
    state.approve(request)
    result = await Runner.run(asking, await RunState.from_json(asking, state.to_json()))
    assert result.final_output == "RESULT: 42"


class Screen(AsyncComputer):
    """A computer that remembers what was done with it."""

    environment = "browser"
    dimensions = (100, 80)

    def __init__(self) -> None:
        self.done: list[Any] = []

    async def screenshot(self) -> str:
        return PNG

    async def click(self, x: int, y: int, button: str, *, keys: list[str] | None = None) -> None:
        self.done.append((button, x, y))

    async def double_click(self, x: int, y: int, *, keys: list[str] | None = None) -> None:
        raise NotImplementedError

    async def scroll(self, x: int, y: int, scroll_x: int, scroll_y: int, *, keys: list[str] | None = None) -> None:
        raise NotImplementedError

    async def type(self, text: str) -> None:
        self.done.append(text)

    async def wait(self) -> None:
        raise NotImplementedError

    async def move(self, x: int, y: int, *, keys: list[str] | None = None) -> None:
        raise NotImplementedError

    async def keypress(self, keys: list[str]) -> None:
        raise NotImplementedError

    async def drag(self, path: list[tuple[int, int]], *, keys: list[str] | None = None) -> None:
        raise NotImplementedError


async def test_a_computer_of_the_client(sdk: AsyncOpenAI) -> None:
    screen = Screen()
    using = agent(ComputerTool(computer=screen), model_settings=ModelSettings(truncation="auto"))
    actions = '[{"type": "click", "button": "left", "x": 3, "y": 4}, {"type": "type", "text": "hi"}]'
    result = await Runner.run(using, f"@@ computer {actions}\n@@ say clicked")
    assert screen.done == [("left", 3, 4), "hi"]
    assert result.final_output == "clicked"
    assert result.last_response_id is not None
    sent = (await sdk.responses.input_items.list(result.last_response_id)).data
    (shot,) = [item for item in sent if item.type == "computer_call_output"]
    assert shot.output.image_url == f"data:image/png;base64,{PNG}"


async def test_a_session_kept_as_a_conversation(sdk: AsyncOpenAI) -> None:
    session = OpenAIConversationsSession(openai_client=sdk)
    await Runner.run(agent(weather), WEATHER, session=session)
    assert (await Runner.run(agent(weather), "@@ say more", session=session)).final_output == "more"
    kinds = ["message", "function_call", "function_call_output", "message", "message", "message"]
    items: list[Any] = await session.get_items()
    assert [item.get("type", "message") for item in items] == kinds
    latest: list[Any] = await session.get_items(limit=2)
    assert [item["role"] for item in latest] == ["user", "assistant"]
    popped: Any = await session.pop_item()
    assert popped["content"][0]["text"] == "more"
    assert len(await session.get_items()) == len(kinds) - 1
    await session.clear_session()


async def test_a_session_kept_by_the_client() -> None:
    session = SQLiteSession("thread")
    await Runner.run(agent(weather), WEATHER, session=session)
    # No script in the second turn: the model plays that of the first, whose calls were all made.
    assert (await Runner.run(agent(weather), "and?", session=session)).final_output == "RESULT: sunny in Oslo"
    session.close()


async def test_runs_chained_by_the_server(sdk: AsyncOpenAI) -> None:
    first = await Runner.run(agent(weather), WEATHER)
    second = await Runner.run(agent(weather), "and?", previous_response_id=first.last_response_id)
    assert second.final_output == "RESULT: sunny in Oslo"
    automatic = await Runner.run(agent(weather), WEATHER, auto_previous_response_id=True)
    assert automatic.final_output == "RESULT: sunny in Oslo"
    conversation = (await sdk.conversations.create()).id
    await Runner.run(agent(weather), WEATHER, conversation_id=conversation)
    assert (await Runner.run(agent(), "and?", conversation_id=conversation)).final_output == "RESULT: sunny in Oslo"
    assert len((await sdk.conversations.items.list(conversation)).data) == 6


@pytest.mark.parametrize("mode", ["previous_response_id", "input", "auto"])
async def test_a_session_that_is_compacted(sdk: AsyncOpenAI, mode: Any) -> None:
    session = OpenAIResponsesCompactionSession(
        session_id="long",
        underlying_session=SQLiteSession("long"),
        client=sdk,
        model=OPENAI_NAME,
        compaction_mode=mode,
        should_trigger_compaction=lambda about: len(about["compaction_candidate_items"]) >= 3,
    )
    await Runner.run(agent(weather), f"REMEMBER(door-17)\n{WEATHER}\n{WEATHER}", session=session)
    items: list[Any] = await session.get_items()
    kinds = [item.get("type", "message") for item in items]
    assert kinds == ["message", "compaction"], "nothing was compacted"
    assert (await Runner.run(agent(weather), "@@ say after", session=session)).final_output == "after"


async def test_an_agent_with_a_sandbox_of_its_own() -> None:
    working = SandboxAgent[Any](
        name="S", model=OPENAI_NAME, default_manifest=Manifest(entries={"README.md": File(content=b"# demo 42\n")})
    )
    script = "@@ shell cat README.md\n@@ create n.txt <<E\nmade by a patch\nE\n@@ shell cat n.txt"
    config = RunConfig(sandbox=SandboxRunConfig(client=UnixLocalSandboxClient()))
    result = await Runner.run(working, script, run_config=config)
    assert "demo 42" in result.final_output
    assert "made by a patch" in result.final_output


async def test_everything_over_a_websocket(sdk: AsyncOpenAI) -> None:
    provider = OpenAIProvider(openai_client=sdk, use_responses_websocket=True)
    assert isinstance(provider.get_model("m"), OpenAIResponsesWSModel)
    tools = [weather, ShellTool(environment={"type": "container_auto"})]
    config = RunConfig(model_provider=provider)
    result = await Runner.run(agent(*tools), f"{WEATHER}\n@@ shell echo $((6*7))", run_config=config)
    assert "sunny in Oslo" in result.final_output
    assert "42" in result.final_output
    streamed = Runner.run_streamed(agent(*tools), WEATHER, run_config=config)
    assert [event async for event in streamed.stream_events()]
    assert streamed.final_output == "RESULT: sunny in Oslo"
    await provider.aclose()


async def test_everything_over_chat_completions(sdk: AsyncOpenAI) -> None:
    model = OpenAIChatCompletionsModel(model="m", openai_client=sdk)
    result = await Runner.run(agent(weather, model=model), WEATHER)
    assert result.final_output == "RESULT: sunny in Oslo"
    streamed = Runner.run_streamed(agent(weather, model=model), WEATHER)
    assert [event async for event in streamed.stream_events()]
    assert streamed.final_output == "RESULT: sunny in Oslo"
    formed = await Runner.run(agent(model=model, output_type=Person), '@@ json {"name": "Ann", "age": 3}')
    assert formed.final_output == Person(name="Ann", age=3)


async def test_traces_are_kept_beside_their_responses(traces: BatchTraceProcessor, http: httpx2.Client) -> None:
    with trace("errand", group_id="thread-7", metadata={"customer": "7"}) as made:
        result = await Runner.run(agent(weather), WEATHER)
    await asyncio.to_thread(traces.force_flush)
    (found,) = http.get("/v1/traces", params={"response_id": str(result.last_response_id)}).json()["data"]
    assert (found["id"], found["workflow_name"]) == (made.trace_id, "errand")
    assert (found["group_id"], found["metadata"]) == ("thread-7", {"customer": "7"})
    spans = http.get(f"/v1/traces/{found['id']}/spans").json()["data"]
    assert {"agent", "function", "response"} <= {span["span_data"]["type"] for span in spans}
    told = [span["response_id"] for span in spans if span["span_data"]["type"] == "response"]
    assert told == [response.response_id for response in result.raw_responses]
