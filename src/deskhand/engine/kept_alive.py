"""A computer in use: it keeps its container alive, and says what is left if it is lost."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TypeVar

from ..ports.sandbox import (
    Cell,
    CellEvent,
    Command,
    ExecEvent,
    Sandbox,
    SandboxExhausted,
    SandboxGone,
    Session,
    Terminal,
)
from ..ports.store import ContainerRecord

E = TypeVar("E")


class KeptAlive:
    """A sandbox whose commands count as activity of its container.

    The container is in use inside `busy`; `lost` says what is left of it when its computer died, for the model.
    """

    def __init__(
        self,
        inner: Sandbox,
        container_id: str,
        busy: Callable[[], AbstractAsyncContextManager[None]],
        lost: Callable[[SandboxGone], Awaitable[str]],
    ) -> None:
        self._inner = inner
        self._container_id = container_id
        self._busy = busy
        self._lost = lost

    @property
    def container_id(self) -> str:
        return self._container_id

    def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        return self._while_busy(self._inner.exec(command))

    def run_code(self, cell: Cell) -> AsyncGenerator[CellEvent, None]:
        return self._while_busy(self._inner.run_code(cell))

    @asynccontextmanager
    async def open_terminal(self, session: Session) -> AsyncIterator[Terminal]:
        async with self._busy(), self._inner.open_terminal(session) as terminal:
            yield terminal

    async def ping(self) -> None:
        await self._inner.ping()

    async def _while_busy(self, inner: AsyncGenerator[E, None]) -> AsyncGenerator[E, None]:
        async with self._busy():
            try:
                async with aclosing(inner) as events:
                    async for event in events:
                        yield event
            except SandboxGone as exc:
                raise SandboxGone(await self._lost(exc)) from exc


def aftermath(record: ContainerRecord | None, why: SandboxGone) -> str:
    """What a model should know of a computer that died under its command. `record` is its container's, as it is now."""
    if record is None or record.state == "expired":
        return "The container was deleted or has expired while the command ran; its files are gone."
    happened = "ran out of memory and stopped" if isinstance(why, SandboxExhausted) else "stopped"
    return (
        f"The computer {happened} while the command ran. Files in the working directory are kept; running "
        "processes are gone. The next command starts it again."
    )
