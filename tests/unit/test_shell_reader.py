"""Reading a shell call while the model types it: any split of the arguments tells the same."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.drafts import Closed, Draft, Opened, Progress
from deskhand.tools.commands import CommandLimits
from deskhand.tools.shell import MAX_COMMANDS, HostedShellTool, ShellTool
from deskhand.wire.items import ContainerReference, ShellAction, ShellCall, ShellCallOutput


def read(pieces: list[str], ending: Any = "completed") -> list[Draft]:
    numbers = count()
    tool = HostedShellTool("cntr_1", CommandLimits())
    reader = tool.read("call_1", lambda prefix: f"{prefix}_{next(numbers)}")
    drafts: list[Draft] = []
    for piece in pieces:
        drafts += reader.feed(piece)
    return [*drafts, *reader.end(ending)]


def typed(drafts: list[Draft]) -> dict[int, str]:
    text: dict[int, str] = {}
    for draft in drafts:
        if isinstance(draft, Progress) and draft.type.endswith(".delta"):
            text[draft.fields["command_index"]] = text.get(draft.fields["command_index"], "") + draft.fields["delta"]
    return text


COMMANDS = st.lists(st.text(alphabet='ab "\\\n\u00e9😀{}[],:', max_size=30), min_size=1, max_size=4)


@given(COMMANDS, st.lists(st.integers(1, 9), max_size=60))
def test_any_split_types_the_same_commands(commands: list[str], cuts: list[int]) -> None:
    text = json.dumps({"commands": commands, "timeout_ms": None}, ensure_ascii=len(cuts) % 2 == 0)
    pieces = []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    drafts = read([*pieces, text])
    assert isinstance(drafts[0], Opened)
    assert drafts[0].item == ShellCall(
        id="sh_0",
        call_id="call_1",
        action=ShellAction(commands=()),
        environment=ContainerReference(container_id="cntr_1"),
        status="in_progress",
    )
    closed = drafts[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.item, ShellCall)
    assert list(closed.item.action.commands) == commands
    assert closed.item.status == "completed"
    assert typed(drafts) == {i: c for i, c in enumerate(commands) if c}
    for name in ("added", "done"):
        told = [d.fields["command_index"] for d in drafts if isinstance(d, Progress) and d.type.endswith(name)]
        assert told == list(range(len(commands)))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ('{"commands": "', "unreadable"),
        ("[1]", "JSON object"),
        ("{}", "commands"),
        ('{"commands": []}', "commands"),
        ('{"commands": [1]}', "commands"),
        ('{"commands": ["a"], "timeout_ms": "soon"}', "timeout_ms"),
        ('{"commands": ["a"], "max_output_length": -1}', "max_output_length"),
        ('{"commands": ["a"], "timeout_ms": 1e999}', "at most"),
        ('{"commands": ["a"], "timeout_ms": NaN}', "timeout_ms"),
        (f'{{"commands": ["a"], "max_output_length": {"9" * 400}}}', "at most"),
        ('{"commands": ["a\\u0000b"]}', "NUL"),
        (json.dumps({"commands": ["a"] * (MAX_COMMANDS + 1)}), "at most"),
    ],
)
def test_an_unreadable_call_is_answered_not_raised(arguments: str, complaint: str) -> None:
    call, output = [draft for draft in read([arguments]) if isinstance(draft, Closed)]
    assert isinstance(call.item, ShellCall)
    assert isinstance(output.item, ShellCallOutput)
    assert output.item.call_id == call.item.call_id
    assert complaint in output.item.output[0].stderr


def test_a_call_that_was_cut_off_is_closed_as_incomplete_and_not_answered() -> None:
    closed = [draft for draft in read(['{"commands": ["ls -'], "incomplete") if isinstance(draft, Closed)]
    assert [draft.item.status for draft in closed] == ["incomplete"]  # type: ignore[union-attr]


def test_a_command_given_as_a_string_is_one_command() -> None:
    closed = read(['{"commands": "ls"}'])[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.item, ShellCall)
    assert closed.item.action.commands == ("ls",)


def test_a_local_call_names_no_container() -> None:
    opened = ShellTool(None).read("c", lambda prefix: prefix).feed("")[0]
    assert isinstance(opened, Opened)
    assert isinstance(opened.item, ShellCall)
    assert opened.item.environment is None
    assert not opened.item.hosted
