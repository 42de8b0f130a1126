"""The `llm` command works with nothing but a base URL: over Responses and over chat completions."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..api.mcp_servers import PNG
from ..conftest import KEY, Server

Llm = Callable[..., str]

WEATHER = '@@ call weather {"city": "Oslo"}'
FUNCTION = "def weather(city: str) -> str:\n    return f'sunny in {city}'"


@pytest.fixture(params=["--responses", None], ids=["responses", "chat"])
def llm(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Llm:
    """What the command prints. It remembers nothing: its folder is the test's own."""
    chosen = [request.param] if request.param else []

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", "openai", "endpoint", f"{server.url}/v1", "--key", KEY, *arguments]
        ran = subprocess.run(
            [*command, *chosen],
            env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()

    return run


def test_models_are_listed(llm: Llm) -> None:
    assert "scripted" in llm("--models").splitlines()


@pytest.mark.parametrize("streamed", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_an_answer(llm: Llm, streamed: list[str]) -> None:
    assert llm("@@ say one two three", "-m", "m", "-s", "Be brief.", *streamed) == "one two three"


def test_a_function_is_called(llm: Llm) -> None:
    assert llm(WEATHER, "-m", "m", "--functions", FUNCTION) == "RESULT: sunny in Oslo"


def test_an_answer_in_a_form(llm: Llm) -> None:
    answer = llm('@@ json {"name": "Ann", "age": 3}', "-m", "m", "--schema", "name, age int")
    assert json.loads(answer) == {"name": "Ann", "age": 3}


def test_a_picture_is_taken(llm: Llm, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(base64.b64decode(PNG))
    assert llm("@@ say seen", "-m", "m", "-a", str(picture)) == "seen"
