"""What may leave a container: rules, the operator's ceiling over them, and the decision. Pure.

Deny is the default and an empty list allows nothing. A domain matches exactly; `*.example.com` matches every name below
`example.com` and not itself. A destination must be allowed by a rule of the container and by one of the ceiling.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from .hosts import BadHost, is_address, normalise, split_authority

DEFAULT_PORTS: Final = (443, 80)
MIRROR_METHODS: Final = ("GET", "HEAD")
ANY: Final = "*"

Reason = Literal[
    "domain_not_allowed",
    "port_not_allowed",
    "method_not_allowed",
    "path_not_allowed",
    "ambiguous_path",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one entry opens. Empty `methods` and `path_prefixes` mean any.

    Empty `ports` leave the choice to the ceiling, whose own default is 443 and 80. `passthrough` is a tunnel whose
    content nobody checks. A `mirror` serves packages: GET and HEAD, without a body or credentials.
    """

    domain: str
    ports: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    path_prefixes: tuple[str, ...] = ()
    passthrough: bool = False
    mirror: bool = False

    @property
    def label(self) -> str:
        """The rule as records show it."""
        return f"{self.domain} (mirror)" if self.mirror else self.domain


@dataclass(frozen=True, slots=True)
class Policy:
    """A container's rules under the operator's ceiling."""

    rules: tuple[Rule, ...]
    ceiling: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a process wants to go. Without a method it is a connection, judged by host and port alone."""

    host: str
    port: int
    method: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """It may, by `rule`. With `bare`, credentials and a body stay behind."""

    rule: Rule
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Deny:
    """It may not. `rule` is the one that came closest, "" if none did."""

    reason: Reason
    rule: str = ""


def decide(policy: Policy, destination: Destination) -> Allow | Deny:
    """Judge a destination by the container's rules and then by the ceiling."""
    asked = _judge(policy.rules, destination, ())
    if isinstance(asked, Deny):
        return asked
    given = _judge(policy.ceiling, destination, DEFAULT_PORTS)
    if isinstance(given, Deny):
        return given
    return Allow(asked.rule, asked.rule.mirror or given.rule.mirror)


def parse_domain(text: str, *, any_allowed: bool = False) -> str:
    """A domain of a rule in its one form: a name, an address, `*.name`, and `*` if allowed. Raises `BadHost`."""
    if text == ANY and any_allowed:
        return ANY
    if not text.startswith("*."):
        return normalise(text)
    name = normalise(text[2:])
    if "." not in name or is_address(name):
        raise BadHost("a wildcard needs at least two labels behind it, as in '*.example.com'")
    return f"*.{name}"


def parse_ceiling(domains: Sequence[str], mirrors: Sequence[str]) -> tuple[Rule, ...]:
    """The operator's ceiling: entries `host`, `*.host`, `*`, each with an optional `:port`. Raises `BadHost`."""
    return tuple([_ceiling_rule(text, mirror=True) for text in mirrors] + [_ceiling_rule(text) for text in domains])


def outside(rule: Rule, ceiling: Sequence[Rule]) -> str:
    """What of a rule the ceiling does not cover, in words; "" if it covers it all."""
    covering = [above for above in ceiling if _covers(above.domain, rule.domain)]
    if not covering:
        return f"the domain '{rule.domain}' is not among the domains that this server's operator allows"
    for port in rule.ports:
        if not any(port in (above.ports or DEFAULT_PORTS) for above in covering):
            return f"port {port} of '{rule.domain}' is not among the ports that this server's operator allows"
    if rule.passthrough and all(above.mirror for above in covering):
        return f"'{rule.domain}' is a package mirror here, whose requests are checked: it cannot be a passthrough"
    return ""


def matches(domain: str, host: str) -> bool:
    """True if the domain of a rule matches a normalised host. Addresses match only themselves."""
    if domain == ANY:
        return True
    if domain.startswith("*."):
        return host.endswith(domain[1:]) and not is_address(host)
    return domain == host


def _judge(rules: Sequence[Rule], destination: Destination, default_ports: tuple[int, ...]) -> Allow | Deny:
    """The first rule that allows; else the objection of the rule that came furthest. A mirror's word is final."""
    order: tuple[Reason, ...] = (
        "domain_not_allowed", "port_not_allowed", "method_not_allowed", "path_not_allowed", "ambiguous_path",
    )  # fmt: skip
    best = Deny("domain_not_allowed")
    mirrors = [rule for rule in rules if rule.mirror and matches(rule.domain, destination.host)]
    for rule in mirrors or rules:
        reason = _reason(rule, destination, default_ports)
        if reason is None:
            return Allow(rule)
        if order.index(reason) > order.index(best.reason):
            best = Deny(reason, rule.label)
    return best


def _reason(rule: Rule, destination: Destination, default_ports: tuple[int, ...]) -> Reason | None:
    if not matches(rule.domain, destination.host):
        return "domain_not_allowed"
    ports = rule.ports or default_ports
    if ports and destination.port not in ports:
        return "port_not_allowed"
    if not destination.method:
        return None
    methods = MIRROR_METHODS if rule.mirror else rule.methods
    if methods and destination.method not in methods:
        return "method_not_allowed"
    if rule.path_prefixes:
        if _ambiguous(destination.path):
            return "ambiguous_path"
        if not any(_below(prefix, destination.path) for prefix in rule.path_prefixes):
            return "path_not_allowed"
    return None


def _below(prefix: str, path: str) -> bool:
    """`/a` holds `/a` and `/a/b`, not `/ab`; `/a/` holds what begins so."""
    path = path.partition("?")[0]
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def _ambiguous(path: str) -> bool:
    """True if a server may read the path as another one than it looks."""
    plain = path.partition("?")[0].encode("utf-8", "surrogateescape")
    decoded = plain
    for _ in range(4):
        again = unquote_to_bytes(decoded)
        if again == decoded:
            break
        decoded = again
    if decoded.count(b"/") != plain.count(b"/") or re.search(rb"[\x00-\x1f\x7f\\;]|//|%", decoded):
        return True
    return any(segment in (b".", b"..") for segment in decoded.split(b"/"))


def _covers(above: str, below: str) -> bool:
    """True if every host that `below` matches is matched by `above`."""
    if above == ANY:
        return True
    if below.startswith("*."):
        return above.startswith("*.") and (above == below or below.endswith(above[1:]))
    return matches(above, below)


def _ceiling_rule(text: str, *, mirror: bool = False) -> Rule:
    wildcard, rest = re.fullmatch(r"(\*\.|\*(?=:|$))?(.*)", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    if wildcard == ANY:
        rest = f"any.invalid{rest}"
    host, port = split_authority(rest, 0)
    domain = ANY if wildcard == ANY else parse_domain((wildcard or "") + host)
    return Rule(domain, ports=(port,) if port else DEFAULT_PORTS, mirror=mirror)
