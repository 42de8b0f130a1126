"""Connections to the outside: the proxy resolves a name itself, checks every answer, and dials what it checked."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .addresses import objection
from .hosts import is_address
from .resolver import Resolver
from .streams import SocketStream

MOST_ADDRESSES: Final = 4

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name. Raises `OSError`, `UnicodeError`."""

DialReason = Literal[
    "name_not_resolved", "private_address", "forbidden_address", "upstream_unreachable", "upstream_certificate"
]
FORBIDDEN: Final[Collection[DialReason]] = ("private_address", "forbidden_address")


class DialFailed(Exception):
    """There is no connection. The message is for the process that asked; it names no address."""

    def __init__(self, reason: DialReason, message: str) -> None:
        super().__init__(message)
        self.reason: DialReason = reason


@dataclass(frozen=True, slots=True)
class Dialer:
    """Dials hosts. `private_hosts` may have private addresses; `pinned` have these, whatever the resolver says."""

    trust: ssl.SSLContext
    private_hosts: Collection[str] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0
    resolve: Resolve = field(default_factory=Resolver)

    async def dial(self, host: str, port: int, *, encrypted: bool) -> SocketStream:
        """Connect, with a verified certificate if `encrypted`. Raises `DialFailed`."""
        private = host in self.private_hosts or host in self.pinned
        for address in (addresses := await self._addresses(host)):
            if word := objection(address, private_allowed=private):
                raise DialFailed(word, f"'{host}' has an address that containers must not reach")
        problem = DialFailed("upstream_unreachable", f"'{host}' does not answer on port {port}")
        for address in addresses[:MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(self.timeout_s):
                    return await self._connect(address, host, port, encrypted=encrypted, private=private)
            except ssl.SSLCertVerificationError as exc:
                words = f"the certificate of '{host}' is not valid: {exc.verify_message}"
                raise DialFailed("upstream_certificate", words) from None
            except (OSError, TimeoutError):
                continue
        raise problem

    async def _addresses(self, host: str) -> Sequence[str]:
        if host in self.pinned:
            return [self.pinned[host]]
        if is_address(host):
            return [host]
        try:
            async with asyncio.timeout(self.timeout_s):
                found = await self.resolve(host)
        except (OSError, TimeoutError, UnicodeError):
            found = []
        if not found:
            raise DialFailed("name_not_resolved", f"'{host}' has no address")
        return found

    async def _connect(self, address: str, host: str, port: int, *, encrypted: bool, private: bool) -> SocketStream:
        context = self.trust if encrypted else None
        name = host if encrypted else None
        reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name, limit=1 << 17)
        stream = SocketStream(reader, writer)
        if not private and writer.get_extra_info("peername")[0] == writer.get_extra_info("sockname")[0]:
            stream.abort()  # one of this machine's own public addresses
            raise DialFailed("private_address", f"'{host}' has an address that containers must not reach")
        return stream


def client_trust() -> ssl.SSLContext:
    """What the proxy trusts: the host's certificates (or those of `SSL_CERT_FILE`); HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
