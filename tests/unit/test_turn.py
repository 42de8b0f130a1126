"""What happens next, as a table."""

import pytest

from deskhand.core.turn import Budget, CallModel, Finish, RunTools, Step, Turn, next_step
from deskhand.wire.items import (
    CodeInterpreterCall,
    ContainerReference,
    FunctionCall,
    Item,
    Message,
    ShellAction,
    ShellCall,
    ShellCallOutput,
)
from deskhand.wire.parts import OutputText

HOSTED = ShellCall(
    id="sh_1", call_id="c1", action=ShellAction(commands=("ls",)), environment=ContainerReference(container_id="k")
)
CUT_OFF = ShellCall(
    id="sh_2",
    call_id="c2",
    action=ShellAction(commands=("l",)),
    environment=ContainerReference(container_id="k"),
    status="incomplete",
)
ANSWER = ShellCallOutput(id="sho_1", call_id="c1")
FUNCTION = FunctionCall(id="fc_1", call_id="f1", name="f", arguments="{}")
OPEN = CodeInterpreterCall(id="ci_1", code="1", container_id="k", status="in_progress")
BEGUN = CodeInterpreterCall(id="ci_1", code="1", container_id="k", status="interpreting")
RUN = CodeInterpreterCall(id="ci_1", code="1", container_id="k", outputs=())
ELSEWHERE = CodeInterpreterCall(id="ci_1", code="1", container_id="elsewhere", status="in_progress")
TEXT = Message(id="msg_1", role="assistant", content=(OutputText(text="hi"),))
PLENTY = Budget(turns=10, tokens=1000)


def ours(item: Item) -> bool:
    match item:
        case ShellCall():
            return item.hosted
        case CodeInterpreterCall(container_id=container_id):
            return container_id == "k"
        case _:
            return False


@pytest.mark.parametrize(
    ("produced", "turn", "budget", "expected"),
    [
        ([], None, PLENTY, CallModel()),
        ([TEXT], Turn(), PLENTY, Finish("completed")),
        ([], Turn(), PLENTY, Finish("completed")),
        ([HOSTED], Turn(), PLENTY, RunTools((HOSTED,))),
        ([HOSTED, ANSWER], Turn(), PLENTY, CallModel()),
        ([FUNCTION], Turn(), PLENTY, Finish("completed")),
        ([HOSTED, FUNCTION], Turn(), PLENTY, RunTools((HOSTED,))),
        ([HOSTED, FUNCTION, ANSWER], Turn(), PLENTY, Finish("completed")),
        ([OPEN], Turn(called=True), PLENTY, RunTools((OPEN,))),
        ([OPEN, HOSTED, TEXT], Turn(called=True), PLENTY, RunTools((HOSTED, OPEN))),
        ([BEGUN], Turn(called=True), PLENTY, CallModel()),
        ([RUN], Turn(called=True), PLENTY, CallModel()),
        ([RUN, TEXT], Turn(called=True), PLENTY, CallModel()),
        ([RUN, TEXT], Turn(), PLENTY, Finish("completed")),
        ([RUN, FUNCTION], Turn(called=True), PLENTY, Finish("completed")),
        ([ELSEWHERE], Turn(), PLENTY, Finish("completed")),
        ([TEXT], Turn("length"), PLENTY, Finish("incomplete", "max_output_tokens")),
        ([CUT_OFF], Turn("length"), PLENTY, Finish("incomplete", "max_output_tokens")),
        ([TEXT], Turn("content_filter"), PLENTY, Finish("incomplete", "content_filter")),
        ([HOSTED, ANSWER], Turn(), Budget(turns=0, tokens=9), Finish("incomplete", "max_messages")),
        ([HOSTED, ANSWER], Turn(), Budget(turns=9, tokens=0), Finish("incomplete", "max_output_tokens")),
        (
            [HOSTED, ANSWER],
            Turn(),
            Budget(turns=9, tokens=9, output_tokens=0),
            Finish("incomplete", "max_output_tokens"),
        ),
        ([HOSTED, ANSWER], Turn(), Budget(turns=9, tokens=9, tool_calls=0), CallModel(hosted_tools=False)),
        ([], Turn(ignored=1), Budget(turns=9, tokens=9, tool_calls=0), CallModel(hosted_tools=False)),
        ([], Turn(ignored=1, hosted_tools=False), Budget(turns=9, tokens=9, tool_calls=0), Finish("completed")),
    ],
)
def test_the_next_step(produced: list[Item], turn: Turn | None, budget: Budget, expected: Step) -> None:
    assert next_step(produced, turn, budget, ours) == expected
