"""The network of a container, end to end: a real container, its relay, the proxy, and a server outside."""

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from ..conftest import Launch, Server, launched
from ..egress.world import Issuer
from ..rows import all_bytes
from .heard import listening

VALUE = "sk-live-Zq9/x+Y=7d1c-network-test"
HOSTS = ("api.test", "other.test", "denied.test")


class Echo(BaseHTTPRequestHandler):
    """Tells a client what it sent, as an API that should not would."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append(headers | {":path": self.path, ":method": self.command})
        body = json.dumps({"headers": headers, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("X-Echo", headers.get("authorization", ""))
        if "gzip" in self.path:  # although nobody asked for it
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for start in range(0, len(body), 7):
                self.wfile.write(body[start : start + 7])
                self.wfile.flush()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        return


class Outside:
    """A server with TLS and one without, both of which see what they were sent."""

    def __init__(self, issuer: Issuer) -> None:
        self.seen: list[dict[str, str]] = []
        handler = type("Seen", (Echo,), {"seen": self.seen})
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        context = issuer.server(*HOSTS)
        self.servers[0].socket = context.wrap_socket(self.servers[0].socket, server_side=True)
        self.tls_port, self.plain_port = (server.server_address[1] for server in self.servers)


@contextmanager
def outside(issuer: Issuer) -> Iterator[Outside]:
    found = Outside(issuer)
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in found.servers]
    for thread in threads:
        thread.start()
    yield found
    for server in found.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def world(issuer: Issuer) -> Iterator[Outside]:
    with outside(issuer) as found:
        yield found


def network_settings(world: Outside) -> dict[str, str]:
    allowed = [f"{host}:{port}" for host in HOSTS[:2] for port in (world.tls_port, world.plain_port)]
    return {
        "network_allowed_domains": ",".join([*allowed, "api.test"]),
        "network_hosts": ",".join(f"{host}=127.0.0.1" for host in HOSTS),
    }


@contextmanager
def trusting(issuer: Issuer, folder: Path) -> Iterator[None]:
    """Servers started inside trust the issuer, by the variable that OpenSSL reads."""
    bundle = folder / "trusted.pem"
    bundle.write_bytes(issuer.pem)
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(bundle)
    try:
        yield
    finally:
        del os.environ["SSL_CERT_FILE"]
        if before is not None:
            os.environ["SSL_CERT_FILE"] = before


@pytest.fixture(scope="module")
def networked(
    upstream_url: str, world: Outside, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("network")
    with trusting(issuer, folder), launched(folder / "data", upstream_url, **network_settings(world)) as running:
        yield running


@pytest.fixture(scope="module")
def client(networked: Server) -> OpenAI:
    return networked.client()


@pytest.fixture(scope="module")
def http(networked: Server) -> Iterator[httpx2.Client]:
    with networked.http() as opened:
        yield opened


def policy(*, value: str = VALUE, **extra: Any) -> dict[str, Any]:
    return {
        "type": "allowlist",
        "allowed_domains": ["api.test", "other.test"],
        "domain_secrets": [{"domain": "api.test", "name": "API_KEY", "value": value}],
        **extra,
    }


def shell(network_policy: Any) -> Any:
    return {"type": "shell", "environment": {"type": "container_auto", "network_policy": network_policy}}


def run(client: OpenAI, command: str, tool: Any, **more: Any) -> tuple[str, str, Any]:
    """Standard output, error and the response of one command."""
    response: Any = client.responses.create(model="m", input=f"@@ shell {command}", tools=[tool], **more)
    output = next(item for item in response.output if item.type == "shell_call_output")
    return output.output[0].stdout, output.output[0].stderr, response


def container_of(response: Any) -> str:
    return str(response.tools[0].to_dict()["environment"]["container_id"])


def is_searched(path: Path, container_id: str) -> bool:
    """Every file of an installation but the disks of other containers."""
    ours = path.name != "disk.img" or container_id in str(path) or "snapshots" in path.parts
    return ours and path.is_file() and not path.is_symlink()


def written(path: Path) -> Iterator[bytes]:
    """The parts of a file that hold data (lseek(2), SEEK_DATA): most of a disk image are holes.

    None of one that is gone: snapshots are being taken meanwhile.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        at, size = 0, os.fstat(file.fileno()).st_size
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            yield os.pread(file.fileno(), at - begin, begin)


def test_curl_reaches_an_allowed_host_with_a_secret_that_nobody_inside_sees(
    client: OpenAI, networked: Server, http: httpx2.Client, world: Outside
) -> None:
    url = f"https://api.test:{world.tls_port}/v1/things?q=1"
    command = f'curl -sSi -H "Authorization: Bearer $API_KEY" {url}; echo; echo "[$API_KEY]"'
    stdout, stderr, response = run(client, command, shell(policy()))
    assert stderr == ""
    assert world.seen[-1]["authorization"] == f"Bearer {VALUE}"
    placeholder = stdout.rsplit("[", 1)[1].rstrip("]\n")
    assert placeholder.startswith("deskhand-secret-")
    assert f"X-Echo: Bearer {placeholder}".lower() in stdout.lower()
    assert VALUE not in stdout
    listed = http.get(f"/v1/containers/{container_of(response)}/egress").json()
    (record,) = listed["data"]
    assert (record["host"], record["port"], record["method"], record["path"]) == (
        "api.test", world.tls_port, "GET", "/v1/things",
    )  # fmt: skip
    assert (record["decision"], record["status"], record["secrets"]) == ("allowed", 200, ["API_KEY"])
    assert record["response_id"] == response.id
    assert record["call_id"] == response.output[0].call_id


def test_a_compressed_echo_in_small_pieces_is_masked_as_well(client: OpenAI, world: Outside) -> None:
    command = f'curl -sS --compressed -H "Authorization: Bearer $API_KEY" https://api.test:{world.tls_port}/gzip'
    stdout, _, _ = run(client, command, shell(policy()))
    assert json.loads(stdout)["headers"]["authorization"].startswith("Bearer deskhand-secret-")


def test_basic_credentials_work_and_come_back_masked(client: OpenAI, world: Outside) -> None:
    stdout, _, _ = run(client, f'curl -sS -u "u:$API_KEY" https://api.test:{world.tls_port}/', shell(policy()))
    assert world.seen[-1]["authorization"] == "Basic " + base64.b64encode(f"u:{VALUE}".encode()).decode()
    assert base64.b64encode(f"u:{VALUE}".encode())[4:-4].decode() not in stdout


def test_python_reaches_an_allowed_host_through_the_relay(client: OpenAI, world: Outside) -> None:
    code = (
        "import os, urllib.request as u; "
        f"r = u.Request('https://api.test:{world.tls_port}/py', headers={{'X-Key': os.environ['API_KEY']}}); "
        "print(u.urlopen(r).status); "
        f"print(u.urlopen('http://api.test:{world.plain_port}/plain').status)"
    )
    stdout, stderr, _ = run(client, f'python3 -c "{code}"', shell(policy()))
    assert stdout == "200\n200\n", stderr
    assert [seen[":path"] for seen in world.seen[-2:]] == ["/py", "/plain"]
    assert world.seen[-2]["x-key"] == VALUE


def test_a_host_that_is_not_allowed_is_denied_in_words(
    client: OpenAI, networked: Server, http: httpx2.Client, world: Outside
) -> None:
    command = f"curl -sSi https://denied.test:{world.tls_port}/; curl -sSi http://denied.test/; echo $?"
    stdout, stderr, response = run(client, command, shell(policy()))
    assert "x-deskhand-egress: denied; reason=domain_not_allowed" in stdout
    assert "HTTP/1.1 403 Egress denied: domain_not_allowed" in stdout
    line = next(line for line in stdout.splitlines() if line.startswith("{"))
    assert json.loads(line)["allowed_domains"] == ["api.test", "other.test"]
    records = http.get(f"/v1/containers/{container_of(response)}/egress?order=asc").json()["data"]
    assert [(r["decision"], r["reason"], r["host"]) for r in records] == [
        ("denied", "domain_not_allowed", "denied.test")
    ] * 2
    assert "CONNECT" in stderr or "403" in stderr


def test_nothing_leaves_but_through_the_proxy(client: OpenAI, world: Outside) -> None:
    before = len(world.seen)
    probes = (
        f"curl -sS -m 3 --noproxy '*' https://api.test:{world.tls_port}/",
        f"curl -sS -m 3 --noproxy '*' http://127.0.0.1:{world.plain_port}/",
        "curl -sS -m 3 --noproxy '*' http://1.1.1.1/",
        "env -u HTTPS_PROXY -u https_proxy -u ALL_PROXY -u all_proxy curl -sS -m 3 https://api.test/",
        "python3 -c \"import socket; socket.getaddrinfo('api.test', 80)\"",
        "python3 -c \"import socket; s=socket.socket(2,2); s.sendto(b'x',('8.8.8.8',53))\"",
        "curl -sS -m 3 -x socks5h://127.0.0.1:3128 http://api.test/",
    )
    script = "; ".join(f"({probe}) >/dev/null 2>&1 && echo LEFT:{n}" for n, probe in enumerate(probes))
    stdout, _, _ = run(
        client, f"{script}; curl -sS http://api.test:{world.plain_port}/control | head -c 9", shell(policy())
    )
    assert stdout == '{"headers'
    assert [seen[":path"] for seen in world.seen[before:]] == ["/control"]


def test_a_container_without_a_policy_has_no_way_out(client: OpenAI, world: Outside) -> None:
    command = f"env | grep -ci proxy; ls -A /opt/egress; curl -sS -m 3 http://api.test:{world.plain_port}/; echo $?"
    for tool in (shell({"type": "disabled"}), {"type": "shell", "environment": {"type": "container_auto"}}):
        stdout, stderr, _ = run(client, command, tool)
        assert stdout.splitlines()[0] == "0"
        assert stdout.splitlines()[-1] != "0"
        assert "resolve" in stderr


def test_a_secret_is_not_sent_elsewhere(client: OpenAI, world: Outside) -> None:
    before = len(world.seen)
    commands = (
        f'curl -sS -H "Authorization: $API_KEY" https://other.test:{world.tls_port}/',
        f'curl -sS -H "Authorization: $API_KEY" http://api.test:{world.plain_port}/',
        f'curl -sS "https://api.test:{world.tls_port}/?k=$API_KEY"',
    )
    stdout, _, _ = run(client, "; ".join(commands), shell(policy()))
    assert [json.loads(line)["reason"] for line in stdout.splitlines()] == ["secret_misplaced"] * 3
    assert len(world.seen) == before
    other, _, _ = run(client, f"curl -sS https://other.test:{world.tls_port}/ok | head -c 9", shell(policy()))
    assert other == '{"headers'


def test_the_value_is_nowhere(client: OpenAI, networked: Server, http: httpx2.Client, world: Outside) -> None:
    value = "grep-for-me-5f1e7a90b2"
    command = (
        f'curl -sS -H "X: $API_KEY" https://api.test:{world.tls_port}/; env; '
        "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat /opt/egress/*.pem | head -c 300; "
        f"grep -rsl {value[:-1]}[2] / --include='*' --exclude-dir=proc --exclude-dir=usr; echo"
    )
    stdout, stderr, response = run(client, command, shell(policy(value=value)))
    assert world.seen[-1]["x"] == value
    assert "API_KEY=deskhand-secret-" in stdout
    assert value not in stdout + stderr
    container_id = container_of(response)
    for address in (
        f"/v1/responses/{response.id}",
        f"/v1/responses/{response.id}/input_items",
        f"/v1/containers/{container_id}",
        f"/v1/containers/{container_id}/egress",
        f"/v1/containers/{container_id}/egress?format=jsonl",
    ):
        answer = http.get(address)
        assert answer.status_code == 200
        assert value not in answer.text, address
    spelled = [value.encode(), base64.b64encode(value.encode())[:-4]]
    searched = [networked.log, *(path for path in networked.data_dir.rglob("*") if is_searched(path, container_id))]
    assert {"disk.img", networked.log.name} <= {path.name for path in searched}
    assert not any(word in all_bytes(networked.data_dir) for word in spelled)
    for path in searched:
        assert not any(word in data for data in written(path) for word in spelled), path
    with networked.rows() as rows:
        sealed = rows.execute(
            "SELECT name, domain, length(sealed) FROM container_secrets WHERE container_id = ?", (container_id,)
        ).fetchall()
    assert sealed == [("API_KEY", "api.test", len(value) + 1 + 4 + 12 + 16)]
    client.containers.delete(container_id)
    with networked.rows() as rows:
        left = rows.execute("SELECT count(*) FROM container_secrets WHERE container_id = ?", (container_id,)).fetchone()
    assert left == (0,)
    assert http.get(f"/v1/containers/{container_id}/egress").json()["data"]


def test_the_keys_of_the_installation_are_the_servers_alone(networked: Server) -> None:
    for name in ("secret_key", "egress_ca.pem"):
        assert (networked.data_dir / name).stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" in (networked.data_dir / "egress_ca.pem").read_bytes()


def test_the_model_is_told_hosts_and_names_of_secrets(world: Outside, tmp_path: Path) -> None:
    with (
        listening() as upstream,
        launched(tmp_path / "data", upstream.url, **network_settings(world)) as server,
        server.http() as http,
    ):

        def told(network_policy: Any) -> str:
            body = {"model": "m", "input": "@@ say ok", "tools": [shell(network_policy)]}
            assert http.post("/v1/responses", json=body).status_code == 200
            return json.dumps(upstream.requests[-1].body)

        words = told(policy(rules=[{"domain": "other.test", "methods": ["get"], "path_prefixes": ["/v1"]}]))
        assert "limited to these hosts" in words
        assert "api.test, other.test (GET, /v1)" in words
        assert "$API_KEY for api.test" in words
        assert VALUE not in words
        for other in (None, {"type": "disabled"}):
            assert "Network access is off." in told(other)


def test_a_container_resource_shows_its_domains_and_no_secret(client: OpenAI) -> None:
    made: Any = client.containers.create(name="n", network_policy=policy())  # type: ignore[arg-type]
    wanted = {"type": "allowlist", "allowed_domains": ["api.test", "other.test"]}
    assert made.network_policy.to_dict() == wanted
    assert client.containers.retrieve(made.id).to_dict()["network_policy"] == wanted
    plain = client.containers.create(name="n")
    assert plain.to_dict()["network_policy"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"allowed_domains": ["api.test", "evil.test"], "domain_secrets": None}, "evil.test"),
        ({"allowed_domains": ["*.test"], "domain_secrets": None}, "*.test"),
        ({"allowed_domains": ["*"], "domain_secrets": None}, "'*'"),
        ({"allowed_domains": ["http://api.test"], "domain_secrets": None}, "http://api.test"),
        ({"allowed_domains": ["api.test"], "rules": [{"domain": "api.test", "ports": [22]}]}, "port 22"),
        ({"rules": [{"domain": "elsewhere.test"}]}, "elsewhere.test"),
        ({"rules": [{"domain": "api.test", "passthrough": True}]}, "passthrough"),
        ({"domain_secrets": [{"domain": "evil.test", "name": "A", "value": "v"}]}, "evil.test"),
        ({"domain_secrets": [{"domain": "api.test", "name": "PATH", "value": "v"}]}, "PATH"),
        ({"domain_secrets": [{"domain": "api.test", "name": "https_proxy", "value": "v"}]}, "https_proxy"),
        ({"domain_secrets": [{"domain": "api.test", "name": "1A", "value": "v"}]}, "digit"),
        ({"domain_secrets": [{"domain": "api.test", "name": "A", "value": "sesame\r\nX: 1"}]}, "line breaks"),
        ({"domain_secrets": [{"domain": "api.test", "name": "A", "value": "sesame" * 20_000}]}, "bytes"),
        ({"allowed_domains": []}, "allowed_domains"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_says_what(http: httpx2.Client, change: Any, words: str) -> None:
    body = {key: value for key, value in (policy() | change).items() if value is not None}
    for answer in (
        http.post("/v1/containers", json={"name": "n", "network_policy": body}),
        http.post("/v1/responses", json={"model": "m", "input": "hi", "tools": [shell(body)]}),
    ):
        assert answer.status_code == 400, answer.text
        assert words in answer.text
        assert "network_policy" in answer.json()["error"]["param"]
        assert "sesame" not in answer.text


def test_without_a_ceiling_there_is_no_network(launch: Launch) -> None:
    with pytest.raises(openai.BadRequestError, match="operator"):
        launch().client().containers.create(
            name="n", network_policy={"type": "allowlist", "allowed_domains": ["example.com"]}
        )


def test_another_value_for_a_secret_reaches_a_container_that_runs(
    client: OpenAI, networked: Server, http: httpx2.Client, world: Outside
) -> None:
    command = f'curl -sS -H "X: $API_KEY" https://api.test:{world.tls_port}/'
    stdout, _, first = run(client, command, shell(policy()))
    container_id = container_of(first)
    answer = http.post(f"/v1/containers/{container_id}/secrets", json={"name": "API_KEY", "value": "fresh-value-123"})
    assert answer.json() == {
        "container_id": container_id, "name": "API_KEY", "domains": ["api.test"], "object": "container.secret",
    }  # fmt: skip
    reference = {"type": "shell", "environment": {"type": "container_reference", "container_id": container_id}}
    again, _, _ = run(client, command, reference)
    assert world.seen[-1]["x"] == "fresh-value-123"
    assert again == stdout
    for body, status in (({"name": "OTHER", "value": "x"}, 404), ({"name": "API_KEY", "value": "a\nb"}, 400)):
        assert http.post(f"/v1/containers/{container_id}/secrets", json=body).status_code == status


def test_a_conversation_keeps_its_container_as_long_as_it_keeps_its_policy(client: OpenAI, world: Outside) -> None:
    _, _, first = run(client, "echo kept > f", shell(policy()))
    fresh = f'cat f; curl -sS -H "X: $API_KEY" https://api.test:{world.tls_port}/ -o /dev/null'
    stdout, _, second = run(client, fresh, shell(policy(value="value-of-turn-2")), previous_response_id=first.id)
    assert stdout == "kept\n"
    assert world.seen[-1]["x"] == "value-of-turn-2"
    plain: Any = {"type": "shell", "environment": {"type": "container_auto"}}
    third, _, _ = run(client, "cat f; env | grep -c API_KEY", plain, previous_response_id=second.id)
    assert third == "0\n"


def test_records_come_in_pages_and_as_lines(
    client: OpenAI, networked: Server, http: httpx2.Client, world: Outside
) -> None:
    urls = " ".join(f"http://api.test:{world.plain_port}/{n}" for n in range(5))
    _, _, response = run(client, f"for u in {urls}; do curl -sS $u -o /dev/null; done", shell(policy()))
    path = f"/v1/containers/{container_of(response)}/egress"
    first = http.get(path, params={"order": "asc", "limit": 2}).json()
    assert [r["path"] for r in first["data"]] == ["/0", "/1"]
    assert first["has_more"] is True
    rest = http.get(path, params={"order": "asc", "after": first["last_id"]}).json()
    assert [r["path"] for r in rest["data"]] == ["/2", "/3", "/4"]
    for lines in (http.get(path, params={"format": "jsonl"}), http.get(path, headers={"accept": "application/jsonl"})):
        assert lines.headers["content-type"].startswith("application/jsonl")
        assert [json.loads(line)["path"] for line in lines.text.splitlines()] == [f"/{n}" for n in range(5)]
    assert http.get("/v1/containers/cntr_none/egress").status_code == 404


def test_a_restarted_server_lets_its_containers_out_again_with_their_secrets(
    launch: Launch, world: Outside, issuer: Issuer, tmp_path: Path
) -> None:
    with trusting(issuer, tmp_path):
        first = launch(**network_settings(world))
        loop = f'while :; do curl -s -H "X: $API_KEY" https://api.test:{world.tls_port}/beat; sleep 0.2; done'
        _, _, response = run(first.client(), f"({loop}) > beats 2>&1 & echo ok", shell(policy()))
        first.process.kill()
        first.process.wait()
        before = len(world.seen)
        second = launch(**network_settings(world))
        for _ in range(100):
            if any(seen.get("x") == VALUE for seen in world.seen[before:]):
                break
            threading.Event().wait(0.1)
        assert any(seen.get("x") == VALUE for seen in world.seen[before:])
        with second.http() as http:
            for _ in range(100):
                records = http.get(f"/v1/containers/{container_of(response)}/egress").json()["data"]
                if any(record["response_id"] is None for record in records):
                    break
                threading.Event().wait(0.1)
        assert any(record["response_id"] is None and record["secrets"] == ["API_KEY"] for record in records)


def test_while_the_server_is_down_nothing_leaves(
    launch: Launch, world: Outside, issuer: Issuer, tmp_path: Path
) -> None:
    with trusting(issuer, tmp_path):
        server = launch(**network_settings(world))
        loop = f"while :; do curl -s -m 1 http://api.test:{world.plain_port}/down; sleep 0.1; done"
        run(server.client(), f"({loop}) > beats 2>&1 & sleep 1; echo ok", shell(policy()))
        assert any(seen[":path"] == "/down" for seen in world.seen)
        server.process.kill()
        server.process.wait()
        threading.Event().wait(0.3)
        before = len(world.seen)
        threading.Event().wait(1.0)
        assert len(world.seen) == before


def test_python_in_the_interpreter_has_the_same_way_out(client: OpenAI, world: Outside) -> None:
    code = f"import urllib.request as u; print(u.urlopen('https://api.test:{world.tls_port}/cell').status)"
    tool: Any = {"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy()}}
    response: Any = client.responses.create(
        model="m",
        input=f"@@ python <<END\n{code}\nEND",
        tools=[tool],
        include=["code_interpreter_call.outputs"],
    )
    call = next(item for item in response.output if item.type == "code_interpreter_call")
    assert [output.logs for output in call.outputs] == ["200\n"]
    assert world.seen[-1][":path"] == "/cell"
    assert VALUE not in json.dumps(response.to_dict())


def test_a_fork_has_the_policy_and_not_the_secrets(client: OpenAI, http: httpx2.Client, world: Outside) -> None:
    _, _, first = run(client, 'echo "$API_KEY" > placeholder', shell(policy()))
    forked = http.post(f"/v1/containers/{container_of(first)}/fork", json={})
    assert forked.status_code == 200, forked.text
    assert forked.json()["network_policy"]["allowed_domains"] == ["api.test", "other.test"]
    reference = {"type": "shell", "environment": {"type": "container_reference", "container_id": forked.json()["id"]}}
    command = (
        f'env | grep -c API_KEY; curl -sS -H "X: $(cat placeholder)" https://api.test:{world.tls_port}/ -o /dev/null'
    )
    stdout, stderr, _ = run(client, command, reference)
    assert (stdout, stderr) == ("0\n", "")
    assert world.seen[-1]["x"].startswith("deskhand-secret-")


def test_the_command_line_lists_and_exports(client: OpenAI, networked: Server, world: Outside) -> None:
    _, _, response = run(client, f"curl -sS http://api.test:{world.plain_port}/cli -o /dev/null", shell(policy()))
    environ = {**os.environ, "DESKHAND_API_KEY": "sk-test", "COLUMNS": "200"}

    def deskhand(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "deskhand", "egress", *words, "--url", networked.url]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    listed = deskhand("ls", container_of(response))
    assert f"api.test:{world.plain_port}/cli" in listed.stdout, listed.stderr
    exported = deskhand("export", container_of(response))
    assert [json.loads(line)["path"] for line in exported.stdout.splitlines()] == ["/cli"]
    missing = deskhand("ls", "cntr_none")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "not found" in missing.stderr


def test_another_project_sees_nothing(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "keys.toml"
    config.write_text('[[keys]]\nkey = "sk-a"\nproject = "a"\n[[keys]]\nkey = "sk-b"\nproject = "b"\n')
    server = launch(config=str(config), network_allowed_domains="api.test")
    made = server.client("sk-a").containers.create(name="n", network_policy=policy(allowed_domains=["api.test"]))  # type: ignore[arg-type]
    with server.http("sk-a") as mine, server.http("sk-b") as theirs:
        path = f"/v1/containers/{made.id}"
        assert mine.get(f"{path}/egress").json()["data"] == []
        assert theirs.get(f"{path}/egress").status_code == 404
        body = {"name": "API_KEY", "value": "other"}
        assert theirs.post(f"{path}/secrets", json=body).status_code == 404
        assert mine.post(f"{path}/secrets", json=body).status_code == 200
