"""URLs that the server calls because somebody gave them. Pure.

One reading only: plain ASCII, http or https, no user, no fragment; hosts in the form of `egress.hosts`.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from .hosts import BadHost, split_authority

_PLAIN: Final = re.compile(r"[!-~]+")
_PORTS: Final = {"http": 80, "https": 443}


class BadUrl(ValueError):
    """This URL is not called; the message says why and does not repeat it."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where to connect, and what to ask for there."""

    host: str
    port: int
    encrypted: bool
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.encrypted else "http"] else f"{host}:{self.port}"


def parse_url(text: str) -> Url:
    """The parts of a URL. Raises `BadUrl`."""
    if not _PLAIN.fullmatch(text) or "\\" in text:
        raise BadUrl("it has characters that no URL has; write others percent-encoded, and the host in ASCII")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadUrl("it is not a URL") from None
    if parts.scheme not in _PORTS:
        raise BadUrl("it does not begin with https:// or http://")
    if "@" in parts.netloc:
        raise BadUrl("it has a user or a password in it")
    if "#" in text:
        raise BadUrl("it has a fragment (#), which no server gets to see")
    try:
        host, port = split_authority(parts.netloc, _PORTS[parts.scheme])
    except BadHost as exc:
        raise BadUrl(str(exc)) from None
    query = f"?{parts.query}" if parts.query else ""
    return Url(host, port, parts.scheme == "https", (parts.path or "/") + query)
