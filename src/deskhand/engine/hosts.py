"""Which host has what. A container lives on the disk of one host, and only that one can use it."""

from dataclasses import dataclass

from ..core.errors import ApiError
from ..ports.runs import RunStore


class Elsewhere(ApiError):
    """Another host has what the request needs, and serves at `url`; its requests are passed on to there.

    The address is what that host has told the database, never what a client or a container says.
    """

    def __init__(self, host: str, url: str) -> None:
        super().__init__(
            "What this needs is on another host of this installation, which cannot be reached from here.",
            status=503,
            kind="server_error",
            retry_after=5,
        )
        self.host = host
        self.url = url


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of an installation; `here` is the name of this one."""

    here: str
    runs: RunStore

    async def is_here(self, host: str) -> bool:
        """Whether a host is this one; False if it is no more. Raises `Elsewhere` if another one serves."""
        if host in {"", self.here}:
            return True
        url = await self.runs.url_of(host)
        if url is not None:
            raise Elsewhere(host, url)
        return False
