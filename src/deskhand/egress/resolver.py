"""Names of hosts, looked up as the host does it, in threads that nothing else waits for.

A name server that is silent keeps a thread for as long as the host's resolver has patience (resolv.conf(5): half a
minute and more), whoever has given up meanwhile. Among threads that are shared, a few such names would hold up all that
a server does in threads, and its end.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

MOST_LOOKUPS: Final = 64
"""At the same time, those included that nobody waits for any more."""


def look_up(host: str) -> Sequence[str]:
    """The addresses of a name; takes a thread until there is an answer. Raises `OSError`, `UnicodeError`."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Resolves names with `look`, so many at once."""

    def __init__(self, look: Callable[[str], Sequence[str]] = look_up, at_once: int = MOST_LOOKUPS) -> None:
        self._look = look
        self._free = asyncio.Semaphore(at_once)

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of a name. Raises `OSError`, `UnicodeError`."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def done(outcome: Sequence[str] | OSError | UnicodeError) -> None:
            self._free.release()
            if found.done():  # nobody waits for it any more
                return
            if isinstance(outcome, Exception):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        def look() -> None:
            try:
                outcome: Sequence[str] | OSError | UnicodeError = self._look(host)
            except (OSError, UnicodeError) as exc:
                outcome = exc
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done, outcome)

        await self._free.acquire()
        try:
            threading.Thread(target=look, name="resolver", daemon=True).start()
        except RuntimeError as exc:
            self._free.release()
            raise OSError("there is no thread to resolve a name in") from exc
        return await found
