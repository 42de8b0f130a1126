"""Names of hosts, brought into one form before anything is compared. Pure.

One form only, so that the matcher, the resolver and the certificate cannot read a name differently: lower case, no
trailing dot, IDNA A-labels (RFC 5891, UTS 46), IP addresses in their canonical text. What has several readings
(`0x7f.1`, `2130706433`, `a%00b`, `user@host`) is refused.
"""

import ipaddress
import re
from typing import Final

import idna

LONGEST_NAME: Final = 253
"""Characters of a domain name in text (RFC 1035, 2.3.4)."""

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+")
_ODD: Final = re.compile(r"[\x00-\x20\x7f%/@?#\\\[\]<>^`{|}\"]")


class BadHost(ValueError):
    """This cannot be the name of a host; the message says why and does not repeat it."""


def normalise(text: str) -> str:
    """The one form of a host's name or address; of an IPv6 address without brackets. Idempotent. Raises `BadHost`."""
    if not text or len(text) > LONGEST_NAME + 1:
        raise BadHost(f"a host name has 1 to {LONGEST_NAME} characters")
    if _ODD.search(text):
        raise BadHost("the host name contains a character that no host name has")
    if ":" in text:
        return _address(text)
    name = _ascii(text).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # what ends in a number is an address, in whatever notation (WHATWG URL, 3.5)
        return _address(name)
    if len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadHost("the host name is not made of labels of letters, digits and hyphens")
    for label in labels:
        if label.startswith("xn--"):
            _check_punycode(label)
    return name


def split_authority(text: str, default_port: int | None) -> tuple[str, int]:
    """Host and port of `host:port`, as CONNECT, absolute URLs and Host headers have them. Raises `BadHost`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host:
            raise BadHost("the brackets hold no IPv6 address")
    else:
        host, colon, digits = text.partition(":")
        rest = colon + digits
        if ":" in digits:
            raise BadHost("an IPv6 address needs brackets")
    if not rest:
        if default_port is None:
            raise BadHost("there is no port")
        return normalise(host), default_port
    digits = rest[1:]
    if rest[0] != ":" or not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65535:
        raise BadHost("the port is not a number from 1 to 65535")
    return normalise(host), int(digits)


def is_address(host: str) -> bool:
    """True if a normalised host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ascii(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text.lower()
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, IndexError):
        raise BadHost("the host name is not a valid internationalised name") from None


def _check_punycode(label: str) -> None:
    try:
        if idna.alabel(idna.ulabel(label)) != label.encode("ascii"):
            raise BadHost("the host name has a label in punycode that is not the one form of it")
    except (idna.IDNAError, UnicodeError, IndexError):
        raise BadHost("the host name has a label that is not punycode") from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadHost("the host is neither a name nor an IP address in its usual notation") from None
