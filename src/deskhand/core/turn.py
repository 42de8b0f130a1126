"""What happens next? A pure function of the items so far and of how the model's last turn ended.

Because the answer depends on nothing but what is stored, a run that died can be continued by loading its items and
asking again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..wire.items import (
    Call,
    CallOutput,
    Item,
    McpApprovalRequest,
    WholeCall,
    answers,
)


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model. Without `hosted_tools` it is not offered the tools that this server runs."""

    hosted_tools: bool = True


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run these calls, at the same time."""

    calls: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """End the response."""

    status: Literal["completed", "incomplete"]
    reason: Literal["max_output_tokens", "max_messages", "content_filter"] | None = None


Step = CallModel | RunTools | Finish


@dataclass(frozen=True, slots=True)
class Turn:
    """How a model turn ended.

    `ignored` counts hosted calls beyond the request's `max_tool_calls`; `called` is true if it made calls that carry
    their own outcome, which the model has yet to read, wherever they stand. One that has `compacted`
    the context said nothing else.
    """

    reason: Literal["stop", "length", "content_filter"] = "stop"
    ignored: int = 0
    hosted_tools: bool = True
    called: bool = False
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of a run's ceilings. None means no ceiling."""

    turns: int
    tokens: int
    tool_calls: int | None = None
    output_tokens: int | None = None


def next_step(produced: Sequence[Item], turn: Turn | None, budget: Budget, ours: Callable[[Item], bool]) -> Step:
    """Decide the next step.

    `produced` are the response's own items in output order; `turn` is None before the first model call; `ours` tells
    whether this server runs a call. A call that nobody answered and that is not ours goes back to the client.
    """
    waiting = unanswered(produced)
    calls = [*waiting, *(item for item in produced if isinstance(item, WholeCall))]
    if runnable := tuple(call for call in calls if ours(call) and _may_run(call)):
        return RunTools(runnable)
    if turn is not None and turn.reason != "stop":
        return Finish("incomplete", "content_filter" if turn.reason == "content_filter" else "max_output_tokens")
    # One that the model was cut off in, by a crash, was never made: it is asked again.
    if any(call.status != "incomplete" for call in waiting):
        return Finish("completed")
    if any(isinstance(item, McpApprovalRequest) for item in produced):
        # Its user has the word.
        return Finish("completed")
    if turn is not None and not _goes_on(produced, turn):
        return Finish("completed")
    return _ask(budget)


def unanswered(items: Sequence[Item]) -> list[Call]:
    """Calls among `items` that no later item answers."""
    answered = {answers(item) for item in items if isinstance(item, CallOutput)}
    return [item for item in items if isinstance(item, Call) and (item.call_id or "") not in answered]


def call_ids(items: Sequence[Item]) -> set[str]:
    """The ids of all calls among `items`."""
    return {item.call_id for item in items if isinstance(item, Call) and item.call_id}


def _goes_on(produced: Sequence[Item], turn: Turn) -> bool:
    """True if the model has not had the last word: tools ran since, or its calls were ignored for the first time."""
    if turn.called or (turn.ignored and turn.hosted_tools):
        return True
    return bool(produced) and isinstance(produced[-1], CallOutput)


def _ask(budget: Budget) -> Step:
    if budget.output_tokens is not None and budget.output_tokens <= 0:
        return Finish("incomplete", "max_output_tokens")
    if budget.tokens <= 0:
        return Finish("incomplete", "max_output_tokens")
    if budget.turns <= 0:
        return Finish("incomplete", "max_messages")
    return CallModel(hosted_tools=budget.tool_calls is None or budget.tool_calls > 0)


def _may_run(call: Call | WholeCall) -> bool:
    """A call that the model was cut off in is not run, nor one that has begun to."""
    return call.status == ("in_progress" if isinstance(call, WholeCall) else "completed")
