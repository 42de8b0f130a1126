"""The hosted Python: one request, a real interpreter, its state, its pictures, and honest words when it is gone."""

import base64
import contextlib
import re
import threading
import time
from typing import Any

import openai
import pytest
from openai import OpenAI

from ..conftest import Launch, Server
from .oracle import stream, types

PYTHON: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
OUTPUTS: Any = ["code_interpreter_call.outputs"]


def run(client: OpenAI, *codes: str, **more: Any) -> Any:
    """A response whose model runs `codes`, each as a call of its own."""
    script = "\n".join(f"@@ python <<END\n{code}\nEND" for code in codes)
    return client.responses.create(model="m", input=script, tools=more.pop("tools", [PYTHON]), include=OUTPUTS, **more)


def calls(response: Any) -> list[Any]:
    return [item for item in response.output if item.type == "code_interpreter_call"]


def logs(call: Any) -> str:
    return "".join(output.logs for output in call.outputs if output.type == "logs")


def test_one_request_runs_python_and_ends_with_a_message(client: OpenAI) -> None:
    response = run(client, "x = 6\nprint('printed')\nx * 7")
    assert [item.type for item in response.output] == ["code_interpreter_call", "message"]
    (call,) = calls(response)
    assert call.id.startswith("ci_")
    assert call.container_id.startswith("cntr_")
    assert (call.status, call.code) == ("completed", "x = 6\nprint('printed')\nx * 7")
    assert [output.to_dict() for output in call.outputs] == [{"type": "logs", "logs": "printed\n42\n"}]
    assert "42" in response.output_text, "the model did not read what its code printed"
    assert response.tools[0].to_dict() == PYTHON, "the tool is echoed as it was asked for (recorded)"


def test_the_events_of_a_python_turn(server: Server) -> None:
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "@@ python 6 * 7", "tools": [PYTHON], "include": OUTPUTS})
    assert types(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.code_interpreter_call.in_progress",
        "response.code_interpreter_call_code.delta",
        "response.code_interpreter_call_code.done",
        "response.code_interpreter_call.interpreting",
        "response.code_interpreter_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    added, done = events[2]["item"], events[8]["item"]
    assert (added["code"], added["status"], added["outputs"]) == ("", "in_progress", [])
    assert (done["code"], done["status"], done["outputs"]) == (
        "6 * 7",
        "completed",
        [{"type": "logs", "logs": "42\n"}],
    )
    assert added["container_id"] == done["container_id"] != ""
    assert events[5]["code"] == "6 * 7"
    for event in events[3:8]:
        assert (event["output_index"], event["item_id"]) == (0, added["id"])
    deltas = [event["delta"] for event in events if event["type"].endswith("_code.delta")]
    assert "".join(deltas) == "6 * 7"


def test_outputs_are_shown_to_who_asks_for_them_and_stored_for_all(client: OpenAI, server: Server) -> None:
    bare: Any = client.responses.create(model="m", input="@@ python 40 + 2", tools=[PYTHON])
    assert calls(bare)[0].outputs is None
    assert "42" in bare.output_text
    assert calls(client.responses.retrieve(bare.id))[0].outputs is None
    shown = calls(client.responses.retrieve(bare.id, include=OUTPUTS))[0].outputs
    assert [output.to_dict() for output in shown] == [{"type": "logs", "logs": "42\n"}]
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "@@ python 1", "tools": [PYTHON]})
        assert [e["item"]["outputs"] for e in events if e.get("item", {}).get("type") == "code_interpreter_call"] == [
            None,
            None,
        ]
        assert http.get(f"/v1/responses/{bare.id}", params={"include[]": "nonsense"}).status_code == 400
    later = client.responses.create(model="m", input="@@ say on", tools=[PYTHON], previous_response_id=bare.id)
    assert later.status == "completed"


def test_state_is_kept_between_calls_and_responses(client: OpenAI) -> None:
    first = run(client, "import math\nvalues = [1, 2]", "values.append(3)\nvalues")
    assert logs(calls(first)[1]) == "[1, 2, 3]\n"
    second = run(client, "math.prod(values)", previous_response_id=first.id)
    assert logs(calls(second)[0]) == "6\n"
    assert calls(second)[0].container_id == calls(first)[0].container_id


def test_shell_and_python_share_a_container(client: OpenAI) -> None:
    script = (
        "@@ shell echo from-shell > f.txt\n@@ python open('g.txt', 'w').write(open('f.txt').read() + 'from-python')"
    )
    response: Any = client.responses.create(model="m", input=f"{script}\n@@ shell cat g.txt", tools=[SHELL, PYTHON])
    outputs = [item for item in response.output if item.type == "shell_call_output"]
    assert outputs[1].output[0].stdout == "from-shell\nfrom-python"
    assert calls(response)[0].container_id == response.tools[0].to_dict()["environment"]["container_id"]
    explicit: Any = {"type": "code_interpreter", "container": calls(response)[0].container_id}
    again = run(client, "open('g.txt').read()", tools=[explicit])
    assert "from-python" in logs(calls(again)[0])
    assert again.tools[0].to_dict() == explicit


def test_calls_of_one_turn_run_in_their_order(client: OpenAI) -> None:
    script = "@@ python <<A\nimport time; time.sleep(0.3); order = ['a']\nA\n@@& python order.append('b'); order"
    response: Any = client.responses.create(model="m", input=f"{script}\n@@ say done", tools=[PYTHON], include=OUTPUTS)
    assert logs(calls(response)[1]) == "['a', 'b']\n"
    assert response.output_text == "done"


def test_an_uncaught_error_is_a_traceback_of_the_users_own_lines(client: OpenAI) -> None:
    response = run(client, "import json\ndef load(text):\n    return json.loads(text)\nload('{')", "load('[1]')")
    first, second = calls(response)
    assert first.status == "completed"
    assert "return json.loads(text)" in logs(first)
    assert "JSONDecodeError: Expecting property name" in logs(first)
    assert "/usr/lib" not in logs(first)
    assert logs(second) == "[1]\n"


def test_an_endless_loop_is_interrupted_and_state_is_kept(launch: Launch) -> None:
    server = launch(command_timeout_seconds="1")
    response = run(server.client(), "kept = 1", "while True: pass", "kept")
    _, loop, after = calls(response)
    assert "KeyboardInterrupt" in logs(loop)
    assert "interrupted after 1 s" in logs(loop)
    assert "variables are kept" in logs(loop)
    assert logs(after) == "1\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; print('bye', flush=True); os._exit(3)", "exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
)
def test_an_interpreter_that_ends_says_that_its_state_is_lost(client: OpenAI, code: str, reason: str) -> None:
    response = run(client, "kept = 1", code, "print('kept' in globals())", "print('kept' in globals())")
    _, fatal, after, later = calls(response)
    assert reason in logs(fatal)
    assert "Variables and imports are lost; files are kept" in logs(fatal)
    assert logs(after).startswith("[a new interpreter: variables and imports of earlier calls are gone")
    assert logs(after).endswith("False\n")
    assert logs(later) == "False\n", "the renewal is told once"


def test_giant_output_keeps_its_head_and_tail(client: OpenAI) -> None:
    response = run(client, "print('begin'); print('x' * 50_000_000); print('end')")
    text = logs(calls(response)[0])
    assert text.startswith("begin\nxxx")
    assert text.endswith("xxx\nend\n")
    assert (found := re.search(r"\.\.\. (\d+) chars truncated \.\.\.", text))
    assert int(found[1]) + len(text) > 50_000_000
    assert len(text) < 20_000


def test_code_that_cannot_be_read_is_answered_and_the_model_goes_on(client: OpenAI) -> None:
    script = '@@ call code_interpreter {"code": 3}\n@@ python 1 + 1'
    response: Any = client.responses.create(model="m", input=script, tools=[PYTHON], include=OUTPUTS)
    unreadable, good = calls(response)
    assert unreadable.status == "failed"
    assert "was not run" in logs(unreadable)
    assert logs(good) == "2\n"
    assert response.status == "completed"


def test_files_that_the_text_names_are_cited_and_new_ones_too(client: OpenAI) -> None:
    code = "open('table.csv', 'w').write('a,b'); open('extra.bin', 'wb').write(b'1'); open('.hidden', 'w').write('')"
    text = "Here is [the table](sandbox:/mnt/data/table.csv)."
    response: Any = client.responses.create(model="m", input=f"@@ python {code}\n@@ say {text}", tools=[PYTHON])
    named, new = response.output[-1].content[0].annotations
    container_id = calls(response)[0].container_id
    files = {file.path: file.id for file in client.containers.files.list(container_id)}
    assert named.to_dict() == {
        "type": "container_file_citation",
        "container_id": container_id,
        "file_id": files["/mnt/data/table.csv"],
        "filename": "table.csv",
        "start_index": text.index("sandbox:"),
        "end_index": text.index(")."),
    }
    assert (new.filename, new.start_index, new.end_index) == ("extra.bin", len(text), len(text))
    content = client.containers.files.content.retrieve(named.file_id, container_id=container_id).read()
    assert content == b"a,b"
    later: Any = client.responses.create(
        model="m", input="@@ say As before: table.csv", tools=[PYTHON], previous_response_id=response.id
    )
    (again,) = later.output[-1].content[0].annotations
    assert (again.file_id, again.start_index) == (named.file_id, len("As before: "))


def test_citations_are_events_before_the_text_is_done(server: Server) -> None:
    script = "@@ shell echo 1 > made.txt\n@@ say see made.txt"
    with server.http() as http:
        events = stream(http, {"model": "m", "input": script, "tools": [SHELL]})
    told = types(events)
    at = told.index("response.output_text.annotation.added")
    assert told[at + 1] == "response.output_text.done"
    event = next(e for e in events if e["type"] == "response.output_text.annotation.added")
    assert (event["annotation_index"], event["annotation"]["filename"]) == (0, "made.txt")


def test_a_conversation_that_the_client_keeps_goes_on(client: OpenAI) -> None:
    ask: Any = {"role": "user", "content": "@@ python kept = 5\n@@ say ok"}
    first: Any = client.responses.create(model="m", input=[ask], tools=[PYTHON], store=False)
    again: Any = [ask, *[i.to_dict() for i in first.output], {"role": "user", "content": "@@ python kept + 1"}]
    second: Any = client.responses.create(model="m", input=again, tools=[PYTHON], store=False, include=OUTPUTS)
    assert logs(calls(second)[0]) == "6\n"


def test_a_client_that_goes_away_interrupts_its_code(server: Server) -> None:
    client = server.client()
    container_id = calls(run(client, "state = 'kept'"))[0].container_id
    tool: Any = {"type": "code_interpreter", "container": container_id}
    beat = "import time\nwhile True:\n    open('beat', 'a').write('.'); time.sleep(0.05)"
    with client.responses.stream(model="m", input=f"@@ python <<END\n{beat}\nEND", tools=[tool]) as events:
        for event in events:
            if event.type == "response.code_interpreter_call.interpreting":
                deadline = time.monotonic() + 60
                while not [f for f in client.containers.files.list(container_id) if f.path == "/mnt/data/beat"]:
                    assert time.monotonic() < deadline, "the code never ran: no control"
                    time.sleep(0.05)
                break
    code = "import os, time\na = os.path.getsize('beat'); time.sleep(0.5); print(a == os.path.getsize('beat'), state)"
    assert logs(calls(run(client, code, tools=[tool]))[0]) == "True kept\n"


def test_bad_containers_are_refused_by_name(client: OpenAI) -> None:
    for container, status in (("cntr_none", 404), ({"type": "auto", "memory_limit": "3g"}, 400), (None, 400)):
        tool: Any = {"type": "code_interpreter", "container": container}
        with pytest.raises(openai.APIStatusError) as caught:
            client.responses.create(model="m", input="@@ say hi", tools=[tool])
        assert caught.value.status_code == status
        assert "container" in str(caught.value.param)


def test_figures_are_pictures_without_being_asked_for(client: OpenAI) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nprint('drawn')"
    response = run(client, code, "1")
    call, after = calls(response)
    if "ModuleNotFoundError" in logs(call):
        pytest.skip("the data packages are not installed: deskhand kit install")
    assert [output.type for output in call.outputs] == ["logs", "image"]
    head, _, data = call.outputs[1].url.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG\r\n\x1a\n")
    assert [output.type for output in after.outputs] == ["logs"], "a figure is shown once"
    assert "picture" in response.output_text, "the model is told of it"


def test_code_that_a_killed_server_was_running_is_closed_as_interrupted_and_never_run_again(launch: Launch) -> None:
    first = launch()
    begun = run(first.client(), "state = 1")
    container_id = calls(begun)[0].container_id
    tool: Any = {"type": "code_interpreter", "container": container_id}
    ids: list[str] = []

    def follow() -> None:
        code = "open('runs', 'a').write('x')\nimport time; time.sleep(60)"
        with (
            contextlib.suppress(Exception),
            first.client().responses.stream(  # the server is killed: that is the test
                model="m", input=f"@@ python <<END\n{code}\nEND", tools=[tool]
            ) as events,
        ):
            for event in events:
                if event.type == "response.created":
                    ids.append(event.response.id)

    threading.Thread(target=follow, daemon=True).start()
    deadline = time.monotonic() + 60
    while not [f for f in first.client().containers.files.list(container_id) if f.path == "/mnt/data/runs"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.process.kill()
    first.process.wait()

    client = launch().client()
    killed = client.responses.retrieve(ids[0], include=OUTPUTS)
    assert killed.status == "failed"
    (call,) = calls(killed)
    assert (call.status, call.code.startswith("open(")) == ("incomplete", True)
    assert "was not run again" in logs(call)
    after = run(client, "open('runs').read()", tools=[tool], previous_response_id=ids[0])
    assert logs(calls(after)[0]) == "'x'\n"


def test_the_tool_can_be_forced_narrowed_to_and_limited(client: OpenAI) -> None:
    forced: Any = client.responses.create(
        model="m", input="@@ python 1", tools=[SHELL, PYTHON], tool_choice={"type": "code_interpreter"}
    )
    assert len(calls(forced)) == 1
    only: Any = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "shell"}]}
    narrowed: Any = client.responses.create(model="m", input="@@ python 1", tools=[SHELL, PYTHON], tool_choice=only)
    assert not calls(narrowed), "the scripted model takes the shell if it has no Python"
    assert any(item.type == "shell_call" for item in narrowed.output)
    limited: Any = client.responses.create(
        model="m", input="@@ python 1\n@@ python 2\n@@ python 3", tools=[PYTHON], max_tool_calls=1
    )
    assert (len(calls(limited)), limited.status) == (1, "completed")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="x", tools=[SHELL], tool_choice={"type": "code_interpreter"})


def test_secrets_of_the_network_policy_are_never_echoed(launch: Launch) -> None:
    server = launch(network_allowed_domains="example.com")
    policy = {
        "type": "allowlist",
        "allowed_domains": ["example.com"],
        "domain_secrets": [{"domain": "example.com", "name": "TOKEN", "value": "s3cret-value"}],
    }
    tool = {"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy}}
    with server.http() as http:
        answer = http.post(
            "/v1/responses",
            json={"model": "m", "input": "@@ python import os; os.environ.get('TOKEN')", "tools": [tool]},
        )
        stored = http.get(f"/v1/responses/{answer.json()['id']}")
    assert answer.json()["tools"][0]["container"]["network_policy"]["allowed_domains"] == ["example.com"]
    assert "TOKEN" in answer.text, "the code was not shown: no control"
    for text in (answer.text, stored.text, server.log.read_text()):
        assert "s3cret-value" not in text
