"""The writer and its inverse: any legal order of drafts folds back into the response, numbered without a gap."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.drafts import Closed, Draft, Opened, Progress
from deskhand.core.fold import fold
from deskhand.core.writer import DraftError, ResponseWriter
from deskhand.wire.events import Event
from deskhand.wire.items import FunctionCall, Item, Message, OpaqueItem
from deskhand.wire.parts import OutputText
from deskhand.wire.response import IncompleteDetails, Response, ResponseError

Ending = Literal["completed", "incomplete", "failed", "cancelled"]


def fresh() -> Response:
    return Response(id="resp_1", created_at=1, model="m")


def items(count: int) -> list[Item]:
    kinds: list[Item] = []
    for n in range(count):
        match n % 3:
            case 0:
                kinds.append(Message(id=f"msg_{n}", role="assistant", content=(OutputText(text=str(n)),)))
            case 1:
                kinds.append(FunctionCall(id=f"fc_{n}", call_id=f"c{n}", name="f", arguments="{}"))
            case _:
                kinds.append(OpaqueItem({"type": "web_search_call", "id": f"ws_{n}", "status": "completed"}))
    return kinds


@st.composite
def legal_drafts(draw: st.DrawFn) -> list[Draft]:
    """Any interleaving in which every item is opened, maybe talked about, and maybe closed."""
    todo = items(draw(st.integers(0, 6)))
    open_: list[Item] = []
    drafts: list[Draft] = []
    for action, which in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=25)):
        if action == 0 and todo:
            open_.append(todo.pop(0))
            drafts.append(Opened(open_[-1]))
        elif action == 1 and open_:
            item = open_[which % len(open_)]
            drafts.append(Progress(item.id, "response.output_text.delta", {"delta": "x"}))
        elif action == 2 and open_:
            drafts.append(Closed(open_.pop(which % len(open_))))
    return drafts


@given(legal_drafts(), st.sampled_from(["completed", "incomplete", "failed", "cancelled"]))
def test_folding_what_was_written_gives_the_response(drafts: list[Draft], ending: Ending) -> None:
    writer = ResponseWriter(fresh())
    events: list[Event] = writer.start()
    events += [writer.write(draft) for draft in drafts]
    events += writer.finish(
        ending,
        completed_at=9,
        error=ResponseError("server_error", "x") if ending == "failed" else None,
        incomplete=IncompleteDetails("max_output_tokens") if ending == "incomplete" else None,
    )
    assert fold(events) == writer.response
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.terminal for event in events] == [False] * (len(events) - 1) + [True]
    added = [e.fields["output_index"] for e in events if e.type == "response.output_item.added"]
    assert added == list(range(len(added)))


def test_what_is_left_open_is_closed_as_incomplete() -> None:
    writer = ResponseWriter(fresh())
    writer.write(Opened(items(1)[0]))
    done, ended = writer.finish("cancelled", completed_at=9)
    assert done.fields["item"].status == "incomplete"
    assert ended.fields["response"].output[0].status == "incomplete"


@pytest.mark.parametrize(
    "drafts",
    [
        [Closed(items(1)[0])],
        [Progress("msg_0", "response.output_text.delta")],
        [Opened(items(1)[0]), Opened(items(1)[0])],
        [Opened(items(1)[0]), Closed(items(1)[0]), Closed(items(1)[0])],
    ],
)
def test_drafts_out_of_order_are_our_bug(drafts: list[Draft]) -> None:
    writer = ResponseWriter(fresh())
    for draft in drafts[:-1]:
        writer.write(draft)
    with pytest.raises(DraftError):
        writer.write(drafts[-1])


def test_a_failure_is_told_in_the_nested_form_before_the_terminal_event() -> None:
    writer = ResponseWriter(fresh())
    error, failed = writer.finish("failed", completed_at=9, error=ResponseError("server_error", "down"))
    assert error.type == "error"
    assert error.fields["error"] == {
        "type": "server_error",
        "code": "server_error",
        "message": "down",
        "param": None,
    }
    assert failed.type == "response.failed"
    assert failed.fields["response"].completed_at is None
