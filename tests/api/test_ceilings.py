"""The operator's ceilings end a run honestly, with no `max_tool_calls` asked for."""

import json
import time
from typing import Any

from ..conftest import Launch

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
THREE_TURNS = "@@ shell echo one\n@@ shell echo two\n@@ shell echo three"


def test_the_ceiling_of_model_calls_leaves_the_work_so_far(launch: Launch) -> None:
    client = launch(max_turns="2").client()
    response = client.responses.create(model="m", input=THREE_TURNS, tools=[SHELL])
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_messages"
    outputs = [item.output[0].stdout for item in response.output if item.type == "shell_call_output"]
    assert outputs == ["one\n", "two\n"]
    after = client.responses.create(model="m", input="@@ say on we go", previous_response_id=response.id)
    assert after.output_text == "on we go"


def test_the_ceiling_of_tokens_ends_a_run(launch: Launch) -> None:
    response = launch(max_run_tokens="1").client().responses.create(model="m", input=THREE_TURNS, tools=[SHELL])
    assert response.status == "incomplete"
    assert sum(item.type == "shell_call" for item in response.output) == 1


def test_the_ceiling_of_time_ends_the_command_as_well(launch: Launch) -> None:
    client = launch(max_run_seconds="1.5").client()
    began = time.monotonic()
    response: Any = client.responses.create(
        model="m", input="@@ shell echo begun; while :; do date +%s%N > beat; sleep 0.1; done", tools=[SHELL]
    )
    assert time.monotonic() - began < 20
    assert response.status == "failed"
    assert "max_run_seconds" in response.error.message
    tool: Any = {"type": "shell", "environment": response.output[0].environment.to_dict()}
    probe = client.responses.create(
        model="m", input="@@ shell a=$(cat beat); sleep 0.5; [ $a = $(cat beat) ]", tools=[tool]
    )
    output = next(item for item in probe.output if item.type == "shell_call_output")
    assert output.output[0].outcome.to_dict() == {"type": "exit", "exit_code": 0}


def test_the_operators_bounds_of_a_command_hold_whatever_the_model_asks(launch: Launch) -> None:
    client = launch(command_max_timeout_seconds="1", command_max_output_characters="100").client()
    script = (
        '@@ call shell {"commands": ["echo a; sleep 30", "seq 1000"], "timeout_ms": 60000, "max_output_length": 9999}'
    )
    response = client.responses.create(model="m", input=script, tools=[SHELL])
    output = next(item for item in response.output if item.type == "shell_call_output")
    assert output.output[0].outcome.type == "timeout"
    assert output.output[0].stdout == "a\n"
    assert "chars truncated" in output.output[1].stdout
    assert len(output.output[1].stdout) < 150


def test_the_commands_of_a_call_share_the_largest_cap(launch: Launch) -> None:
    """Sixty-four times a million characters would be the server's memory, and nobody reads them."""
    client = launch(command_output_characters="1000", command_max_output_characters="8000").client()

    def kept(count: int) -> set[int]:
        call = json.dumps({"commands": ["seq 9999"] * count, "max_output_length": 9999})
        response = client.responses.create(model="m", input=f"@@ call shell {call}", tools=[SHELL])
        output = next(item for item in response.output if item.type == "shell_call_output")
        return {len(entry.stdout) // 500 for entry in output.output}

    assert [kept(count) for count in (1, 4, 8, 64)] == [{16}, {4}, {2}, {2}]
