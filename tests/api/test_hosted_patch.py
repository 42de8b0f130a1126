"""Hosted `apply_patch`: edits made in the container by the server, for a request that asks for it."""

from typing import Any

from openai import OpenAI

from ..conftest import Server
from .oracle import stream, types

AUTO: Any = {"type": "container_auto"}
PATCH: Any = {"type": "apply_patch", "environment": AUTO}
SHELL: Any = {"type": "shell", "environment": AUTO}

SCRIPT = """@@ create src/a.py <<EOF
def f():
    return 1
EOF
@@ update src/a.py <<EOF
@@ def f():
-    return 1
+    return 2
EOF
@@ shell cat src/a.py; chmod +x src/a.py
@@ update /mnt/data/src/a.py <<EOF
-def f():
+def g():
EOF
@@ shell cat src/a.py; test -x src/a.py && echo executable
@@ delete src/a.py
@@ shell ls src"""


def test_edits_and_commands_share_one_container(client: OpenAI) -> None:
    response: Any = client.responses.create(model="m", input=SCRIPT, tools=[PATCH, SHELL])
    outputs = [item for item in response.output if item.type == "apply_patch_call_output"]
    assert [(item.status, item.output) for item in outputs] == [
        ("completed", "Created src/a.py."),
        ("completed", "Updated src/a.py."),
        ("completed", "Updated src/a.py."),
        ("completed", "Deleted src/a.py."),
    ]
    printed = [item.output[0].stdout for item in response.output if item.type == "shell_call_output"]
    assert printed == ["def f():\n    return 2\n", "def g():\n    return 2\nexecutable\n", ""]
    environments = {tool.to_dict()["environment"]["container_id"] for tool in response.tools}
    assert len(environments) == 1


def test_the_next_turn_finds_the_container_by_its_edits(client: OpenAI) -> None:
    first = client.responses.create(model="m", input="@@ create a.txt <<EOF\nkept\nEOF", tools=[PATCH])
    second: Any = client.responses.create(
        model="m", input="@@ shell cat a.txt", tools=[SHELL], previous_response_id=first.id
    )
    assert second.output[1].output[0].stdout == "kept\n"


def test_an_edit_that_cannot_be_made_says_why_and_the_model_goes_on(client: OpenAI) -> None:
    script = (
        "@@ update gone.txt <<EOF\n-a\n+b\nEOF\n@@ create ../../etc/x <<EOF\nx\nEOF\n"
        "@@ shell ln -s /etc/passwd link; printf 'a\\0\\377' > blob; mkfifo pipe\n"
        "@@ update link <<EOF\n-root\n+toor\nEOF\n@@ update blob <<EOF\n-a\n+b\nEOF\n@@ update pipe <<EOF\n-a\n+b\nEOF"
    )
    response: Any = client.responses.create(model="m", input=script, tools=[PATCH, SHELL])
    said = [(i.status, i.output) for i in response.output if i.type == "apply_patch_call_output"]
    assert response.status == "completed"
    assert {status for status, _ in said} == {"failed"}
    for (_, words), expected in zip(
        said, ["no file gone.txt", "not below /mnt/data", "link", "not UTF-8", "pipe"], strict=True
    ):
        assert expected in words


def test_without_an_environment_the_client_applies_it(client: OpenAI) -> None:
    script = "@@ create a.txt <<EOF\nx\nEOF"
    response: Any = client.responses.create(model="m", input=script, tools=[{"type": "apply_patch"}])
    assert [item.type for item in response.output] == ["apply_patch_call"]


def test_several_edits_of_one_turn_are_made_in_order(client: OpenAI) -> None:
    script = "@@ create a.txt <<EOF\n1\nEOF\n@@& update a.txt <<EOF\n-1\n+2\nEOF\n@@& update a.txt <<EOF\n-2\n+3\nEOF"
    response: Any = client.responses.create(model="m", input=f"{script}\n@@ shell cat a.txt", tools=[PATCH, SHELL])
    assert [i.output[0].stdout for i in response.output if i.type == "shell_call_output"] == ["3\n"]


def test_the_events_are_those_of_the_api(server: Server) -> None:
    with server.http() as http:
        body = {"model": "m", "input": "@@ create a.txt <<EOF\nx\nEOF", "tools": [PATCH]}
        assert types(stream(http, body))[2:10] == [
            "response.output_item.added",
            "response.apply_patch_call_operation_diff.delta",
            "response.apply_patch_call_operation_diff.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
        ]
