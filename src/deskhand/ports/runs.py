"""Who runs a response, what a run has written, and what is left of it when its process dies.

A process that serves has a row of its own, whose counter it raises every second or so: the others see by their own
clocks whether it still does. A claim is the right to write a response. Each new claim has a higher epoch, and what is
written under an older one is refused: a process that was only paused cannot write over its successor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..core.errors import ApiError, DeskhandError
from ..core.turn import Turn
from ..wire.events import Event
from ..wire.items import Item
from ..wire.request import CreateResponse
from ..wire.response import Response, Usage


class QueueFull(ApiError):
    """A project has as many background responses waiting as it may; nothing was stored."""

    def __init__(self, places: int) -> None:
        super().__init__(
            f"This project already has {places} background responses waiting to run, the most that it may have.",
            status=429,
            code="rate_limit_exceeded",
            kind="requests",
            retry_after=5,
        )


class ClaimLost(DeskhandError):
    """Another process has taken the response over; nothing was written."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a response."""

    response_id: str
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Seat:
    """A process that serves: its name, its host's name, both unique, and where other hosts reach it ("" nowhere)."""

    process: str
    host: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a new response is run: by which process ("" for the first that can), and from which request if it dies.

    The events of a `streamed` one are stored, so that they can be read again. `revision` is that of the conversation
    that it goes on with. If there are `places`, it waits in one of them, which are its project's.
    """

    process: str = ""
    request: CreateResponse | None = None
    streamed: bool = False
    revision: int = 0
    places: int | None = None


UNPLANNED = Plan()


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A model call that has ended: how, how many output items there were then, and what it used."""

    turn: Turn
    produced: int
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a run has written since it last stored: output items by `output_index`, events, model calls."""

    items: Mapping[int, Item] = field(default_factory=dict)
    events: Sequence[Event] = ()
    calls: Sequence[ModelCall] = ()


@dataclass(frozen=True, slots=True)
class Orphan:
    """A response that has not ended and that no living process runs. `epoch` is that of its last claim.

    It `waits` if it can do so until a process has room for it.
    """

    owner: str
    response_id: str
    epoch: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What is stored of a response that has not ended.

    `request` is as it was stored, without input; None if the response cannot be run again. `open` has, as far as events
    were stored, those of the items that were announced and not closed, by output index; `next_sequence` is the number
    of the next event.
    """

    response: Response
    given: Sequence[Item]
    request: CreateResponse | None
    streamed: bool
    cancelling: bool
    calls: Sequence[ModelCall]
    open: Mapping[int, Sequence[Event]]
    next_sequence: int


class RunStore(Protocol):
    """Claims, processes and stored events. Every implementation passes `deskhand.testing.conformance_runs`."""

    async def add_process(self, seat: Seat) -> None:
        """A process serves from now on. Earlier ones of its host, of which there is one at a time, are no more."""
        ...

    async def beat(self, seat: Seat) -> bool:
        """Say that a process lives. False if the others had given it up; it is known again then."""
        ...

    async def url_of(self, host: str) -> str | None:
        """Where a host serves; None if it does not."""
        ...

    async def assign(self, claim: Claim, host: str) -> None:
        """Leave a response to the process of a host, or to any if it has none. Does nothing with a lost claim."""
        ...

    async def beats(self) -> Mapping[str, int]:
        """How often each known process has said so."""
        ...

    async def remove_process(self, process: str) -> None:
        """A process is no more: what it ran is orphaned. Idempotent."""
        ...

    async def orphans(self, limit: int) -> Sequence[Orphan]:
        """Responses that nobody runs. First those that do not wait, then the projects take turns.

        A project's turn comes by how many it has before, those that run among them, and its oldest is first.
        """
        ...

    async def any_waits(self) -> bool:
        """Whether a response waits until a process has room for it."""
        ...

    async def take(self, orphan: Orphan, process: str) -> Claim | None:
        """Claim an orphan for a process; None if another was faster. The response is in progress then."""
        ...

    async def give_back(self, claim: Claim) -> None:
        """Leave a response for another process to take. Does nothing with a claim that is lost."""
        ...

    async def interrupted(self, claim: Claim) -> Interrupted | None:
        """What is stored of a claimed response; None if it was deleted."""
        ...

    async def held(self, process: str) -> Mapping[str, "Held"]:
        """The responses that a process runs as far as the store knows, by id."""
        ...

    async def begin(self, claim: Claim) -> None:
        """A queued response is in progress from now on."""
        ...

    async def cancel(self, owner: str, response_id: str) -> None:
        """Ask whoever runs a response to cancel it. Does nothing if it has ended. Durable on return."""
        ...

    async def events(self, response_id: str, *, after: int, limit: int) -> "Stretch":
        """Stored events with a number above `after`, in order: at most `limit`, and fewer if they are long."""
        ...

    async def is_streamed(self, owner: str, response_id: str) -> bool:
        """Whether the events of a response are stored. False if there is no such response."""
        ...

    async def is_over(self, response_id: str) -> bool:
        """Whether a response has ended, or is no more."""
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some of the events of a response. There may be `more` behind them at once."""

    events: Sequence[Event] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A response as a process runs it: whose, under which claim, and whether it shall be cancelled."""

    owner: str
    epoch: int
    cancelling: bool
