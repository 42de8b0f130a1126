"""A body that does not validate is refused in OpenAI's words."""

from typing import Any

import msgspec
import pytest

from deskhand.core.errors import ApiError
from deskhand.core.validation import api_error
from deskhand.engine.items_in import check_pairs, read_input
from deskhand.engine.tools_in import normalised, read_choice, read_tools
from deskhand.wire.codec import convert, plain
from deskhand.wire.items import FunctionCall, ItemReference, Message, OpaqueItem
from deskhand.wire.parts import InputText, OutputText
from deskhand.wire.request import CreateResponse
from deskhand.wire.tools import OpaqueTool


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"surprise": 1}, "unknown_parameter", "surprise"),
        ({"model": 3}, "invalid_type", "model"),
        ({"input": 3}, "invalid_type", "input"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"temperature": 2.5}, "integer_above_max_value", "temperature"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "array_above_max_length", "metadata"),
        ({"metadata": {"k" * 65: ""}}, "string_above_max_length", "metadata"),
        ({"prompt_cache_key": "x" * 65}, "string_above_max_length", "prompt_cache_key"),
        ({"include": ["nonsense"]}, "invalid_value", "include[0]"),
        ({"truncation": "middle"}, "invalid_value", "truncation"),
        ({"text": {"format": {"type": "poem"}}}, "invalid_value", "text.format.type"),
    ],
)
def test_a_bad_field_is_named(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        convert(body, CreateResponse)
    error = api_error(raised.value)
    assert (error.status, error.code, error.param) == (400, code, param)


def test_explicit_nulls_and_what_clients_send_beyond_the_reference_are_accepted() -> None:
    fields = dict.fromkeys(CreateResponse.__struct_fields__)
    convert(fields | {"client_metadata": {"a": 1}}, CreateResponse)


def ids(prefix: str) -> str:
    return f"{prefix}_new"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", Message(id="msg_new", role="user", content=(InputText(text="hi"),))),
        ([{"role": "user", "content": "hi"}], Message(id="msg_new", role="user", content=(InputText(text="hi"),))),
        (
            [{"role": "assistant", "content": "hi", "id": None}],
            Message(id="msg_new", role="assistant", content=(OutputText(text="hi"),)),
        ),
        (
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": None, "odd": 1}],
            FunctionCall(id="fc_new", call_id="c", name="f", arguments="{}"),
        ),
        ([{"id": "msg_9"}], ItemReference(id="msg_9")),
        (
            [{"type": "image_generation_call", "id": "ig_1", "odd": [1]}],
            OpaqueItem({"type": "image_generation_call", "id": "ig_1", "odd": [1]}),
        ),
    ],
)
def test_every_spelling_of_an_item_is_read(given: Any, expected: object) -> None:
    assert read_input(given, ids) == [expected]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([{"role": "king", "content": "x"}], "input[0].role"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": "a"}, {"type": "function_call", "call_id": "c"}], "input[1].name"),
        ([{"type": 7}], "input[0].type"),
        ([{"type": "item_reference"}], "input[0].id"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].file_id"),
    ],
)
def test_a_bad_item_is_named(given: Any, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        read_input(given, ids)
    assert raised.value.param == param


def test_an_output_without_its_call_and_a_call_without_its_output_are_refused() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "7"}
    check_pairs([], read_input([call, output], ids))
    check_pairs(read_input([call], ids), read_input([output], ids))
    with pytest.raises(ApiError, match="No tool call found for function call output with call_id c"):
        check_pairs([], read_input([output], ids))
    with pytest.raises(ApiError, match="No tool output found for function call c"):
        check_pairs([], read_input([call], ids))


def test_a_call_that_only_a_compaction_holds_may_be_answered_and_need_not() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    sealed = read_input([call], ids)
    check_pairs(sealed, [], sealed)
    check_pairs(sealed, read_input([{"type": "function_call_output", "call_id": "c", "output": "7"}], ids), sealed)
    with pytest.raises(ApiError, match="No tool output found for function call d"):
        check_pairs(sealed, read_input([{**call, "call_id": "d"}], ids), sealed)


def test_a_tool_choice_must_name_a_tool_that_is_offered() -> None:
    tools = read_tools([{"type": "function", "name": "f"}, {"type": "shell"}])
    assert read_choice("required", tools) == "required"
    for choice in ({"type": "function", "name": "f"}, {"type": "shell"}):
        read_choice(choice, tools)
    for choice in ({"type": "function", "name": "g"}, {"type": "web_search"}, {"type": "custom", "name": "f"}):
        with pytest.raises(ApiError, match="not found in 'tools' parameter"):
            read_choice(choice, tools)


def test_a_bad_tool_is_named() -> None:
    with pytest.raises(ApiError) as raised:
        read_tools([{"type": "function", "name": "f"}, {"type": "function", "name": "not a name"}])
    assert raised.value.param == "tools[1].name"


def test_credentials_in_tools_of_other_kinds_are_not_echoed() -> None:
    (tool,) = read_tools([{"type": "mcp", "server_label": "x", "authorization": "s3cret", "headers": {"a": "s3cret"}}])
    assert isinstance(tool, OpaqueTool)
    assert tool.fields["authorization"] == "s3cret"
    assert "s3cret" not in str(plain(normalised(tool)))


def test_the_regular_expressions_of_all_tools_together_are_bounded() -> None:
    parameters = {"type": "object", "properties": {f"p{n}": {"type": "string", "pattern": "a"} for n in range(50)}}
    tools = [{"type": "function", "name": f"f{n}", "parameters": parameters} for n in range(9)]
    read_tools(tools[:8])
    with pytest.raises(ApiError, match="At most 400 regular expressions"):
        read_tools(tools)
