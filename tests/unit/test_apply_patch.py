"""Reading edits: the declared form, and the patch envelope that models know from Codex."""

import json
from itertools import count
from typing import Any

import pytest

from deskhand.core.drafts import Closed, Draft, Progress
from deskhand.tools.apply_patch import ApplyPatchTool
from deskhand.wire.items import ApplyPatchCall, ApplyPatchCallOutput, CreateFile, DeleteFile, UpdateFile

ENVELOPE = """*** Begin Patch
*** Add File: a.txt
+hello
+world
*** Update File: b.txt
@@
-old
+new
*** Delete File: c.txt
*** End Patch
"""


def read(arguments: Any) -> list[Draft]:
    numbers = count(10)
    reader = ApplyPatchTool().read("call_1", lambda prefix: f"{prefix}_{next(numbers)}")
    text = json.dumps(arguments)
    return [*reader.feed(text[:5]), *reader.feed(text[5:]), *reader.end("completed")]


@pytest.mark.parametrize("wrap", [lambda op: op, lambda op: {"operation": op}])
def test_the_declared_form_is_one_edit(wrap: Any) -> None:
    drafts = read(wrap({"type": "create_file", "path": "a.txt", "diff": "+hello"}))
    assert [d.type.rpartition(".")[2] for d in drafts if isinstance(d, Progress)] == ["delta", "done"]
    closed = drafts[-1]
    assert isinstance(closed, Closed)
    assert isinstance(closed.item, ApplyPatchCall)
    assert closed.item.operation == CreateFile(path="a.txt", diff="+hello")
    assert closed.item.call_id == "call_1"


def test_an_envelope_of_several_files_is_several_edits() -> None:
    items = [d.item for d in read({"input": ENVELOPE}) if isinstance(d, Closed)]
    assert [item.operation for item in items if isinstance(item, ApplyPatchCall)] == [
        CreateFile(path="a.txt", diff="+hello\n+world"),
        UpdateFile(path="b.txt", diff="@@\n-old\n+new"),
        DeleteFile(path="c.txt"),
    ]
    assert len({item.call_id for item in items if isinstance(item, ApplyPatchCall)}) == 3


@pytest.mark.parametrize("arguments", [{}, [], {"type": "rename_file", "path": "x"}, {"input": "*** Begin Patch\n"}])
def test_an_unreadable_edit_is_answered(arguments: Any) -> None:
    call, output = [d.item for d in read(arguments) if isinstance(d, Closed)]
    assert isinstance(output, ApplyPatchCallOutput)
    assert output.status == "failed"
    assert output.call_id == call.call_id  # type: ignore[union-attr]
