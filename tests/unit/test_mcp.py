"""The pure parts of the `mcp` tool: what a model says becomes, what it reads, and what a request may name."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.drafts import Closed, Draft, Opened, Progress, Revised
from deskhand.core.errors import ApiError
from deskhand.engine.history import prompt
from deskhand.engine.remote_tools import as_foreign, bare, newly_approved, read_remote
from deskhand.mcp_servers.sparse import Values
from deskhand.ports.model import PromptCall, PromptOpaque, PromptOutput
from deskhand.ports.tool import CallReader
from deskhand.tools.mcp import LONGEST_NAME, McpTool, prompt_output, spoken_name
from deskhand.wire.items import McpApprovalRequest, McpApprovalResponse, McpCall, McpListedTool
from deskhand.wire.parts import InputImage, InputText
from deskhand.wire.tools import OpaqueTool

DEEP = '[{"type": ' + "[" * 100_000
LISTED = McpListedTool(name="add", input_schema={"type": "object"})
REQUEST = McpApprovalRequest(id="mcpr_1", server_label="s", name="add", arguments="{}")


def reader(*, approval: bool = False) -> CallReader:
    counter = itertools.count()
    return McpTool("s", LISTED, "s__add", approval=approval).read("call_1", lambda prefix: f"{prefix}_{next(counter)}")


def said(arguments: Sequence[str], *, approval: bool = False) -> list[Draft]:
    reading = reader(approval=approval)
    drafts = [draft for piece in arguments for draft in reading.feed(piece)]
    return [*drafts, *reading.end("completed")]


@given(st.text(alphabet='{}"a1: ,é', max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_deltas_add_up_to_the_arguments(text: str, cuts: list[int]) -> None:
    whole = '{"x": "' + text.replace('"', "") + '"}'
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    drafts = said([whole[a:b] for a, b in itertools.pairwise(edges)])
    deltas = [d for d in drafts if isinstance(d, Progress | Revised) and d.type.endswith("arguments.delta")]
    assert "".join(delta.fields["delta"] for delta in deltas) == whole
    match drafts[-1]:
        case Revised(McpCall(status="in_progress", arguments=arguments)):
            assert arguments == whole
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("arguments", ["[1]", '{"a"', "nothing", '"text"', "[" * 100_000])
@pytest.mark.parametrize("approval", [True, False])
def test_arguments_that_are_no_object_are_never_sent(arguments: str, approval: bool) -> None:
    match said([arguments], approval=approval)[-1]:
        case Closed(McpCall(status="failed", error={"type": "mcp_protocol_error", "code": -32602})):
            pass
        case other:
            raise AssertionError(other)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    match said([""])[-1]:
        case Revised(McpCall(arguments="{}")):
            pass
        case other:
            raise AssertionError(other)


def test_a_call_that_needs_approval_is_asked_for() -> None:
    match said(["{}"], approval=True):
        case [Opened(McpApprovalRequest(arguments="{}") as opened), Closed(closed)]:
            assert opened == closed
        case other:
            raise AssertionError(other)


def test_a_call_that_the_model_was_cut_off_in_is_not_made() -> None:
    assert reader(approval=True).end("incomplete") == []
    reading = reader()
    reading.feed('{"a": ')
    match reading.end("incomplete")[-1]:
        case Closed(McpCall(status="incomplete")):
            pass
        case other:
            raise AssertionError(other)


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_names_fit_every_upstream_and_differ(label: str, name: str) -> None:
    spoken = spoken_name(label, name, ())
    assert len(spoken) <= LONGEST_NAME
    assert all(character.isascii() and (character.isalnum() or character in "_-") for character in spoken)
    assert spoken_name(label, name, {spoken}) != spoken or len(spoken) == LONGEST_NAME


def test_names_that_look_alike_are_told_apart() -> None:
    taken = {spoken_name("s", "a.b", ())}
    assert spoken_name("s", "a/b", taken) not in taken


def answer(*, approve: bool) -> McpApprovalResponse:
    return McpApprovalResponse(id="mcpa_1", approval_request_id="mcpr_1", approve=approve)


def test_what_was_approved_is_called_once() -> None:
    call = McpCall(id="mcp_1", server_label="s", name="add", approval_request_id="mcpr_1")
    assert newly_approved([REQUEST, answer(approve=True)]) == [REQUEST]
    assert newly_approved([REQUEST, answer(approve=True), call]) == []
    assert newly_approved([REQUEST, answer(approve=False)]) == []
    assert newly_approved([REQUEST]) == []


def test_a_model_reads_why_a_call_was_not_made() -> None:
    match prompt([REQUEST]):
        case [PromptCall(call_id="mcpr_1"), PromptOutput(call_id="mcpr_1", output=output)]:
            assert "waits for the user's approval" in str(output)
        case other:
            raise AssertionError(other)
    assert prompt([REQUEST, answer(approve=True)]) == [], "the call itself stands for it"


def test_upstreams_that_call_servers_themselves_get_items_as_they_are() -> None:
    call = McpCall(id="mcp_1", server_label="s", name="add", arguments="{}", output="3")
    match prompt([as_foreign(call), as_foreign(REQUEST)]):
        case [PromptOpaque(made), PromptOpaque(asked)]:
            assert (made.fields["type"], made.fields["output"]) == ("mcp_call", "3")
            assert asked.fields["type"] == "mcp_approval_request"
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("output", ["plain", "[1, 2]", '[{"type": "tool"}]', '[{"type": ', '[{"type": 5}]', DEEP])
def test_text_stays_text(output: str) -> None:
    call = McpCall(id="mcp_1", server_label="s", name="add", output=output)
    assert prompt_output(call).output == output


def test_pictures_are_pictures_only_if_they_can_be() -> None:
    blocks = (
        '[{"type": "image", "data": "aGk=", "mimeType": "image/png"}, {"type": "image", "data": "?", "mimeType": "x"}, '
        '{"type": "image", "data": "aGk=", "mimeType": "text/html"}]'
    )
    call = McpCall(id="mcp_1", server_label="s", name="add", output=blocks)
    match prompt_output(call).output:
        case [InputImage(image_url="data:image/png;base64,aGk="), InputText(), InputText()]:
            pass
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://mcp.example.com/secret/path?key=1", "https://mcp.example.com/"),
        ("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/"),
        ("https://[::1]:444/x", "https://[::1]:444/"),
        ("https://user:secret@host/x", ""),
        ("nonsense", ""),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, shown: str) -> None:
    assert bare(url) == shown


def server(url: str, **more: Any) -> OpaqueTool:
    fields: Mapping[str, Any] = {"type": "mcp", "server_label": "s", "server_url": url, **more}
    return OpaqueTool(fields)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://mcp.example.com/x", True),
        ("https://MCP.example.com./x", True),
        ("https://a.trusted.example/x", True),
        ("https://trusted.example/x", False),
        ("https://nottrusted.example/x", False),
        ("https://mcp.example.com.evil.example/x", False),
    ],
)
def test_hosts_that_the_operator_allows(url: str, allowed: bool) -> None:
    hosts = {"mcp.example.com", "*.trusted.example"}
    if allowed:
        assert read_remote([server(url)], hosts)
    else:
        with pytest.raises(ApiError, match="mcp_allowed_hosts"):
            read_remote([server(url)], hosts)
        assert read_remote([server(url)], ())


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\\n[{,}]:é'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"\\,'), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.integers(min_value=1, max_value=9), st.booleans())
def test_values_are_counted_however_they_come(value: Any, size: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    values = Values()
    counts = [values.add(text[at : at + size]) for at in range(0, len(text), size)]
    assert counts[-1] == marks(value)


def marks(value: Any) -> int:
    """Brackets that open, and commas."""
    match value:
        case list():
            return 1 + max(len(value) - 1, 0) + sum(map(marks, value))
        case dict():
            return 1 + max(len(value) - 1, 0) + sum(map(marks, value.values()))
        case _:
            return 0


def test_a_string_that_does_not_end_hides_nothing_behind_its_line() -> None:
    for opening in (b'"', b'"\\', b'"a\\"'):
        values = Values()
        assert values.add(opening + b"\n[[[") == 4
        apart = Values()
        assert [apart.add(opening), apart.add(b"\n"), apart.add(b"[[[")] == [0, 1, 4]


def test_a_spec_shows_no_secrets() -> None:
    (spec,) = read_remote([server("https://h/SECRET", authorization="SECRET", headers={"x": "SECRET"})], ())
    assert "SECRET" not in repr(spec)
    assert spec.server.headers == {"authorization": "Bearer SECRET", "x": "SECRET"}
