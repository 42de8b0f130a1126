"""The hosted shell: one request, a real container, real output, real files."""

import re
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from ..conftest import Server
from .oracle import stream, types

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


def reference(container_id: str) -> Any:
    return {"type": "shell", "environment": {"type": "container_reference", "container_id": container_id}}


def test_one_request_runs_commands_and_ends_with_a_message(client: OpenAI) -> None:
    script = "@@ shell echo $((6*7)) > n.txt; cat n.txt; echo err >&2; exit 3\n@@ shell cat n.txt"
    response: Any = client.responses.create(model="m", input=script, tools=[SHELL])
    assert [item.type for item in response.output] == [
        "shell_call",
        "shell_call_output",
        "shell_call",
        "shell_call_output",
        "message",
    ]
    call, output, second, again, _ = response.output
    assert call.type == "shell_call"
    assert output.type == "shell_call_output"
    assert (output.call_id, output.status) == (call.call_id, "completed")
    assert output.output[0].stdout == "42\n"
    assert output.output[0].stderr == "err\n"
    assert output.output[0].outcome.to_dict() == {"type": "exit", "exit_code": 3}
    assert again.output[0].stdout == "42\n"
    assert "42" in response.output_text
    environment = call.environment.to_dict()
    assert environment["type"] == "container_reference"
    assert second.environment.to_dict() == environment
    assert response.tools[0].to_dict()["environment"] == environment
    container_id = str(environment["container_id"])
    (file,) = client.containers.files.list(container_id)
    assert (file.path, file.source, file.bytes) == ("/mnt/data/n.txt", "assistant", 3)
    assert client.containers.files.content.retrieve(file.id, container_id=container_id).read() == b"42\n"


def test_the_events_of_a_hosted_shell_turn(server: Server) -> None:
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "@@ shell printf abc", "tools": [SHELL]})
    assert types(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.shell_call_command.added",
        "response.shell_call_command.delta",
        "response.shell_call_command.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.shell_call_output_content.delta",
        "response.shell_call_output_content.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    created = events[0]["response"]["tools"][0]["environment"]
    assert created["type"] == "container_reference"
    call = events[2]["item"]
    assert (call["action"]["commands"], call["status"], call["environment"]) == ([], "in_progress", created)
    assert "item_id" not in events[3]
    opened = next(e["item"] for e in events if e["type"].endswith("item.added") and "output" in e["item"])
    assert (opened["status"], opened["output"]) == ("completed", [])
    deltas = [e for e in events if e["type"] == "response.shell_call_output_content.delta"]
    assert "".join(e["delta"]["stdout"] for e in deltas) == "abc"


def test_commands_of_one_call_run_at_the_same_time_in_sessions_of_their_own(client: OpenAI) -> None:
    arguments = '{"commands": ["sleep 2; echo a; cd /tmp; export X=1", "sleep 2; pwd; echo [$X]", "sleep 2; exit 5"]}'
    began = time.monotonic()
    response = client.responses.create(model="m", input=f"@@ call shell {arguments}", tools=[SHELL])
    took = time.monotonic() - began
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert [entry.stdout for entry in output.output] == ["a\n", "/mnt/data\n[]\n", ""]
    assert output.output[2].outcome.to_dict() == {"type": "exit", "exit_code": 5}
    assert took < 4.5, "three sleeps of 2 s were not concurrent"


def test_commands_run_in_order_when_parallel_tool_calls_is_false(client: OpenAI) -> None:
    arguments = '{"commands": ["sleep 0.3; echo one > f", "cat f"]}'
    response = client.responses.create(
        model="m", input=f"@@ call shell {arguments}", tools=[SHELL], parallel_tool_calls=False
    )
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert output.output[1].stdout == "one\n"


def test_output_arrives_while_the_command_runs(server: Server) -> None:
    arrived: dict[str, float] = {}
    with server.client().responses.stream(model="m", input="@@ shell echo a; sleep 2; echo b", tools=[SHELL]) as events:
        for event in events:
            if event.type == "response.shell_call_output_content.delta":
                arrived[(event.delta.stdout or "").strip()] = time.monotonic()
    assert arrived["b"] - arrived["a"] > 1.5


def test_long_output_keeps_its_head_and_tail_and_states_what_was_removed(client: OpenAI) -> None:
    arguments = '{"commands": ["seq 1 200000"], "max_output_length": 1000}'
    response = client.responses.create(model="m", input=f"@@ call shell {arguments}", tools=[SHELL])
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert output.max_output_length == 1000
    text = output.output[0].stdout
    found = re.fullmatch(r"(1\n2\n.*)\n\.\.\. (\d+) chars truncated \.\.\.\n(.*199999\n200000\n)", text, re.DOTALL)
    assert found
    whole = sum(len(f"{n}\n") for n in range(1, 200_001))
    assert len(found[1]) + len(found[3]) == 1000
    assert int(found[2]) == whole - 1000


def test_a_deadline_keeps_what_was_printed_and_ends_every_process(client: OpenAI) -> None:
    command = "echo early; (setsid sh -c 'while :; do date > beat; sleep 0.1; done' &) ; sleep 60"
    arguments = f'{{"commands": ["{command}"], "timeout_ms": 1000}}'
    response = client.responses.create(
        model="m",
        tools=[SHELL],
        input=f"@@ call shell {arguments}\n@@ shell sleep 0.5; a=$(stat -c %Y.%y beat); sleep 1; "
        'b=$(stat -c %Y.%y beat); [ "$a" = "$b" ] && echo dead || echo alive',
    )
    first, second = [item for item in response.output if item.type == "shell_call_output"]
    assert first.output[0].outcome.type == "timeout"
    assert first.output[0].stdout == "early\n"
    assert second.output[0].stdout == "dead\n"


def test_a_background_process_outlives_its_call_and_does_not_hold_it(client: OpenAI) -> None:
    began = time.monotonic()
    first = client.responses.create(
        model="m", tools=[SHELL], input="@@ shell (while :; do date > beat; sleep 0.1; done) & echo started"
    )
    assert time.monotonic() - began < 10
    second = client.responses.create(
        model="m",
        tools=[SHELL],
        previous_response_id=first.id,
        input='@@ shell a=$(cat beat); sleep 1.2; b=$(cat beat); [ "$a" = "$b" ] && echo dead || echo alive',
    )
    output = next(item for item in second.output if item.type == "shell_call_output")
    assert output.output[0].stdout == "alive\n"


def test_a_conversation_keeps_its_container(client: OpenAI) -> None:
    first = client.responses.create(model="m", input="@@ shell echo kept > f", tools=[SHELL])
    second = client.responses.create(model="m", input="@@ shell cat f", tools=[SHELL], previous_response_id=first.id)
    assert "kept" in second.output_text
    assert first.output[0].environment == second.output[0].environment  # type: ignore[union-attr]


def test_after_a_function_call_the_loop_goes_on_in_the_same_container(client: OpenAI) -> None:
    function: Any = {"type": "function", "name": "ask", "parameters": {"type": "object", "properties": {}}}
    script = "@@ shell echo kept > f\n@@ call ask {}\n@@ shell cat f"
    first = client.responses.create(model="m", input=script, tools=[SHELL, function])
    call = first.output[-1]
    assert call.type == "function_call"
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "yes"}
    second = client.responses.create(model="m", previous_response_id=first.id, input=[answer], tools=[SHELL, function])
    assert "kept" in second.output_text


def test_no_container_is_made_when_the_model_never_uses_it(server: Server) -> None:
    client = server.client()
    before = {container.id for container in client.containers.list(limit=100)}
    response = client.responses.create(model="m", input="@@ say no tools needed", tools=[SHELL])
    assert {container.id for container in client.containers.list(limit=100)} == before
    container_id = str(response.tools[0].to_dict()["environment"]["container_id"])  # type: ignore[index]
    later = client.responses.create(model="m", input="@@ shell echo now", tools=[reference(container_id)])
    assert "now" in later.output_text
    assert container_id in {container.id for container in client.containers.list(limit=100)}


def test_max_tool_calls_ends_the_calls_and_not_the_answer(client: OpenAI) -> None:
    script = "@@ shell echo one\n@@ shell echo two\n@@ shell echo three"
    response = client.responses.create(model="m", input=script, tools=[SHELL], max_tool_calls=1)
    assert [item.type for item in response.output][:2] == ["shell_call", "shell_call_output"]
    assert sum(item.type == "shell_call" for item in response.output) == 1
    assert response.status == "completed"


def test_files_of_the_request_lie_in_the_container_under_their_own_names(client: OpenAI) -> None:
    upload = client.files.create(file=("données 1.csv", b"a,b\n1,2\n"), purpose="user_data")
    shell: Any = {"type": "shell", "environment": {"type": "container_auto", "file_ids": [upload.id]}}
    given: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "@@ shell cat 'données 1.csv' note.txt; ls"},
                {"type": "input_file", "filename": "note.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
            ],
        }
    ]
    response = client.responses.create(model="m", input=given, tools=[shell])
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert output.output[0].stdout == "a,b\n1,2\nhellodonnées 1.csv\nnote.txt\n"


def test_an_unreadable_call_is_answered_and_the_model_goes_on(client: OpenAI) -> None:
    response = client.responses.create(model="m", input='@@ call shell {"commands": []}', tools=[SHELL])
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert "not run" in output.output[0].stderr
    assert response.status == "completed"


def test_a_client_that_goes_away_ends_its_commands(server: Server) -> None:
    client = server.client()
    first = client.responses.create(model="m", input="@@ shell true", tools=[SHELL])
    container_id = str(first.output[0].environment.container_id)  # type: ignore[union-attr]
    tool = reference(container_id)
    beat = "@@ shell while :; do date +%s%N > beat; sleep 0.1; done"
    stop = threading.Event()
    with client.responses.stream(model="m", input=beat, tools=[tool]) as events:
        for event in events:
            if event.type == "response.output_item.added" and event.item.type == "shell_call_output":
                time.sleep(1)
                stop.set()
                break
    assert stop.is_set()
    probe = '@@ shell sleep 1; a=$(cat beat); sleep 1; b=$(cat beat); [ -n "$a" ] && [ "$a" = "$b" ] && echo dead'
    after = client.responses.create(model="m", input=probe, tools=[tool])
    output = next(item for item in after.output if item.type == "shell_call_output")
    assert output.output[0].stdout == "dead\n"


def test_a_dead_container_is_a_typed_error_and_history_that_names_it_is_not(client: OpenAI) -> None:
    first = client.responses.create(model="m", input="@@ shell echo kept > f", tools=[SHELL])
    container_id = str(first.output[0].environment.container_id)  # type: ignore[union-attr]
    client.containers.delete(container_id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="m", input="@@ shell ls", tools=[reference(container_id)])
    replayed: Any = [
        {"role": "user", "content": "before"},
        *[item.to_dict() for item in first.output],
        {"role": "user", "content": "@@ shell echo fresh; ls"},
    ]
    assert "fresh" in client.responses.create(model="m", input=replayed, tools=[SHELL]).output_text
    chained = client.responses.create(
        model="m", input="@@ shell echo fresh; ls", tools=[SHELL], previous_response_id=first.id
    )
    output = next(item for item in chained.output if item.type == "shell_call_output")
    assert output.output[0].stdout == "fresh\n"


def test_five_gigabytes_of_output_leave_the_servers_memory_flat(server: Server) -> None:
    def peak() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]

    client = server.client()
    client.responses.create(model="m", input="@@ shell true", tools=[SHELL])
    before = peak()
    arguments = '{"commands": ["yes | head -c 5G; echo; echo end"], "max_output_length": 1000}'
    response = client.responses.create(model="m", input=f"@@ call shell {arguments}", tools=[SHELL])
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert output.output[0].stdout.startswith("y\ny\n")
    assert output.output[0].stdout.endswith("y\n\nend\n")
    assert f"... {5 * 2**30 + 5 - 1000} chars truncated ..." in output.output[0].stdout
    assert peak() - before < 32 << 10, "kB"


def test_a_conversation_that_the_client_keeps_keeps_its_container(client: OpenAI) -> None:
    ask: Any = {"role": "user", "content": "@@ shell echo here > f\n@@ say ok"}
    first = client.responses.create(model="m", input=[ask], tools=[SHELL], store=False)
    again: Any = [ask, *[item.to_dict() for item in first.output], {"role": "user", "content": "@@ shell cat f"}]
    second: Any = client.responses.create(model="m", input=again, tools=[SHELL], store=False)
    assert second.output[1].output[0].stdout == "here\n"
    assert second.output[0].environment == first.output[0].environment  # type: ignore[union-attr]
