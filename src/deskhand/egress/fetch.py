"""One GET of a URL that somebody gave: from addresses that were checked, with each redirect checked like the first URL.

Proxies of the environment are not asked, and there are no cookies or credentials.
"""

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urldefrag, urljoin

import h11

from .dialer import Dialer, DialFailed
from .http1 import Peer
from .post import WORDS
from .urls import BadUrl, Url, parse_url

MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)


class FetchFailed(Exception):
    """There is no content. The message says why; it names no address, and of the URL the host at most."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches within `timeout_s` seconds, all redirects included."""

    dialer: Dialer
    timeout_s: float = 30.0

    async def fetch(self, url: str, most_bytes: int) -> bytes:
        """What is there, at most so many bytes. Raises `FetchFailed`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._follow(url, most_bytes)
        except BadUrl as exc:
            raise FetchFailed(str(exc)) from None
        except DialFailed as exc:
            raise FetchFailed(WORDS.get(exc.reason, str(exc))) from None
        except TimeoutError:
            raise FetchFailed(f"it was not there within {self.timeout_s:g} s") from None
        except h11.ProtocolError:
            raise FetchFailed("the connection was closed without a whole answer in HTTP/1.1") from None
        except OSError:
            raise FetchFailed("the connection broke") from None

    async def _follow(self, text: str, most_bytes: int) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            url = parse_url(urldefrag(text).url)
            found = await self._get(url, most_bytes)
            if isinstance(found, bytes):
                return found
            text = _next(text, found, url)
        raise FetchFailed(f"it is redirected more than {MOST_REDIRECTS} times")

    async def _get(self, url: Url, most_bytes: int) -> "bytes | _Redirect":
        stream = await self.dialer.dial(url.host, url.port, encrypted=url.encrypted)
        try:
            peer = Peer(stream, h11.CLIENT)
            headers = {
                "host": url.authority,
                "user-agent": "deskhand",
                "accept": "*/*",
                "accept-encoding": "identity",
                "connection": "close",
            }
            await peer.send(h11.Request(method="GET", target=url.target, headers=list(headers.items())))
            await peer.send(h11.EndOfMessage())
            response = await peer.response()
            if response.status_code in _REDIRECTS:
                return _Redirect(_header(response, b"location"))
            return await _content(peer, response, most_bytes)
        finally:
            stream.abort()


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str


async def _content(peer: Peer, response: h11.Response, most_bytes: int) -> bytes:
    if response.status_code != 200:
        raise FetchFailed(f"its host answers with status {response.status_code}")
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchFailed("its host sends it compressed, which it was asked not to")
    declared = _header(response, b"content-length")
    if declared.isdigit() and int(declared) > most_bytes:
        raise FetchFailed(f"it has {declared} bytes; at most {most_bytes} are read")
    content = bytearray()
    async for piece in peer.body():
        content += piece
        if len(content) > most_bytes:
            raise FetchFailed(f"it has more than {most_bytes} bytes, which is the most that is read")
    return bytes(content)


def _next(text: str, redirect: _Redirect, came_from: Url) -> str:
    """Where a redirect leads. Raises `FetchFailed`, `BadUrl`."""
    if not redirect.location:
        raise FetchFailed("it is redirected to nowhere")
    try:
        following = urljoin(text, redirect.location)
    except ValueError:
        raise BadUrl("it is redirected to what is not a URL") from None
    if came_from.encrypted and not parse_url(urldefrag(following).url).encrypted:
        raise FetchFailed("it is redirected from https:// to http://")
    return following


def _header(response: h11.Response, name: bytes) -> str:
    found = [bytes(value) for key, value in response.headers if key == name]
    return found[0].decode("latin-1").strip() if found else ""
