"""What the proxy lets out and what it does not, through real sockets and TLS."""

import asyncio
import base64
import json
import ssl
from dataclasses import replace

import pytest

from deskhand.egress.policy import Policy, Rule

from .world import KEY, PLACEHOLDER, VALUE, World

pytestmark = pytest.mark.anyio


def limit(world: World, **bounds: int) -> None:
    """Give the container other bounds."""
    world.gate._proxy = replace(world.proxy, bounds=replace(world.proxy.bounds, **bounds))


async def test_a_request_to_an_allowed_host_arrives_with_its_secret_and_is_recorded(world: World) -> None:
    answer = await world.get("/a?token=x", "ok.test", f"Authorization: Bearer {PLACEHOLDER}", "X-Kept: yes")
    assert (answer.status, answer.body) == (200, b"hi")
    (request,) = world.tls.requests
    assert f"authorization: Bearer {VALUE}".encode() in request
    assert b"x-kept: yes" in request.lower()
    assert PLACEHOLDER.encode() not in request
    (record,) = await world.records()
    assert (record.host, record.port, record.method, record.path) == ("ok.test", world.tls.port, "GET", "/a")
    assert (record.decision, record.rule, record.status, record.verified) == ("allowed", "ok.test", 200, True)
    assert (record.secrets, record.bytes_in, record.bytes_out) == (("API_KEY",), len(world.tls.answer), len(request))
    assert (record.owner, record.container_id, record.response_id, record.call_id) == (
        "proj", "cntr_1", "resp_1", "call_1",
    )  # fmt: skip


async def test_basic_credentials_hold_secrets_as_well(world: World) -> None:
    given = base64.b64encode(f"git:{PLACEHOLDER}".encode()).decode()
    await world.get("/", "ok.test", f"Authorization: Basic {given}")
    wanted = base64.b64encode(f"git:{VALUE}".encode())
    assert b"Basic " + wanted in world.tls.requests[0]


@pytest.mark.parametrize("host", ["denied.test", "sub.ok.test", "evilok.test", "ok.test.evil.test", "127.0.0.1"])
async def test_other_hosts_are_denied_before_anything_is_resolved(world: World, host: str) -> None:
    tunnel = await world.connect(f"{host}:443")
    assert tunnel.answer.status == 403
    assert tunnel.answer.headers["x-deskhand-egress"] == "denied; reason=domain_not_allowed; rule="
    told = json.loads(tunnel.answer.body)
    assert tunnel.answer.body.count(b"\n") == 1
    assert (told["error"], told["reason"], told["host"]) == ("egress_denied", "domain_not_allowed", host)
    assert "ok.test" in told["allowed_domains"]
    assert world.resolved == []
    (record,) = await world.records()
    assert (record.decision, record.reason, record.status) == ("denied", "domain_not_allowed", 403)


async def test_other_ports_are_denied(world: World) -> None:
    for port in (22, 25, 53, 3306):
        assert (await world.connect(f"ok.test:{port}")).answer.status == 403
    assert {record.reason for record in await world.records()} == {"port_not_allowed"}


async def test_hosts_are_compared_in_one_form(world: World) -> None:
    port = world.tls.port
    assert (await world.connect(f"OK.Test.:{port}")).answer.status == 200
    for bad in (f"ok.test%00.evil:{port}", f"user@ok.test:{port}", "ok.test", "ok.test:0", "ok.test:99999", "[::1:443"):
        assert (await world.connect(bad)).answer.status == 400, bad
    for number in ("2130706433", "0x7f.1", "127.1"):
        assert (await world.connect(f"{number}:{port}")).answer.status == 400
    assert world.tls.connections == 0


@pytest.mark.parametrize("sni", ["other.test", "evil.test"])
async def test_tls_must_name_the_host_of_connect(world: World, sni: str) -> None:
    tunnel = await world.connect(f"ok.test:{world.tls.port}")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await tunnel.start_tls(world.client_trust(), sni)
    (record,) = await world.records()
    assert (record.decision, record.reason) == ("denied", "sni_mismatch")
    assert world.tls.connections == 0


async def test_tls_without_a_name_is_refused(world: World) -> None:
    tunnel = await world.connect(f"ok.test:{world.tls.port}")
    context = world.client_trust()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError):
        await tunnel.start_tls(context, "")
    assert [record.reason for record in await world.records()] == ["sni_mismatch"]


@pytest.mark.parametrize("host", ["other.test", "ok.test:1", "evil.test", ""])
async def test_the_host_header_must_name_the_host_of_connect(world: World, host: str) -> None:
    answer = await world.https(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == (421 if host else 400)
    assert answer.headers["connection"] == "close"
    assert world.tls.requests == []


async def test_a_name_that_resolves_to_a_private_address_is_denied(world: World) -> None:
    port = world.tls.port
    for addresses in (["10.0.0.1"], ["127.0.0.1"], ["8.8.8.8", "192.168.1.1"], ["::ffff:10.1.1.1"], ["fd00::1"]):
        world.names["rebound.test"] = addresses
        answer = await world.https(f"GET / HTTP/1.1\r\nHost: rebound.test:{port}\r\n\r\n".encode(), "rebound.test")
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "private_address"), addresses
        assert addresses[-1].encode() not in answer.body
    world.names["rebound.test"] = ["169.254.169.254"]
    answer = await world.https(f"GET / HTTP/1.1\r\nHost: rebound.test:{port}\r\n\r\n".encode(), "rebound.test")
    assert json.loads(answer.body)["reason"] == "forbidden_address"
    assert world.tls.connections == 0


async def test_a_name_is_resolved_and_checked_again_for_every_connection(world: World) -> None:
    port = world.tls.port
    request = f"GET / HTTP/1.1\r\nHost: rebound.test:{port}\r\n\r\n".encode()
    world.names["rebound.test"] = ["127.0.0.1"]
    world.private.add("rebound.test")  # the operator's word for this name
    assert (await world.https(request, "rebound.test")).status == 502  # the certificate is for other names
    world.private.clear()
    assert (await world.https(request, "rebound.test")).status == 403
    assert world.resolved == ["rebound.test"] * 2


async def test_a_redirect_is_judged_anew(world: World) -> None:
    world.tls.answer = b"HTTP/1.1 302 Found\r\nLocation: https://denied.test/\r\nContent-Length: 0\r\n\r\n"
    answer = await world.get()
    assert (answer.status, answer.headers["location"]) == (302, "https://denied.test/")
    assert (await world.connect("denied.test:443")).answer.status == 403


async def test_plain_http_goes_by_absolute_urls_and_never_carries_a_secret(world: World) -> None:
    port = world.plain.port
    good = await world.raw(
        f"GET http://ok.test:{port}/p HTTP/1.1\r\nHost: ok.test:{port}\r\nConnection: close\r\n\r\n".encode()
    )
    assert good.startswith(b"HTTP/1.1 200")
    assert world.plain.requests[0].startswith(b"GET /p HTTP/1.1\r\n")
    bad = await world.raw(
        f"GET http://ok.test:{port}/p HTTP/1.1\r\nHost: ok.test:{port}\r\nX: {PLACEHOLDER}\r\n\r\n".encode()
    )
    assert bad.startswith(b"HTTP/1.1 403")
    assert b"secret_misplaced" in bad
    swapped = await world.raw(f"GET http://ok.test:{port}/ HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n".encode())
    assert swapped.startswith(b"HTTP/1.1 421")
    assert len(world.plain.requests) == 1


async def test_a_secret_goes_to_its_own_host_only(world: World) -> None:
    answer = await world.get("/", "other.test", f"Authorization: Bearer {PLACEHOLDER}")
    assert (answer.status, json.loads(answer.body)["reason"]) == (403, "secret_misplaced")
    assert "API_KEY" in json.loads(answer.body)["message"]
    in_url = await world.get(f"/?key={PLACEHOLDER}")
    assert in_url.status == 403
    assert world.tls.requests == []
    assert (await world.get("/", "other.test", "Authorization: Bearer mine")).status == 200


async def test_a_secret_that_was_exchanged_is_used_at_once(world: World) -> None:
    header = f"Authorization: Bearer {PLACEHOLDER}"
    await world.get("/", "ok.test", header)
    fresh = type(KEY)(KEY.name, KEY.domain, KEY.placeholder, b"fresh-value-42")
    world.door.vault = world.door.vault.updated([fresh])
    world.tls.answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(VALUE)}\r\n\r\n{VALUE}".encode()
    answer = await world.get("/", "ok.test", header)
    assert b"Bearer fresh-value-42" in world.tls.requests[1]
    assert answer.body == PLACEHOLDER.encode()  # the old value is still masked


async def test_a_connection_serves_many_requests_and_each_is_judged(world: World) -> None:
    port = world.tls.port
    tunnel = await world.connect(f"ok.test:{port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    for _ in range(3):
        assert (await tunnel.request(f"GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode())).status == 200
    assert world.tls.connections == 1
    assert (await tunnel.request(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")).status == 421
    assert len(await world.records()) == 4


async def test_an_idle_connection_that_the_other_side_closed_is_made_again(world: World) -> None:
    port = world.tls.port
    world.tls.close = True
    tunnel = await world.connect(f"ok.test:{port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    for _ in range(3):
        answer = await tunnel.request(f"GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode())
        assert answer.body == b"hi"
    assert world.tls.connections == 3


async def test_bodies_pass_in_both_directions(world: World) -> None:
    port = world.tls.port
    body = bytes(range(256)) * 4000
    head = f"POST / HTTP/1.1\r\nHost: ok.test:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    world.tls.pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n"]
    answer = await world.https(head + body)
    assert answer.body == b"abcde"
    assert world.tls.requests[0].endswith(body)
    (record,) = await world.records()
    assert (record.bytes_out, record.bytes_in) == (len(world.tls.requests[0]), sum(map(len, world.tls.pieces)))
    chunked = f"POST / HTTP/1.1\r\nHost: ok.test:{port}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    await world.https(chunked.encode())
    assert world.tls.requests[1].endswith(b"abc")


async def test_expect_is_answered_by_the_proxy(world: World) -> None:
    port = world.tls.port
    tunnel = await world.connect(f"ok.test:{port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    head = f"POST / HTTP/1.1\r\nHost: ok.test:{port}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    tunnel.writer.write(head.encode())
    assert (await tunnel.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    assert (await tunnel.request(b"abc")).status == 200
    assert b"expect" not in world.tls.requests[0].lower()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nHost: other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nX: a\r\n b\r\nY : z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: ok.test:PORT\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test:PORT\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET https://ok.test/ HTTP/1.1\r\nHost: ok.test:PORT\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_is_not_passed_on(world: World, head: bytes) -> None:
    answer = await world.https(head.replace(b"PORT", str(world.tls.port).encode()))
    assert answer.status in (400, 431, 501)
    assert world.tls.requests == []
    (record,) = await world.records()
    assert (record.decision, record.host, record.port) == ("denied", "ok.test", world.tls.port)
    assert (await world.get()).status == 200


@pytest.mark.parametrize("connection", ["keep-alive", "content-length", "Content-Length, host"])
async def test_a_smuggled_request_arrives_as_the_body_that_it_is(world: World, connection: str) -> None:
    port = world.tls.port
    inner = b"GET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n"
    fields = f"Host: ok.test:{port}\r\nConnection: {connection}\r\nContent-Length: {len(inner)}\r\n"
    await world.https(f"POST / HTTP/1.1\r\n{fields}\r\n".encode() + inner)
    assert len(world.tls.requests) == 1
    assert world.tls.requests[0].endswith(inner)


async def test_headers_of_one_connection_stay_there(world: World) -> None:
    await world.get(
        "/", "ok.test", "Connection: X-Secretly", "X-Secretly: 1", "Proxy-Authorization: Basic eDp5", "TE: trailers"
    )
    for name in (b"x-secretly", b"proxy-authorization", b"te:", b"connection"):
        assert name not in world.tls.requests[0].lower()


async def test_a_mirror_gets_no_credentials_and_no_body(world: World) -> None:
    port = world.tls.port
    world.door.policy = Policy((Rule("ok.test", (port,), mirror=True),), world.door.policy.ceiling)
    assert (
        await world.get("/simple/", "ok.test", "Authorization: Bearer mine", "Cookie: a=b", "X-Kept: 1")
    ).status == 200
    sent = world.tls.requests[0].lower()
    assert b"authorization" not in sent
    assert b"cookie" not in sent
    assert b"x-kept" in sent
    body = f"Host: ok.test:{port}\r\nContent-Length: 3\r\n\r\nabc"
    for method in ("POST", "PUT", "DELETE", "GET"):
        answer = await world.https(f"{method} / HTTP/1.1\r\n{body}".encode())
        assert answer.status == 403
    assert [record.reason for record in await world.records()][1:] == ["method_not_allowed"] * 3 + ["body_not_allowed"]
    assert len(world.tls.requests) == 1


async def test_methods_and_paths_are_judged_behind_tls(world: World) -> None:
    port = world.tls.port
    rule = Rule("ok.test", (port,), methods=("GET",), path_prefixes=("/v1/",))
    world.door.policy = Policy((rule,), world.door.policy.ceiling)
    disguises = ("X-HTTP-Method-Override: DELETE", "X_Http_Method-Override: DELETE", "X-Original-URL: /admin")
    assert (await world.get("/v1/x", "ok.test", *disguises, "X-Rewrite-Url: /admin", "X-Kept: 1")).status == 200
    assert b"x-kept" in world.tls.requests[0]
    for word in (b"override", b"url", b"delete", b"admin"):
        assert word not in world.tls.requests[0].lower()
    for path in ("/", "/v1/../admin", "/v1/%2e%2e/admin"):
        assert (await world.get(path)).status == 403
    answer = await world.https(f"DELETE /v1/x HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode())
    assert (answer.status, json.loads(answer.body)["rule"]) == (403, "ok.test")
    assert len(world.tls.requests) == 1


async def test_what_is_sent_without_waiting_for_the_tunnel_is_not_lost(world: World) -> None:
    port = world.plain.port
    connect = f"CONNECT ok.test:{port} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n"
    request = f"GET /early HTTP/1.1\r\nHost: ok.test:{port}\r\nConnection: close\r\n\r\n"
    answer = await world.raw((connect + request).encode())
    assert answer.startswith(b"HTTP/1.1 200 Connection established")
    assert answer.endswith(b"hi") or b"\r\nhi\r\n" in answer
    assert world.plain.requests[0].startswith(b"GET /early")


async def test_requests_that_come_together_are_answered_one_after_another(world: World) -> None:
    port = world.plain.port
    one, two = (f"GET http://ok.test:{port}/{n} HTTP/1.1\r\nHost: ok.test:{port}\r\n" for n in (1, 2))
    answer = await world.raw(f"{one}\r\n{two}Connection: close\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 200") == 2
    assert [request.split()[1] for request in world.plain.requests] == [b"/1", b"/2"]


async def test_endless_interim_answers_end(world: World) -> None:
    world.tls.answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert (await world.get()).status == 200
    world.tls.answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000
    assert (await world.get()).status == 502


async def test_trace_is_never_passed_on(world: World) -> None:
    port = world.tls.port
    answer = await world.https(f"TRACE / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode())
    assert answer.status == 405
    assert world.tls.requests == []


async def test_only_tls_goes_to_port_443(world: World) -> None:
    tunnel = await world.connect("ok.test:443")
    tunnel.writer.write(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n")
    assert await tunnel.reader.read() == b""
    assert [record.reason for record in await world.records()] == ["not_tls"]


async def test_plain_http_in_a_tunnel_is_checked_like_any(world: World) -> None:
    tunnel = await world.connect(f"ok.test:{world.plain.port}")
    assert (await tunnel.request(f"GET /x HTTP/1.1\r\nHost: ok.test:{world.plain.port}\r\n\r\n".encode())).status == 200
    assert (await tunnel.request(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")).status == 421


async def test_a_passthrough_shows_the_hosts_own_certificate_and_is_recorded_as_unverified(world: World) -> None:
    port = world.tls.port
    tunnel = await world.connect(f"tunnel.test:{port}")
    await tunnel.start_tls(world.issuer.trust(), "tunnel.test")
    answer = await tunnel.request(f"GET / HTTP/1.1\r\nHost: anything\r\nX: {PLACEHOLDER}\r\n\r\n".encode())
    assert answer.body == b"hi"
    assert PLACEHOLDER.encode() in world.tls.requests[0]
    tunnel.writer.close()
    (record,) = await world.records()
    assert (record.method, record.verified, record.decision) == ("CONNECT", False, "allowed")
    assert record.bytes_in > 0 < record.bytes_out


@pytest.mark.parametrize("sni", ["ok.test", "evil.test"])
async def test_a_passthrough_must_name_its_host_in_tls(world: World, sni: str) -> None:
    tunnel = await world.connect(f"tunnel.test:{world.tls.port}")
    with pytest.raises((ssl.SSLError, OSError)):
        await tunnel.start_tls(world.issuer.trust(), sni)
    assert world.tls.connections == 0
    assert [record.reason for record in await world.records()] == ["sni_mismatch"]


async def test_a_passthrough_is_for_tls_only(world: World) -> None:
    tunnel = await world.connect(f"tunnel.test:{world.tls.port}")
    tunnel.writer.write(b"SSH-2.0-x\r\n")
    assert await tunnel.reader.read() == b""
    assert world.tls.connections == 0


async def test_an_upstream_with_a_bad_certificate_is_not_spoken_to(world: World) -> None:
    world.names["rebound.test"] = ["127.0.0.1"]
    world.private.add("rebound.test")
    answer = await world.get("/", "rebound.test")
    assert (answer.status, json.loads(answer.body)["reason"]) == (502, "upstream_certificate")
    assert world.tls.requests == []


async def test_an_upstream_that_breaks_off_is_a_failure_and_half_an_answer_is_not_a_whole_one(world: World) -> None:
    world.tls.answer, world.tls.close = b"", True
    answer = await world.get()
    assert (answer.status, json.loads(answer.body)["error"]) == (502, "egress_failed")
    world.tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    with pytest.raises((asyncio.IncompleteReadError, OSError, ValueError)):
        await world.get()
    assert [record.reason for record in await world.records()] == ["upstream_broken", "broken_off"]


async def test_an_upstream_that_nobody_answers_is_a_failure(world: World) -> None:
    answer = await world.https(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", port=443)
    assert (answer.status, json.loads(answer.body)["reason"]) == (502, "upstream_unreachable")


async def test_a_websocket_passes_where_requests_do(world: World) -> None:
    port = world.tls.port
    world.tls.answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x19"
        + VALUE.encode()
    )
    tunnel = await world.connect(f"ok.test:{port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    asked = (
        f"GET /ws HTTP/1.1\r\nHost: ok.test:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {PLACEHOLDER}\r\n\r\n"
    )
    tunnel.writer.write(asked.encode())
    assert (await tunnel.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await tunnel.reader.readexactly(2 + len(VALUE)) == b"\x81\x19" + b"*" * len(VALUE)
    assert VALUE.encode() in world.tls.requests[0]
    assert b"extensions" not in world.tls.requests[0].lower()
    tunnel.writer.write(b"\x81\x80ping\r\n\r\n")
    await asyncio.sleep(0.1)
    assert world.tls.requests[1].endswith(b"ping\r\n\r\n")


async def test_a_message_that_ends_as_a_value_begins_is_not_waited_for(world: World) -> None:
    world.tls.answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05your "
        + b"\x81\x06" + VALUE[:6].encode()
    )  # fmt: skip
    tunnel = await world.connect(f"ok.test:{world.tls.port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    switch = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    tunnel.writer.write(f"GET /ws HTTP/1.1\r\nHost: ok.test:{world.tls.port}\r\n{switch}\r\n".encode())
    async with asyncio.timeout(5):
        await tunnel.reader.readuntil(b"\r\n\r\n")
        assert await tunnel.reader.readexactly(15) == b"\x81\x05your \x81\x06" + VALUE[:6].encode()


async def test_other_upgrades_are_not_passed_on(world: World) -> None:
    await world.get("/", "ok.test", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMA")
    assert b"upgrade" not in world.tls.requests[0].lower()
    assert b"http2-settings" not in world.tls.requests[0].lower()


async def test_one_container_has_so_many_connections_and_no_more(world: World) -> None:
    held = [await world.dial() for _ in range(8)]
    await asyncio.sleep(0.05)
    refused = await world.raw(b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 503")
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert (await world.get()).status == 200


async def test_a_container_makes_as_many_attempts_as_are_recorded(world: World) -> None:
    world.door.attempts = world.proxy.bounds.container_records - 2
    port = world.tls.port
    tunnel = await world.connect(f"ok.test:{port}")
    await tunnel.start_tls(world.client_trust(), "ok.test")
    request = f"GET / HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n".encode()
    assert (await tunnel.request(request)).status == 200
    answer = await tunnel.request(request)
    assert (answer.status, json.loads(answer.body)["reason"]) == (403, "record_limit")
    assert (await world.raw(b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n")).startswith(b"HTTP/1.1 503")
    assert len(await world.records()) == 1


async def test_a_container_moves_as_many_bytes_as_it_may(world: World) -> None:
    await world.get()
    one = len(world.tls.requests[0]) + len(world.tls.answer)
    world.door.spent = 0
    limit(world, container_bytes=2 * one)
    assert [(await world.get()).status for _ in range(3)] == [200, 200, 403]
    assert [record.reason for record in await world.records()] == ["", "", "", "byte_limit"]


async def test_a_closed_gate_cuts_what_is_open_and_lets_nothing_in(world: World) -> None:
    tunnel = await world.connect(f"tunnel.test:{world.tls.port}")
    await tunnel.start_tls(world.issuer.trust(), "tunnel.test")
    await world.gate.close()
    assert await tunnel.reader.read() == b""
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        await asyncio.open_unix_connection(str(world.socket))
    assert world.door.connections == 0
