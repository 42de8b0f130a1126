"""The network policy of a container: from a request's words to what is stored, enforced and told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ..core.errors import ApiError
from ..egress.environment import objection
from ..egress.hosts import BadHost, is_address, normalise
from ..egress.policy import Rule, matches, outside, parse_domain
from ..tools.shell import NO_NETWORK
from ..wire.codec import encode
from ..wire.network import (
    AllowlistNetwork,
    DisabledNetwork,
    DomainSecret,
    NetworkPolicy,
    NetworkRule,
    SecretName,
    StoredPolicy,
)

LONGEST_SECRET = 8 << 10
"""Bytes of a secret's value: few servers take longer headers."""
MOST_SECRETS_BYTES = 32 << 10
"""Bytes of all values of a container: every answer is searched for them."""
MOST_TOLD = 40
"""Domains that a model is told by name."""


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """A checked policy: `stored` is its JSON without values, "" for no network."""

    stored: str = ""
    secrets: Sequence[DomainSecret] = field(default=(), repr=False)


def plan(policy: NetworkPolicy | None, ceiling: Sequence[Rule], where: str) -> NetworkPlan:
    """Check a request's policy; `where` is its place in the request. Raises `ApiError` that names what is wrong."""
    match policy:
        case None | DisabledNetwork():
            return NetworkPlan()
        case AllowlistNetwork():
            domains = _domains(policy.allowed_domains, f"{where}.allowed_domains")
            rules = _rules(policy.rules or [], domains, f"{where}.rules")
            secrets = list(policy.domain_secrets or [])
            names = _secret_names(secrets, _effective(domains, rules), f"{where}.domain_secrets")
            for rule in _effective(domains, rules):
                if words := outside(rule, ceiling):
                    raise _bad(f"The network policy goes beyond what is allowed here: {words}.", where)
            stored = StoredPolicy(allowed_domains=domains, rules=rules, secrets=names)
            checked = [msgspec.structs.replace(s, domain=n.domain) for s, n in zip(secrets, names, strict=True)]
            return NetworkPlan(encode(stored).decode(), checked)


def stored_policy(stored: str) -> StoredPolicy | None:
    """The policy of a container's record; None if it has no network."""
    return msgspec.json.decode(stored, type=StoredPolicy) if stored else None


def rules_of(stored: str) -> tuple[Rule, ...]:
    """The rules of a container's record."""
    policy = stored_policy(stored)
    return () if policy is None else _effective(policy.allowed_domains, policy.rules)


def without_secrets(stored: str) -> str:
    """The policy for a copy of the container, which gets none of its secrets."""
    policy = stored_policy(stored)
    return "" if policy is None else encode(msgspec.structs.replace(policy, secrets=[])).decode()


def summary(stored: str) -> str:
    """What a model is told of its network: hosts and the names of secrets, never a value."""
    policy = stored_policy(stored)
    if policy is None:
        return NO_NETWORK
    rules = _effective(policy.allowed_domains, policy.rules)
    shown = [_told(rule) for rule in rules[:MOST_TOLD]]
    more = f" and {len(rules) - MOST_TOLD} more" if len(rules) > MOST_TOLD else ""
    words = [
        f"Network access is limited to these hosts, over HTTP(S) through the proxy that is set up: {', '.join(shown)}"
        f"{more}. Other hosts are denied with status 403; do not try to get around that."
    ]
    if policy.secrets:
        secrets = ", ".join(f"${secret.name} for {secret.domain}" for secret in policy.secrets)
        words.append(
            f"Secrets: {secrets}. The variables hold placeholders; put them into an HTTPS request header as they are, "
            "and the value takes their place on the way to that host."
        )
    return " ".join(words)


def check_value(value: str, where: str) -> None:
    """Raise `ApiError` if a secret's value cannot stand in a header."""
    if len(value.encode("utf-8", "surrogatepass")) > LONGEST_SECRET:
        raise _bad(f"A secret's value may have at most {LONGEST_SECRET} bytes, as it is sent in a header.", where)
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000 for character in value):
        raise _bad("A secret's value must not hold line breaks or other control characters.", where)
    if value != value.strip():
        raise _bad("A secret's value must not begin or end with white space.", where)


def check_values(values: Sequence[bytes], where: str = "value") -> None:
    """Raise `ApiError` if the values of a container have too many bytes together."""
    if sum(map(len, values)) > MOST_SECRETS_BYTES:
        raise _bad(f"The values of all secrets may have at most {MOST_SECRETS_BYTES} bytes together.", where)


def _domains(given: Sequence[str], where: str) -> list[str]:
    found: list[str] = []
    for index, text in enumerate(given):
        try:
            found.append(parse_domain(text))
        except BadHost as exc:
            raise _bad(f"Invalid domain {text[:256]!r}: {exc}.", f"{where}[{index}]") from None
    return sorted(set(found))


def _rules(given: Sequence[NetworkRule], domains: Sequence[str], where: str) -> list[NetworkRule]:
    found: list[NetworkRule] = []
    for index, rule in enumerate(given):
        at = f"{where}[{index}]"
        try:
            domain = parse_domain(rule.domain)
        except BadHost as exc:
            raise _bad(f"Invalid domain {rule.domain[:256]!r}: {exc}.", f"{at}.domain") from None
        if domain not in domains:
            raise _bad(f"The rule's domain '{domain}' must be one of 'allowed_domains'.", f"{at}.domain")
        if rule.passthrough and (rule.methods or rule.path_prefixes or rule.mirror):
            raise _bad("Nobody looks into a passthrough: it cannot have methods, paths or be a mirror.", at)
        methods = sorted({method.upper() for method in rule.methods}) if rule.methods else None
        found.append(msgspec.structs.replace(rule, domain=domain, methods=methods))
    return found


def _secret_names(secrets: Sequence[DomainSecret], rules: Sequence[Rule], where: str) -> list[SecretName]:
    found: list[SecretName] = []
    check_values([secret.value.encode("utf-8", "surrogatepass") for secret in secrets], where)
    for index, secret in enumerate(secrets):
        at = f"{where}[{index}]"
        try:
            domain = normalise(secret.domain)
        except BadHost as exc:
            raise _bad(f"A secret needs exactly one host, and {secret.domain[:256]!r} is none: {exc}.", at) from None
        if words := objection(secret.name):
            raise _bad(f"Invalid name of a secret: {words}.", f"{at}.name")
        opened = [rule for rule in rules if matches(rule.domain, domain)]
        if not opened or is_address(domain):
            raise _bad(f"The secret's domain '{domain}' is not among 'allowed_domains'.", f"{at}.domain")
        if any(rule.passthrough or rule.mirror for rule in opened):
            raise _bad(f"'{domain}' is a passthrough or a mirror, where no secret can be put in.", f"{at}.domain")
        name = SecretName(domain=domain, name=secret.name)
        if name in found:
            raise _bad(f"There are two secrets '{secret.name}' for '{domain}'.", at)
        check_value(secret.value, f"{at}.value")
        found.append(name)
    return found


def _effective(domains: Sequence[str], rules: Sequence[NetworkRule]) -> tuple[Rule, ...]:
    """A domain's rules, or all of it if there are none."""
    special = {rule.domain for rule in rules}
    plain = tuple(Rule(domain) for domain in domains if domain not in special)
    return plain + tuple(
        Rule(
            rule.domain,
            tuple(rule.ports or ()),
            tuple(rule.methods or ()),
            tuple(rule.path_prefixes or ()),
            rule.passthrough,
            rule.mirror,
        )
        for rule in rules
    )


def _told(rule: Rule) -> str:
    limits = [*rule.methods, *rule.path_prefixes, *(f"port {port}" for port in rule.ports)]
    if rule.mirror:
        limits.append("packages: GET and HEAD")
    return f"{rule.domain} ({', '.join(limits[:8])})" if limits else rule.domain


def _bad(message: str, where: str) -> ApiError:
    return ApiError(message, code="invalid_value", param=where)
