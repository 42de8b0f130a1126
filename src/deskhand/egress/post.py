"""One POST to a URL that somebody gave: to an address that was checked, never redirected, with little read.

Proxies of the environment are not asked, and there are no cookies or credentials: what is sent is what is given.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import h11

from .dialer import Dialer, DialFailed, DialReason
from .http1 import Peer
from .urls import Url

LONGEST_ANSWER: Final = 4096
"""Bytes of an answer's body that are read, so that a server that says a few words is not cut off."""
ANSWER_S: Final = 1.0
"""Seconds for them."""

WORDS: Final[Mapping[DialReason, str]] = {
    "name_not_resolved": "its host's name has no address",
    "private_address": "its host has a private address; the operator may name it in allow_private_hosts",
    "forbidden_address": "its host has an address that is never called",
    "upstream_unreachable": "its host does not answer on that port",
}


class PostFailed(Exception):
    """There was no answer. The message says why; it names no address, and of the URL the host at most."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer, as far as anybody asks."""

    status: int
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Poster:
    """Posts within `timeout_s` seconds, connecting included."""

    dialer: Dialer
    timeout_s: float = 15.0

    async def post(self, url: Url, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post and return the answer, whatever its status. Raises `PostFailed`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._post(url, headers, body)
        except DialFailed as exc:
            raise PostFailed(WORDS.get(exc.reason, str(exc))) from None
        except TimeoutError:
            raise PostFailed(f"there was no answer within {self.timeout_s:g} s") from None
        except h11.ProtocolError:
            raise PostFailed("the connection was closed without an answer in HTTP/1.1") from None
        except OSError:
            raise PostFailed("the connection broke") from None

    async def _post(self, url: Url, headers: Mapping[str, str], body: bytes) -> Reply:
        stream = await self.dialer.dial(url.host, url.port, encrypted=url.encrypted)
        try:
            peer = Peer(stream, h11.CLIENT)
            sent = {"host": url.authority, **headers, "content-length": str(len(body)), "connection": "close"}
            await peer.send(h11.Request(method="POST", target=url.target, headers=list(sent.items())))
            with suppress(OSError):  # it may have answered before it read everything
                await peer.send(h11.Data(data=body))
                await peer.send(h11.EndOfMessage())
            reply = _reply(await peer.response())
            with suppress(h11.ProtocolError, OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await _skip(peer)
            return reply
        finally:
            stream.abort()


async def _skip(peer: Peer) -> None:
    size = 0
    async for piece in peer.body():
        size += len(piece)
        if size > LONGEST_ANSWER:
            return


def _reply(response: h11.Response) -> Reply:
    found = [bytes(value) for name, value in response.headers if name == b"retry-after"]
    return Reply(response.status_code, found[0].decode("ascii", "replace") if found else "")
