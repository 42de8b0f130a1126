"""Reading a Python call while the model types it: any split of the arguments tells the same."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.drafts import Closed, Draft, Opened, Progress, Revised
from deskhand.engine.history import prompt
from deskhand.ports.model import PromptCall, PromptOutput
from deskhand.tools.code_interpreter import MAX_CODE_CHARACTERS, CodeInterpreterTool
from deskhand.tools.commands import CommandLimits
from deskhand.wire.codec import decode_item
from deskhand.wire.items import CodeInterpreterCall, Image, Logs

TOOL = CodeInterpreterTool("cntr_1", CommandLimits())


def read(pieces: list[str], ending: Any = "completed") -> list[Draft]:
    numbers = count()
    reader = TOOL.read("call_1", lambda prefix: f"{prefix}_{next(numbers)}")
    drafts: list[Draft] = []
    for piece in pieces:
        drafts += reader.feed(piece)
    return [*drafts, *reader.end(ending)]


def typed(drafts: list[Draft]) -> str:
    return "".join(d.fields["delta"] for d in drafts if isinstance(d, Progress) and d.type.endswith(".delta"))


@given(
    st.text(alphabet='ab "\\\n\u00e9😀{}[],:', min_size=1).filter(str.strip), st.lists(st.integers(1, 9)), st.booleans()
)
def test_any_split_types_the_same_code(code: str, cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps({"code": code}, ensure_ascii=ascii_only)
    pieces = []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    drafts = read([*pieces, text])
    opened, in_progress, *_, last = drafts
    assert opened == Opened(
        CodeInterpreterCall(id="ci_0", code="", container_id="cntr_1", outputs=(), status="in_progress")
    )
    assert in_progress == Progress("ci_0", "response.code_interpreter_call.in_progress")
    assert isinstance(last, Revised)
    assert isinstance(last.item, CodeInterpreterCall)
    assert (last.item.code, last.item.status) == (code, "in_progress"), "open until it has been run"
    assert last.type == "response.code_interpreter_call_code.done"
    assert typed(drafts) == code == last.fields["code"]


def test_bare_code_is_understood() -> None:
    drafts = read(["print(", "'{}')"])
    assert typed(drafts) == "print('{}')"
    assert isinstance(drafts[-1], Revised)


@pytest.mark.parametrize(
    "arguments",
    ['{"code": 3}', '{"code": ""}', "{}", '{"code": "x"', "", '{"code": "%s"}' % ("x" * MAX_CODE_CHARACTERS + "x")],
)
def test_what_cannot_be_read_is_closed_with_the_reason(arguments: str) -> None:
    last = read([arguments])[-1]
    assert isinstance(last, Closed)
    assert isinstance(last.item, CodeInterpreterCall)
    assert last.item.status == "failed"
    assert last.item.outputs is not None
    assert "was not run" in last.item.outputs[0].logs  # type: ignore[union-attr]


def test_a_call_that_was_cut_off_is_closed_and_keeps_what_was_typed() -> None:
    last = read(['{"code": "impor'], "incomplete")[-1]
    assert isinstance(last, Closed)
    assert isinstance(last.item, CodeInterpreterCall)
    assert (last.item.status, last.item.code) == ("incomplete", "impor")


@pytest.mark.parametrize(
    ("fields", "read_as"),
    [
        ({"outputs": (Logs(logs="2\n"), Image(url="data:image/png;base64,AA"))}, "2\n[picture 2: shown to the user]"),
        ({"outputs": ()}, "(no output)"),
        ({"outputs": None}, "(ran; its output is not part of this conversation)"),
        (
            {"outputs": None, "status": "incomplete"},
            "(interrupted: this call did not finish, and its effects are unknown)",
        ),
        ({"outputs": (Logs(logs="why"),), "status": "failed"}, "why"),
    ],
)
def test_the_model_reads_a_call_and_its_outcome(fields: dict[str, Any], read_as: str) -> None:
    item = CodeInterpreterCall(id="ci_1", code="1 + 1", container_id="cntr_1", **fields)
    assert prompt([item]) == [
        PromptCall("ci_1", "code_interpreter", '{"code": "1 + 1"}'),
        PromptOutput("ci_1", read_as),
    ]


def test_a_call_is_read_as_clients_replay_it() -> None:
    replayed = {
        "type": "code_interpreter_call", "id": "ci_1", "code": None, "container_id": "c", "outputs": None,
        "status": "completed",
    }  # fmt: skip
    assert decode_item(replayed) == CodeInterpreterCall(id="ci_1", container_id="c")
