"""The Codex CLI works on real files, in each way in which it can be told of the server.

Commands and patches that the scripted model asks for are carried out by Codex itself, in a folder of the test's own.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from types import ModuleType

import pytest

from deskhand.testing import upstream_chat, upstream_responses
from deskhand.testing.script import Entry
from deskhand.testing.upstream import Faults, ScriptedUpstream, Status

from ..api.heard import listening
from ..api.mcp_servers import PNG, Running, png
from ..conftest import Server, launched
from .codex import BUILT_IN, OWN, Codex, Way
from .packages import Packages
from .tap import Tap, tapped

pytestmark = pytest.mark.timeout(600)  # the first one may install it

WORK = """@@ note starting
@@ shell echo codex-$((6*7)) | tee out.txt
@@ create hello.txt <<END
hello from a patch
END
@@ shell cat hello.txt"""
LONG = """@@ shell echo "REMEMBER(door-$((6*7)))"; seq 2500
@@ shell echo two-$((1+1)) | tee two.txt"""
FORM = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["answer", "n"],
    "additionalProperties": False,
}
EVENTS, SOCKET, MODELS = "POST /v1/responses", "GET /v1/responses", "GET /v1/models"
WAYS = [
    pytest.param(Way(), {EVENTS}, "exec_command", id="events"),
    pytest.param(Way(provider="supports_websockets = true"), {SOCKET}, "exec_command", id="websocket"),
    pytest.param(Way(model="gpt-5.5", choice=BUILT_IN), {SOCKET}, "apply_patch", id="built_in"),
    pytest.param(Way(model="gpt-5.5"), {EVENTS}, "apply_patch", id="free_text"),
    pytest.param(Way(model="gpt-5.6-sol"), {EVENTS}, "exec", id="code"),
    pytest.param(
        Way(model="scripted", provider='model_catalog_url = "{url}/models"'),
        {EVENTS, MODELS},
        "apply_patch",
        id="catalogue",
    ),
]
"""How Codex is told of the server, what it asks for then, and a tool that it offers the model then."""
UNKNOWN_MODEL = (
    "Model metadata for `m` not found. Defaulting to fallback metadata; this can degrade performance and cause issues."
)
SMALL = f"{OWN}\nmodel_auto_compact_token_limit = 5500"

Told = Callable[[Way], Codex]


@dataclass(frozen=True)
class Model:
    """The scripted model behind the server, in one of the dialects that servers of models speak."""

    upstream: ScriptedUpstream
    dialect: ModuleType

    def prompts(self) -> list[list[Entry]]:
        """What it was sent, request by request."""
        return [self.dialect.entries(seen.body) for seen in self.upstream.requests]

    def offered(self) -> set[str]:
        """The tools that it could have called last."""
        return {tool.name for tool in self.dialect.declarations(self.upstream.requests[-1].body)}


@pytest.fixture(scope="module", params=["chat", "responses"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    with listening() as upstream:
        yield Model(upstream, upstream_chat if request.param == "chat" else upstream_responses)


@pytest.fixture(scope="module")
def desk(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("codex") / "data"
    api = "chat" if model.dialect is upstream_chat else "responses"
    with launched(data, model.upstream.url, upstream_api=api) as running:
        yield running


@pytest.fixture
def tap(desk: Server) -> Iterator[Tap]:
    with tapped(desk.url) as running:
        yield running


@pytest.fixture
def codex(packages: Packages, tap: Tap, tmp_path: Path) -> Told:
    """Codex, told of the server in some way."""
    return lambda way: Codex(packages, tmp_path).told(way, f"{tap.url}/v1")


@pytest.mark.parametrize(("way", "requests", "tool"), WAYS)
def test_commands_run_and_files_are_written(
    codex: Told, tap: Tap, model: Model, way: Way, requests: set[str], tool: str
) -> None:
    agent = codex(way)
    ran = agent.run(WORK)
    assert (agent.workspace / "out.txt").read_text() == "codex-42\n"
    assert (agent.workspace / "hello.txt").read_text() == "hello from a patch\n"
    assert "codex-42" in ran.said
    assert "hello from a patch" in ran.said
    assert [item["exit_code"] for item in ran.items("command_execution")] == [0, 0]
    assert [item["changes"][0]["kind"] for item in ran.items("file_change")] == ["add"]
    assert [item["text"] for item in ran.items("agent_message")] == ["starting", ran.said]
    assert ran.events[-1]["type"] == "turn.completed"
    assert ran.events[-1]["usage"]["input_tokens"] > 0
    assert ran.complaints == ([] if tool != "exec_command" else [UNKNOWN_MODEL])
    assert tap.asked() == requests
    assert tool in model.offered()


def test_an_answer_has_the_form_that_was_asked_for_and_the_thread_goes_on(codex: Told, tmp_path: Path) -> None:
    agent = codex(Way())
    form = tmp_path / "form.json"
    form.write_text(json.dumps(FORM))
    first = agent.run("--output-schema", str(form), '@@ json {"answer": "yes", "n": 3}')
    assert json.loads(first.said) == {"answer": "yes", "n": 3}
    made_up = agent.run("--output-schema", str(form), "no script: the form alone")
    assert set(json.loads(made_up.said)) == {"answer", "n"}
    assert agent.run("resume", "--last", "@@ say resumed").said == "resumed"


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        pytest.param(Way(choice=SMALL), "CONTEXT CHECKPOINT COMPACTION", id="by_codex"),
        pytest.param(Way(choice=SMALL, name="OpenAI"), "handover summary", id="by_the_server"),
    ],
)
def test_a_thread_that_grows_too_long_is_compacted_and_goes_on(codex: Told, model: Model, way: Way, asked: str) -> None:
    agent, before = codex(way), len(model.upstream.requests)
    ran = agent.run(LONG)
    prompts = model.prompts()[before:]
    assert any(asked in prompt[-1].text for prompt in prompts), "nothing was compacted"
    assert (agent.workspace / "two.txt").read_text() == "two-2\n"
    assert len(ran.items("command_execution")) == 2, "a command was forgotten, or run again"
    assert ran.said.startswith("RESULT: ")
    assert prompts[-1][0] == prompts[0][0], "the agent's instructions are lost"
    assert "REMEMBER(door-42)" in str(prompts[-1]), "what was said before is lost"


def test_the_model_sees_pictures(codex: Told, model: Model, tmp_path: Path) -> None:
    agent = codex(Way())
    (tmp_path / "given.png").write_bytes(png())
    (agent.workspace / "found.png").write_bytes(png())
    path = json.dumps({"path": str(agent.workspace / "found.png")})
    agent.run(f"@@ call view_image {path}", "-i", str(tmp_path / "given.png"))
    assert str(model.upstream.requests[-1].body).count(f"data:image/png;base64,{PNG}") == 2


def test_tools_of_an_mcp_server_are_offered_and_called(codex: Told, model: Model, calculator_server: Running) -> None:
    server = f'[mcp_servers.calc]\nurl = "{calculator_server.url}"'
    ran = codex(Way(provider=server)).run('@@ mcp add {"a": 20, "b": 22}')
    assert "42" in ran.said
    assert [(item["server"], item["tool"], item["status"]) for item in ran.items("mcp_tool_call")] == [
        ("calc", "add", "completed")
    ]


@pytest.mark.parametrize(
    ("way", "first", "named"),
    [
        pytest.param(Way(), "", {}, id="in_a_namespace"),
        pytest.param(Way(model="gpt-5.5"), '@@ call tool_search {"query": "spawn agent"}\n', {}, id="searched_for"),
        pytest.param(Way(model="gpt-5.6-sol"), "", {"task_name": "child"}, id="told_by_messages"),
    ],
)
def test_an_agent_has_another_one_work_for_it(codex: Told, way: Way, first: str, named: dict[str, str]) -> None:
    agent = codex(way)
    task = json.dumps({**named, "message": "@@ shell echo child-$((6*7)) > child.txt\n@@ say so"})
    wait = "timeout 8 sh -c 'until [ -s child.txt ]; do sleep 0.1; done'; cat child.txt"
    assert "child-42" in agent.run(f"{first}@@ call spawn_agent {task}\n@@ shell {wait}").said


def test_an_agent_reads_what_another_one_answers(codex: Told, model: Model) -> None:
    task = json.dumps({"task_name": "child", "message": "@@ say answer-of-the-child"})
    codex(Way(model="gpt-5.6-sol")).run(f'@@ call spawn_agent {task}\n@@ call wait_agent {{"timeout_ms": 20000}}')
    told = [entry.text for prompt in model.prompts() for entry in prompt if entry.kind == "user"]
    assert any("answer-of-the-child" in text and "@@" not in text for text in told)


def test_a_busy_upstream_is_asked_again(codex: Told, model: Model) -> None:
    before = len(model.upstream.requests)
    model.upstream.faults = Faults(statuses=[Status(503)] * (before + 4))
    try:
        ran = codex(Way()).run("@@ say after all")
    finally:
        model.upstream.faults = Faults()
    assert ran.said == "after all"
    assert len(model.upstream.requests) == before + 5


@pytest.mark.skipif(which("git") is None, reason="git is not installed: reviews are not tried")
def test_a_review_reads_the_changes_and_reports(codex: Told, model: Model) -> None:
    agent = codex(Way())
    subprocess.run(["git", "init", "-q"], cwd=agent.workspace, check=True)
    (agent.workspace / "a.txt").write_text("one wrong line\n")
    finding = {
        "title": "[P1] Wrong line",
        "body": "It is wrong.",
        "confidence_score": 0.9,
        "priority": 1,
        "code_location": {
            "absolute_file_path": str(agent.workspace / "a.txt"),
            "line_range": {"start": 1, "end": 1},
        },
    }
    verdict = {
        "findings": [finding],
        "overall_correctness": "patch is incorrect",
        "overall_explanation": "One finding.",
        "overall_confidence_score": 0.9,
    }
    ran = agent.run("review", f"@@ shell cat a.txt\n@@ json {json.dumps(verdict)}")
    assert "Wrong line" in ran.said
    assert "one wrong line" in model.prompts()[-1][-1].text
