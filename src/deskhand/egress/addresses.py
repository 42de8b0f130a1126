"""Which addresses the proxy may dial. Pure.

Two classes. *Never*: link-local with the metadata services, multicast, unspecified, reserved; no setting lifts this.
*Private*: everything else that is not globally reachable (IANA special-purpose registries); the operator may lift it
for a host. An address that carries another (v4-mapped, v4-translated, 6to4, Teredo, NAT64) is judged by what it carries
as well.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final, Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure, OpenStack, DigitalOcean
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's WireServer, in a public range
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # GCP
    )
)

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_TRANSLATED: Final = ipaddress.IPv6Network("::ffff:0:0:0/96")
"""IPv4-translated addresses (RFC 2765, 2.1), which the registries do not list."""
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")

Objection = Literal["", "private_address", "forbidden_address"]


def objection(text: str, *, private_allowed: bool) -> Objection:
    """Why the proxy does not dial this address; "" if it may. What is no address is forbidden."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "forbidden_address"
    meant = list(_meanings(address))
    if any(_never(one) for one in meant):
        return "forbidden_address"
    if any(_private(one) for one in meant) and not private_allowed:
        return "private_address"
    return ""


def _meanings(address: Address) -> Iterator[Address]:
    """The address, and those that it carries."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:  # the same address in another notation
        yield mapped
        return
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _never(address: Address) -> bool:
    if address in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_reserved or address in _THIS_NETWORK
    return address.scope_id is not None or address in _NAT64_LOCAL


def _private(address: Address) -> bool:
    return not address.is_global or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
