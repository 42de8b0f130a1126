"""What may leave a container: hosts in one form, rules, the ceiling, and addresses."""

import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskhand.egress.addresses import METADATA, objection
from deskhand.egress.hosts import BadHost, normalise, split_authority
from deskhand.egress.policy import (
    Allow,
    Deny,
    Destination,
    Policy,
    Rule,
    decide,
    matches,
    outside,
    parse_ceiling,
    parse_domain,
)

ANYTHING = parse_ceiling(["*"], [])


def verdict(rule: Rule, host: str, port: int = 443, method: str = "GET", path: str = "/") -> str:
    match decide(Policy((rule,), ANYTHING), Destination(host, port, method, path)):
        case Allow():
            return "allow"
        case Deny(reason):
            return reason


@pytest.mark.parametrize(
    ("text", "one_form"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a。b", "a.b"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("_dmarc.example", "_dmarc.example"),
    ],
)
def test_a_host_has_one_form(text: str, one_form: str) -> None:
    assert normalise(text) == one_form


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a..b", ".a", "a" * 64 + ".example", "a." * 127 + "aa",
        "a\0.example", "a\r\nb", "a b", "a\tb", "a%00.example", "user@example.com", "example.com/", "example.com:80",
        "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "1.2.3.256", "1.2.3.4.5", "a.0x1",
        "[::1]", "::1%eth0", "::g", "1::2::3", "xn--a", "xn--BCHER-kva.example\u0000", "-a.example", "a-.example",
        "*.example", "a_\u2028b", "\ud800", "exam\u00adple\u200b\u3164.com\u0000",
    ],
)  # fmt: skip
def test_what_has_several_readings_or_none_is_no_host(text: str) -> None:
    with pytest.raises(BadHost):
        normalise(text)


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9.:_%xX\[\]-]{1,40}", fullmatch=True))
def test_the_one_form_is_its_own(text: str) -> None:
    try:
        once = normalise(text)
    except BadHost:
        return
    assert normalise(once) == once
    assert normalise(once.upper()) == once
    assert once.isascii()
    assert not set(once) & set(" \0\r\n\t%/@?#\\")


@settings(deadline=None)
@given(st.from_regex(r"[0-9a-fxX.]{1,24}", fullmatch=True))
def test_no_notation_of_an_address_passes_for_a_name(text: str) -> None:
    """What the resolver would read as an IPv4 address is refused or becomes exactly that address."""
    try:
        packed = socket.inet_aton(text)
    except OSError:
        return
    try:
        assert normalise(text) == str(ipaddress.IPv4Address(packed))
    except BadHost:
        pass


def test_an_authority_is_a_host_and_a_port() -> None:
    assert split_authority("Example.com:8443", None) == ("example.com", 8443)
    assert split_authority("example.com", 443) == ("example.com", 443)
    assert split_authority("[2001:db8::1]:80", None) == ("2001:db8::1", 80)
    for bad in ("example.com", "example.com:", "example.com:0", "example.com:65536", "example.com:8o", "::1:80",
                "[::1", "[example.com]:80", "example.com:80:80", "[::1]80", "a@b:80", "example.com:+80"):  # fmt: skip
        with pytest.raises(BadHost):
            split_authority(bad, None)


def test_a_name_matches_exactly_and_a_wildcard_what_is_below() -> None:
    assert verdict(Rule("example.com"), "example.com") == "allow"
    for other in ("www.example.com", "evilexample.com", "example.com.evil.test", "example.org", "com"):
        assert verdict(Rule("example.com"), other) == "domain_not_allowed"
    assert verdict(Rule("*.example.com"), "a.b.example.com") == "allow"
    for other in ("example.com", "evilexample.com", "example.com.evil.test", "192.0.2.1"):
        assert verdict(Rule("*.example.com"), other) == "domain_not_allowed"


def test_no_rules_allow_nothing_and_no_ceiling_allows_nothing() -> None:
    anywhere = Destination("example.com", 443, "GET", "/")
    assert decide(Policy((), ANYTHING), anywhere) == Deny("domain_not_allowed")
    assert decide(Policy((Rule("example.com"),), ()), anywhere) == Deny("domain_not_allowed")
    assert isinstance(decide(Policy((Rule("example.com"),), ANYTHING), anywhere), Allow)


def test_ports_are_443_and_80_unless_somebody_says_otherwise() -> None:
    assert [verdict(Rule("a.test"), "a.test", port) for port in (443, 80, 22, 8443)] == [
        "allow", "allow", "port_not_allowed", "port_not_allowed",
    ]  # fmt: skip
    assert verdict(Rule("a.test", ports=(443,)), "a.test", 80) == "port_not_allowed"
    ceiling = parse_ceiling(["a.test:8443"], [])
    assert isinstance(decide(Policy((Rule("a.test"),), ceiling), Destination("a.test", 8443)), Allow)
    assert decide(Policy((Rule("a.test"),), ceiling), Destination("a.test", 443)) == Deny("port_not_allowed", "a.test")


def test_methods_and_paths() -> None:
    rule = Rule("a.test", methods=("GET",), path_prefixes=("/v1/", "/health"))
    assert verdict(rule, "a.test", path="/v1/x?y=../..") == "allow"
    assert verdict(rule, "a.test", path="/health") == "allow"
    assert verdict(rule, "a.test", path="/health/x") == "allow"
    assert verdict(rule, "a.test", method="") == "allow"
    assert verdict(rule, "a.test", method="POST", path="/v1/x") == "method_not_allowed"
    assert verdict(rule, "a.test", method="get", path="/v1/x") == "method_not_allowed"
    for path in ("/", "/v1", "/healthy", "/v2/"):
        assert verdict(rule, "a.test", path=path) == "path_not_allowed"
    for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/%252e%252e/admin", "/v1/..%2fadmin", "/v1/.//x", "//v1/",
                 "/v1/..;/admin", "/v1\\..\\admin", "/v1/%00", "/v1/x/.", "/v1/%5c..%5c"):  # fmt: skip
        assert verdict(rule, "a.test", path=path) == "ambiguous_path", path


def test_several_rules_of_a_domain_each_open_what_they_say() -> None:
    rules = (Rule("a.test", methods=("GET",)), Rule("a.test", methods=("POST",), path_prefixes=("/up",)))
    policy = Policy(rules, ANYTHING)
    assert isinstance(decide(policy, Destination("a.test", 443, "GET", "/x")), Allow)
    assert isinstance(decide(policy, Destination("a.test", 443, "POST", "/up")), Allow)
    assert decide(policy, Destination("a.test", 443, "POST", "/x")) == Deny("path_not_allowed", "a.test")


def test_a_mirror_serves_packages_and_takes_nothing_wherever_it_was_declared() -> None:
    get, put = (Destination("pypi.test", 443, method, "/simple/") for method in ("GET", "PUT"))
    for policy in (
        Policy((Rule("pypi.test", mirror=True),), ANYTHING),
        Policy((Rule("pypi.test"),), parse_ceiling(["*"], ["pypi.test"])),
        Policy((Rule("pypi.test"), Rule("pypi.test", mirror=True)), ANYTHING),
    ):
        allowed = decide(policy, get)
        assert isinstance(allowed, Allow)
        assert allowed.bare
        assert isinstance(decide(policy, put), Deny)
    plain = decide(Policy((Rule("pypi.test"),), ANYTHING), put)
    assert isinstance(plain, Allow)
    assert not plain.bare


def test_a_request_may_narrow_the_ceiling_and_not_go_beyond_it() -> None:
    ceiling = parse_ceiling(["a.test", "*.b.test", "c.test:8443"], ["m.test"])
    for rule in (Rule("a.test"), Rule("a.test", (443,)), Rule("x.b.test"), Rule("*.b.test"), Rule("*.y.b.test"),
                 Rule("c.test"), Rule("c.test", (8443,)), Rule("m.test")):  # fmt: skip
        assert outside(rule, ceiling) == "", rule
    for rule in (Rule("b.test"), Rule("*.a.test"), Rule("*.test"), Rule("a.test", (22,)), Rule("c.test", (443,)),
                 Rule("xa.test"), Rule("m.test", passthrough=True)):  # fmt: skip
        assert rule.domain in outside(rule, ceiling), rule
    assert outside(Rule("any.test", (443,)), ANYTHING) == ""
    assert "port 22" in outside(Rule("any.test", (22,)), ANYTHING)
    assert outside(Rule("a.test"), ()) != ""


LABELS = st.sampled_from(["a", "b", "api", "example", "test"])
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
PATTERNS = NAMES | NAMES.map("*.{}".format)


@settings(deadline=None)
@given(st.lists(PATTERNS, max_size=4), st.lists(PATTERNS, max_size=4), NAMES)
def test_what_is_inside_the_ceiling_allows_no_more_than_the_ceiling(
    asked: list[str], ceiling: list[str], host: str
) -> None:
    above = parse_ceiling(ceiling, [])
    for domain in asked:
        if outside(Rule(domain), above) == "" and matches(domain, host):
            assert any(matches(rule.domain, host) for rule in above)
    allowed = decide(Policy(tuple(map(Rule, asked)), above), Destination(host, 443))
    expected = any(matches(d, host) for d in asked) and any(matches(rule.domain, host) for rule in above)
    assert isinstance(allowed, Allow) == expected


def test_domains_of_rules() -> None:
    assert parse_domain("*.Example.com") == "*.example.com"
    assert parse_domain("*", any_allowed=True) == "*"
    for bad in ("*", "*.com", "a.*.com", "*a.com", "**.a.com", "*.1.2.3.4", "http://a.com", "a.com/x", ""):
        with pytest.raises(BadHost):
            parse_domain(bad)
    assert parse_ceiling(["*:8443"], [])[0] == Rule("*", (8443,))
    assert parse_ceiling(["*.a.test:1"], [])[0] == Rule("*.a.test", (1,))
    for bad in ("*x", "a b", "a.test:x", "*.*"):
        with pytest.raises(BadHost):
            parse_ceiling([bad], [])


def test_which_addresses_are_dialled() -> None:
    for public in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8"):
        assert objection(public, private_allowed=False) == ""
    for private in (
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.9.9.9", "100.64.0.1", "198.18.0.1", "::1", "fd00::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
        "64:ff9b::10.0.0.1", "::10.0.0.1", "fec0::1", "192.0.2.1", "2001:db8::1",
    ):  # fmt: skip
        assert objection(private, private_allowed=False) == "private_address", private
        assert objection(private, private_allowed=True) == "", private
    for never in (
        "169.254.1.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "224.0.0.1", "::", "fe80::1", "ff02::1",
        "::ffff:169.254.169.254", "::ffff:0:a9fe:a9fe", "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::", "fe80::1%1",
        "64:ff9b:1::1", "2001:0:a00:1::", "x", "",
        *map(str, METADATA),
    ):  # fmt: skip
        assert objection(never, private_allowed=True) == "forbidden_address", never


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_carries(address: ipaddress.IPv4Address) -> None:
    plain = objection(str(address), private_allowed=False)
    assert objection(f"::ffff:{address}", private_allowed=False) == plain
    carried = objection(f"64:ff9b::{address}", private_allowed=False)
    assert carried == plain
