"""A terminal in a container, over a connection of its own to the agent."""

from collections.abc import AsyncGenerator, Callable

from deskhand.ports.sandbox import Exited, Output, Window

from .connection import Channel
from .protocol import Ended, resize_frame, typed_frame
from .quota import watched


class AgentTerminal:
    """The `Terminal` of a program that was begun on `channel`. `full` watches a disk that has no ceiling of its own."""

    def __init__(self, channel: Channel, full: Callable[[], str] | None) -> None:
        self._channel = channel
        self._full = full

    def output(self) -> AsyncGenerator[Output | Exited, None]:
        events = self._output()
        return events if self._full is None else watched(events, self._full, lambda words: Exited(137, 9, words))

    async def type(self, data: bytes) -> None:
        await self._channel.tell_terminal(typed_frame(data))

    async def resize(self, window: Window) -> None:
        await self._channel.tell_terminal(resize_frame(window))

    async def _output(self) -> AsyncGenerator[Output | Exited, None]:
        while True:
            match await self._channel.hear_terminal():
                case Output() as printed:
                    yield printed
                case Ended(code, signal):
                    yield Exited(code, signal)
                    return
