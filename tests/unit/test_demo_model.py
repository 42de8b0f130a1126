"""The demo model: honest, and able to show the whole loop."""

import json
import subprocess
from pathlib import Path

import pytest

from deskhand.models.demo import LABEL, decide
from deskhand.ports.model import (
    FunctionDeclaration,
    ModelRequest,
    NamedTool,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOutput,
)
from deskhand.testing.conformance_model import NOTE, SHELL, ask
from deskhand.testing.script import Call, Say
from deskhand.wire.parts import InputText


def converse(text: str, where: Path) -> tuple[list[str], str]:
    """The commands that a request leads to, really run, and the final text."""
    prompt: list[PromptEntry] = [PromptMessage("user", [InputText(text=text)])]
    commands: list[str] = []
    for _ in range(6):
        actions = decide(ModelRequest("demo", prompt, tools=[SHELL]))
        call = next((action for action in actions if isinstance(action, Call)), None)
        if call is None:
            [said] = actions
            assert isinstance(said, Say)
            return commands, said.text
        commands += json.loads(call.arguments)["commands"]
        done = subprocess.run(["bash", "-c", commands[-1]], cwd=where, capture_output=True, text=True, check=False)
        ending = f"\n[exit code {done.returncode}]" if done.returncode else ""
        call_id = f"call_{len(commands)}"
        prompt += [PromptCall(call_id, call.name, call.arguments), PromptOutput(call_id, done.stdout + ending)]
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("text", "files", "words"),
    [
        ("run `echo hello`", [], "hello"),
        ("Please run ls -la", [], "total"),
        ("write a python script that prints the first 5 primes", ["primes.py"], "2 3 5 7 11"),
        ("Create a Python program for the fibonacci numbers", ["fibonacci.py"], "0 1 1 2 3 5 8 13 21 34"),
        ("write a script count.py with a countdown from 3", ["count.py"], "3\n2\n1\nLift-off!"),
        ("write a python program that proves P=NP", ["script.py"], "template"),
        ("Make a csv of the squares of 1 to 20, then tell me what files are there.", ["squares.csv"], "squares.csv"),
        ("make a csv of the planets", ["planets.csv"], "Mercury,0"),
        ("make a csv of month names", ["months.csv"], "1,January"),
        ("make a csv of my friends", ["table.csv"], "placeholder 1"),
        ("Create a file notes.txt with it's me", ["notes.txt"], "it's me"),
        ("```python\nprint(6 * 7)\n```", [], "42"),
        ("run `exit 3`", [], "[exit code 3]"),
    ],
)
def test_it_does_what_it_understands(text: str, files: list[str], words: str, tmp_path: Path) -> None:
    commands, answer = converse(text, tmp_path)
    assert commands
    assert words in answer
    assert answer.endswith(LABEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert all(f"`{tmp_path / file}`" in answer for file in files)


@pytest.mark.parametrize("text", ["hello", "Who are you?", "compose a symphony", ""])
def test_it_says_what_it_is_and_what_to_try(text: str) -> None:
    [said] = decide(ask(text))
    assert isinstance(said, Say)
    assert "demo model" in said.text
    assert "shell" in said.text
    assert "uname" in said.text
    assert said.text.endswith(LABEL)


def test_without_a_shell_it_says_what_is_missing() -> None:
    [said] = decide(ask("run `ls`", tools=[NOTE]))
    assert isinstance(said, Say)
    assert "I need a tool that runs commands" in said.text


def test_it_finds_shells_by_other_names_and_parameters() -> None:
    schema = {
        "type": "object",
        "properties": {"cmd": {"type": "string"}, "cwd": {"type": "string"}},
        "required": ["cmd"],
    }
    tools = [FunctionDeclaration("get_weather", "", {}), FunctionDeclaration("exec_command", "", schema)]
    call = decide(ask("run `ls`", tools=tools))[-1]
    assert call == Call("exec_command", '{"cmd": "ls"}')


def test_a_forced_tool_is_called_with_the_least_it_takes() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}, "s": {"enum": ["a"]}}}
    tool = FunctionDeclaration("odd", "", schema)
    assert decide(ask("x", tools=[tool], tool_choice=NamedTool("odd"))) == [Call("odd", '{"n": 3, "s": "a"}')]
    assert decide(ask("x", tools=[tool], tool_choice="required")) == [Call("odd", '{"n": 3, "s": "a"}')]


def test_json_is_json() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "required": ["a"],
        "$defs": {"x": {"const": 5}},
    }
    assert decide(ask("x", text_format={"type": "json_schema", "schema": schema})) == [Say('{"a": 5}')]
    [said] = decide(ask("x", text_format={"type": "json_object"}))
    assert isinstance(said, Say)
    assert LABEL in json.loads(said.text)["answer"]


def test_a_patch_hunk_is_no_script() -> None:
    [said] = decide(ask("What does this do?\n@@ def f():\n-a\n+b"))
    assert isinstance(said, Say)
    assert "did not understand" in said.text
