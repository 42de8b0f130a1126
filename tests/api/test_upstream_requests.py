"""What of a request reaches the model, in both dialects: read by the upstream itself."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from .heard import Heard

Json = dict[str, Any]
SHELL: Json = {"type": "shell"}
HOSTED: Json = {"type": "shell", "environment": {"type": "container_auto"}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def function(name: str, **fields: Any) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **fields}


def offered(heard: Heard, body: Mapping[str, Any]) -> list[str]:
    tools = body.get("tools") or []
    return [tool["function"]["name"] if heard.dialect == "chat" else tool["name"] for tool in tools]


def parts(heard: Heard, body: Mapping[str, Any], role: str) -> Any:
    """The content of the newest message of `role`."""
    said = body["messages"] if heard.dialect == "chat" else body["input"]
    return [entry for entry in said if entry.get("role") == role][-1]["content"]


def calls(heard: Heard, body: Mapping[str, Any]) -> list[str]:
    """The names of the calls in the prompt."""
    if heard.dialect == "chat":
        return [c["function"]["name"] for m in body["messages"] for c in m.get("tool_calls") or ()]
    return [item["name"] for item in body["input"] if item["type"] in {"function_call", "custom_tool_call"}]


def outputs(heard: Heard, body: Mapping[str, Any]) -> list[Any]:
    """The answers to calls in the prompt."""
    if heard.dialect == "chat":
        return [m["content"] for m in body["messages"] if m["role"] == "tool"]
    return [item["output"] for item in body["input"] if item["type"].endswith("_output")]


def upload(heard: Heard, name: str, content: bytes, purpose: str = "user_data") -> str:
    answer = heard.http.post("/v1/files", files={"file": (name, content)}, data={"purpose": purpose})
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("choice", "chat", "responses"),
    [
        (None, None, None),
        ("auto", None, None),
        ("none", "none", "none"),
        ("required", "required", "required"),
        (
            {"type": "function", "name": "a"},
            {"type": "function", "function": {"name": "a"}},
            {"type": "function", "name": "a"},
        ),
        (
            {"type": "custom", "name": "c"},
            {"type": "function", "function": {"name": "c"}},
            {"type": "custom", "name": "c"},
        ),
        (
            {"type": "shell"},
            {"type": "function", "function": {"name": "shell"}},
            {"type": "function", "name": "shell"},
        ),
        (
            {"type": "apply_patch"},
            {"type": "function", "function": {"name": "apply_patch"}},
            {"type": "function", "name": "apply_patch"},
        ),
    ],
)
def test_tool_choices_reach_the_model(heard: Heard, choice: Any, chat: Any, responses: Any) -> None:
    tools = [function("a"), {"type": "custom", "name": "c"}, SHELL, {"type": "apply_patch"}]
    response, (body, *_) = heard.ask(tools=tools, tool_choice=choice)
    assert body.get("tool_choice") == (chat if heard.dialect == "chat" else responses)
    assert offered(heard, body) == ["a", "c", "shell", "apply_patch"]
    assert response["tool_choice"] == (choice or "auto")


def test_allowed_tools_narrow_what_is_offered(heard: Heard) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "a"}, SHELL]}
    response, (body, *_) = heard.ask(tools=[function("a"), function("b"), SHELL], tool_choice=choice)
    assert (body["tool_choice"], offered(heard, body)) == ("required", ["a", "shell"])
    assert response["tool_choice"] == choice
    assert [tool.get("name") for tool in response["tools"]] == ["a", "b", None]


def test_tools_that_only_the_upstream_runs(heard: Heard) -> None:
    tools = [{"type": "web_search"}, {"type": "brand_new", "x": None}]
    choice = {"type": "web_search"}
    if heard.dialect == "chat":
        _, (body,) = heard.ask(tools=tools)
        assert "tools" not in body
        status, error = heard.refused(tools=tools, tool_choice=choice)
        assert (status, error["param"]) == (400, "tool_choice")
        return
    _, (body,) = heard.ask(tools=tools, tool_choice=choice)
    assert (body["tools"], body["tool_choice"]) == (tools, choice)


def test_namespaces_are_flattened_and_told_apart(heard: Heard) -> None:
    spaces = [
        {"type": "namespace", "name": name, "description": "d", "tools": [function("f"), function(f"only_{name}")]}
        for name in ("n1", "n2")
    ]
    first, (body,) = heard.ask(input="@@ call n2__f {}\n@@& call only_n1 {}\n@@ say done", tools=spaces)
    assert offered(heard, body) == ["n1__f", "only_n1", "n2__f", "only_n2"]
    assert [(c["namespace"], c["name"]) for c in first["output"]] == [("n2", "f"), ("n1", "only_n1")]
    answers = [{"type": "function_call_output", "call_id": c["call_id"], "output": "7"} for c in first["output"]]
    replayed = [{"role": "user", "content": "@@ say ok"}, *first["output"], *answers]
    for again in ({"input": answers, "previous_response_id": first["id"]}, {"input": replayed}):
        _, (body,) = heard.ask(tools=spaces, **again)
        assert calls(heard, body) == ["n2__f", "only_n1"]
    _, (body,) = heard.ask(tools=spaces[:1], tool_choice={"type": "function", "name": "f"})
    assert "f" in offered(heard, body)
    assert "f" in json.dumps(body["tool_choice"])


def test_tools_can_come_as_an_input_item(heard: Heard) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [function("extra"), HOSTED]}
    first, (body,) = heard.ask(input=[added, {"role": "user", "content": "@@ call extra {}\n@@ shell echo hi"}])
    assert offered(heard, body) == ["extra", "shell"]
    assert "additional_tools" not in json.dumps(body)
    assert (first["tools"], first["output"][0]["type"]) == ([], "function_call")
    answer = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "7"}
    # Sent again, as clients do that keep the conversation: no clash with the first.
    second, bodies = heard.ask(input=[added, answer], previous_response_id=first["id"])
    assert offered(heard, bodies[0]) == ["extra", "shell"]
    assert [item["type"] for item in second["output"]] == ["shell_call", "shell_call_output", "message"]
    status, error = heard.refused(input=[{**added, "tools": [{"name": "x"}]}, {"role": "user", "content": "x"}])
    assert (status, error["param"]) == (400, "input[0].tools[0].type")


def test_credentials_in_input_items_are_not_kept(heard: Heard) -> None:
    tools = [{"type": "web_search", "headers": {"authorization": "hush"}}]
    response, _ = heard.ask(
        input=[{"type": "additional_tools", "tools": tools}, {"role": "user", "content": "@@ say x"}]
    )
    listed = heard.http.get(f"/v1/responses/{response['id']}/input_items").text
    assert "additional_tools" in listed
    assert "hush" not in listed


def test_settings_reach_the_model(heard: Heard) -> None:
    response, (body,) = heard.ask(
        instructions="Be brief.",
        tools=[function("a", strict=False)],
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=20,
        reasoning={"effort": "high", "summary": "auto", "context": "all_turns"},
        text={"verbosity": "low"},
        truncation="auto",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        prompt_cache_key="k",
        user="u",
        metadata={"a": "b"},
        service_tier="flex",
    )
    common = {"parallel_tool_calls": False, "temperature": 0.5, "top_p": 0.25, "top_logprobs": 2, "user": "u"}
    assert {name: body[name] for name in common} == common
    assert body["prompt_cache_key"] == "k"
    if heard.dialect == "chat":
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["max_tokens"], body["reasoning_effort"], body["verbosity"]) == (20, "high", "low")
        assert body["logprobs"] is True
    else:
        assert (body["instructions"], body["max_output_tokens"]) == ("Be brief.", 20)
        assert body["reasoning"] == {"effort": "high", "summary": "auto", "context": "all_turns"}
        assert (body["text"], body["truncation"], body["store"]) == ({"verbosity": "low"}, "auto", False)
        assert "message.output_text.logprobs" in body["include"]
    assert response["reasoning"] == {"effort": "high", "summary": "auto", "context": "all_turns"}
    assert (response["metadata"], response["truncation"], response["service_tier"]) == ({"a": "b"}, "auto", "default")


def test_a_schema_reaches_the_model(heard: Heard) -> None:
    schema: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "name": "one", "schema": schema, "strict": True}
    response, (body,) = heard.ask(input='@@ json {"n": 1}', text={"format": form})
    said = body["response_format"]["json_schema"] if heard.dialect == "chat" else body["text"]["format"]
    assert (said["name"], said["schema"], said["strict"]) == ("one", schema, True)
    assert response["text"]["format"] == {**form, "description": None}


def test_images_and_files_of_messages(heard: Heard) -> None:
    image, text = upload(heard, "p.png", b"\x89PNG", "vision"), upload(heard, "t.txt", b"hello file")
    content = [
        {"type": "input_text", "text": "@@ say ok"},
        {"type": "input_image", "image_url": "https://x/y.png", "file_id": None, "detail": None},
        {"type": "input_image", "image_url": PNG, "detail": "high"},
        {"type": "input_image", "file_id": image},
        {"type": "input_file", "file_id": text},
        {"type": "input_file", "filename": "d.pdf", "file_data": "data:application/pdf;base64,aGk="},
    ]
    response, (body,) = heard.ask(input=[{"role": "user", "content": content}])
    said = parts(heard, body, "user")
    stored = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    if heard.dialect == "chat":
        urls = [part["image_url"] for part in said if part["type"] == "image_url"]
        assert urls == [{"url": "https://x/y.png"}, {"url": PNG, "detail": "high"}, {"url": stored}]
        assert "hello file" in said[4]["text"]
    else:
        assert [part.get("image_url") for part in said[1:4]] == ["https://x/y.png", PNG, stored]
        assert said[4] == {
            "type": "input_file",
            "filename": "t.txt",
            "file_data": "data:text/plain;base64," + base64.b64encode(b"hello file").decode(),
        }
    assert said[5] == (
        {"type": "text", "text": "[file: d.pdf]\nhi\n[end of file: d.pdf]"}
        if heard.dialect == "chat"
        else {"type": "input_file", "filename": "d.pdf", "file_data": "data:application/pdf;base64,aGk="}
    )
    (item,) = heard.http.get(f"/v1/responses/{response['id']}/input_items").json()["data"]
    assert item["content"][3]["file_id"] == image


def test_files_of_messages_go_into_the_container_if_there_is_one(heard: Heard) -> None:
    text = upload(heard, "t.txt", b"hello file")
    inline = {"type": "input_file", "filename": "d.bin", "file_data": "data:;base64,AAEC"}
    script = {"type": "input_text", "text": "@@ shell cat t.txt; od -An -tx1 d.bin"}
    content = [script, {"type": "input_file", "file_id": text}, inline]
    response, (body, *_) = heard.ask(input=[{"role": "user", "content": content}], tools=[HOSTED])
    assert response["output"][1]["output"][0]["stdout"] == "hello file 00 01 02\n"
    assert "/mnt/data/t.txt" in json.dumps(parts(heard, body, "user"))


def test_a_file_of_an_earlier_turn_is_in_a_container_that_comes_later(heard: Heard) -> None:
    text = {"type": "input_file", "file_id": upload(heard, "t.txt", b"hello file")}
    asked = {"role": "user", "content": [{"type": "input_text", "text": "@@ say later"}, text]}
    look = {"role": "user", "content": "@@ shell ls; cat t.txt\n@@ say ok"}
    first, _ = heard.ask(input=[asked])
    second, _ = heard.ask(input=[look], previous_response_id=first["id"], tools=[HOSTED])
    third, _ = heard.ask(input=[look], previous_response_id=second["id"], tools=[HOSTED])
    kept, _ = heard.ask(input=[asked, look], tools=[HOSTED], store=False)
    replay, _ = heard.ask(input=[asked, look, *kept["output"], look], tools=[HOSTED], store=False)
    for response in (second, third, kept, replay):
        assert response["output"][1]["output"][0]["stdout"] == "t.txt\nhello file"


def test_a_file_that_is_deleted_does_not_end_the_conversation(heard: Heard) -> None:
    image = upload(heard, "p.png", b"\x89PNG", "vision")
    content = [{"type": "input_text", "text": "@@ say ok"}, {"type": "input_image", "file_id": image}]
    first, _ = heard.ask(input=[{"role": "user", "content": content}])
    heard.http.delete(f"/v1/files/{image}")
    second, (body,) = heard.ask(previous_response_id=first["id"])
    assert second["status"] == "completed"
    assert "no longer there" in json.dumps(body)
    status, error = heard.refused(input=[{"role": "user", "content": content}])
    assert (status, error["param"]) == (404, "input[0].content[1].file_id")


def test_images_and_files_of_tool_outputs(heard: Heard) -> None:
    image, text = upload(heard, "p.png", b"\x89PNG", "vision"), upload(heard, "t.txt", b"hello file")
    output = [{"type": "input_text", "text": "T"}, {"type": "input_image", "file_id": image}]
    output.append({"type": "input_file", "file_id": text})
    for kind, said in (("function_call", {"arguments": "{}"}), ("custom_tool_call", {"input": "x"})):
        call = {"type": kind, "call_id": "c", "name": "a", **said}
        answer = {"type": f"{kind}_output", "call_id": "c", "output": output}
        _, (body,) = heard.ask(input=[{"role": "user", "content": "look"}, call, answer])
        told = json.dumps(body)
        assert base64.b64encode(b"\x89PNG").decode() in told
        assert ("hello file" if heard.dialect == "chat" else base64.b64encode(b"hello file").decode()) in told
        assert "file-" not in told


def test_calls_that_clients_answer_are_replayed(heard: Heard) -> None:
    exit_0 = {"type": "exit", "exit_code": 0, "x": None}
    conversation = [
        {"role": "user", "content": "@@ say ok"},
        {
            "type": "shell_call",
            "call_id": "c1",
            "id": None,
            "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None},
            "environment": {"type": "local", "skills": None},
            "caller": None,
        },
        {
            "type": "shell_call_output",
            "call_id": "c1",
            "caller": {"type": "direct"},
            "output": [{"stdout": "f", "stderr": "", "outcome": exit_0}],
        },
        {"type": "apply_patch_call", "call_id": "c2", "operation": {"type": "delete_file", "path": "x"}},
        {"type": "apply_patch_call_output", "call_id": "c2", "status": "failed", "output": None},
        {
            "type": "local_shell_call",
            "id": "lsh_1",
            "call_id": "c3",
            "action": {"type": "exec", "command": ["id"], "env": None, "timeout_ms": None},
        },
        {"type": "local_shell_call_output", "id": "lsh_1", "output": "root"},
        {"type": "function_call", "call_id": "c4", "name": "a", "arguments": "{}"},
        {"type": "function_call_output", "name": "a", "output": "by name"},
    ]
    response, (body,) = heard.ask(input=conversation)
    assert calls(heard, body) == ["shell", "apply_patch", "local_shell", "a"]
    assert outputs(heard, body) == ["f", "[failed]", "root", "by name"]
    listed = heard.http.get(f"/v1/responses/{response['id']}/input_items?order=asc&limit=3").json()["data"]
    assert listed[2]["caller"] == {"type": "direct"}


def test_unknown_items_are_passed_on_or_left_out(heard: Heard) -> None:
    known = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": None},
    }
    items = [known, {"type": "brand_new", "x": None}, {"role": "user", "content": "@@ say ok"}]
    response, (body,) = heard.ask(input=items)
    if heard.dialect == "responses":
        assert body["input"][:2] == [known, {"type": "brand_new", "x": None}]
    else:
        assert len(body["messages"]) == 1
    listed = heard.http.get(f"/v1/responses/{response['id']}/input_items?order=asc").json()["data"]
    assert listed[0] == known
    assert all(item["id"] for item in listed)
    assert listed[1]["x"] is None


def test_reasoning_can_be_carried_by_the_client(heard: Heard) -> None:
    asked = {"store": False, "include": ["reasoning.encrypted_content"], "tools": [function("a")]}
    script = {"role": "user", "content": "@@ think hmm\n@@ call a {}\n@@ say done"}
    first, _ = heard.ask(input=[script], **asked)
    reasoning, call = first["output"]
    bare = {"type": "reasoning", "summary": [], "encrypted_content": reasoning["encrypted_content"]}
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "7"}
    _, (body,) = heard.ask(input=[script, bare, call, answer], **asked)
    if heard.dialect == "chat":
        (said,) = [message for message in body["messages"] if message["role"] == "assistant"]
        assert "hmm" in said.values()
    else:
        assert body["input"][1]["encrypted_content"] == reasoning["encrypted_content"] == "sealed:hmm"


def test_what_is_in_the_chain_is_not_said_twice(heard: Heard) -> None:
    first, _ = heard.ask(input="@@ shell echo 1\n@@ say one", tools=[HOSTED])
    named = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    ask = {"role": "user", "content": "@@ say two"}
    _, (chained,) = heard.ask(input=[*named, ask], previous_response_id=first["id"])
    assert calls(heard, chained) == ["shell"]
    second, (fresh,) = heard.ask(input=[{"role": "user", "content": "x"}, *named, ask])
    assert (calls(heard, fresh), outputs(heard, fresh)) == (["shell"], ["1\n"])
    _, (other,) = heard.ask(input=[{"id": first["output"][-1]["id"]}, ask], previous_response_id=second["id"])
    assert json.dumps(other).count("one") == json.dumps(fresh).count("one") == 1


def test_local_skills_are_told_to_the_model(heard: Heard) -> None:
    skills = [{"name": "csv", "description": "Tables", "path": "/s/csv"}]
    tool = {"type": "shell", "environment": {"type": "local", "skills": skills}}
    response, (body,) = heard.ask(input="@@ shell ls", tools=[tool])
    assert "- csv: Tables (/s/csv)" in json.dumps(body["tools"])
    assert response["output"][0]["environment"] == {"type": "local"}
    assert response["tools"] == [tool]
