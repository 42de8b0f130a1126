"""The usual clients, from inside a real container, against a private TLS server: they find proxy, trust and secret.

A client that this machine does not have is skipped by name.
"""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from ..conftest import Server, launched
from ..egress.world import Issuer
from .test_network import VALUE, run, shell, trusting

HOST = "packages.test"


class Shop:
    """Files by path, for those who know the secret where a path is private; what was asked for."""

    def __init__(self, issuer: Issuer) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                given = self.headers.get("authorization", "")
                shop.asked.append((path, given))
                basic = base64.b64encode(f"user:{VALUE}".encode()).decode()
                known = given in (f"Basic {basic}", f"Bearer {VALUE}")
                body = shop.files.get(path)
                if path.startswith("/private/") and not known:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    body = b""
                else:
                    self.send_response(200 if body is not None else 404)
                kind = "text/html" if path.endswith("/") else "application/octet-stream"
                self.send_header("Content-Type", kind if not path.startswith("/npm/") else "application/json")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = issuer.server(HOST).wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"https://{HOST}:{self.port}"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def shop(issuer: Issuer) -> Iterator[Shop]:
    made = Shop(issuer)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def client(upstream_url: str, shop: Shop, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("clients")
    settings = {"network_allowed_domains": f"{HOST}:{shop.port}", "network_hosts": f"{HOST}=127.0.0.1"}
    with trusting(issuer, folder), launched(folder / "data", upstream_url, **settings) as running:
        assert isinstance(running, Server)
        yield running.client()


def inside(client: OpenAI, needs: str, command: str) -> tuple[str, str]:
    """What a command prints in a networked container that has `needs`; skips the test if it has not."""
    policy = {
        "type": "allowlist",
        "allowed_domains": [HOST],
        "domain_secrets": [{"domain": HOST, "name": "TOKEN", "value": VALUE}],
    }
    script = f"if ! {needs} >/dev/null 2>&1; then echo MISSING; exit 0; fi; {command}"
    stdout, stderr, _ = run(client, script.replace("\n", " "), shell(policy))
    if stdout == "MISSING\n":
        pytest.skip(f"there is nothing for: {needs}")
    return stdout, stderr


def wheel(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", "answer = 42\n")
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return data.getvalue()


def test_pip_installs_from_an_allowed_index(client: OpenAI, shop: Shop) -> None:
    name = "tiny_demo-1.0-py3-none-any.whl"
    shop.files["/simple/tiny-demo/"] = f'<a href="/files/{name}">{name}</a>'.encode()
    shop.files[f"/files/{name}"] = wheel("tiny_demo")
    command = f"pip install -q --index-url {shop.url}/simple/ tiny-demo && "
    command += "python -c 'import tiny_demo; print(tiny_demo.answer)'"
    stdout, stderr = inside(client, "python -c 'import pip'", command)
    assert stdout == "42\n", stderr


def test_requests_in_python(client: OpenAI, shop: Shop) -> None:
    shop.files["/private/thing"] = b"yours"
    code = (
        "from pip._vendor import requests; import os; "
        "given = {'Authorization': 'Bearer ' + os.environ['TOKEN']}; "
        f"print(requests.get('{shop.url}/private/thing', headers=given).text)"
    )
    stdout, stderr = inside(client, "python -c 'import pip._vendor.requests'", f'python -c "{code}"')
    assert stdout == "yours\n", stderr


def test_npm_installs_from_an_allowed_registry(client: OpenAI, shop: Shop) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in (
            ("package.json", '{"name": "tiny", "version": "1.0.0"}'),
            ("index.js", "module.exports = 42"),
        ):
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    shop.files["/npm/tiny-1.0.0.tgz"] = packed.getvalue()
    dist = {
        "tarball": f"{shop.url}/npm/tiny-1.0.0.tgz",
        "shasum": hashlib.sha1(packed.getvalue(), usedforsecurity=False).hexdigest(),
    }
    version = {"name": "tiny", "version": "1.0.0", "dist": dist}
    about = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    shop.files["/npm/tiny"] = json.dumps(about).encode()
    command = (
        f"npm install --silent --no-audit --no-fund --registry {shop.url}/npm/ tiny && node -p 'require(\"tiny\")'"
    )
    stdout, stderr = inside(client, "npm --version", command)
    assert stdout.splitlines()[-1:] == ["42"], stdout + stderr


def test_git_clones_with_a_token_that_it_never_sees(client: OpenAI, shop: Shop, tmp_path: Path) -> None:
    work, bare = tmp_path / "work", tmp_path / "repo.git"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    work.mkdir()
    (work / "file").write_text("cloned\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=work, check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run([*git, "update-server-info"], cwd=bare, check=True)
    for path in bare.rglob("*"):
        if path.is_file():
            shop.files[f"/private/repo.git/{path.relative_to(bare)}"] = path.read_bytes()
    url = f"{shop.url.replace('https://', 'https://user:$TOKEN@')}/private/repo.git"
    stdout, stderr = inside(client, "git --version", f"git clone -q {url} r && cat r/file; cat r/.git/config")
    assert stdout.startswith("cloned\n"), stderr
    assert VALUE not in stdout
    assert any(given.startswith("Basic ") for path, given in shop.asked if path.startswith("/private/repo.git"))


def test_curl_with_a_bearer_token(client: OpenAI, shop: Shop) -> None:
    shop.files["/private/curl"] = b"found\n"
    stdout, stderr = inside(client, "curl --version", f'curl -sS --oauth2-bearer "$TOKEN" {shop.url}/private/curl')
    assert stdout == "found\n", stderr


def test_wget(client: OpenAI, shop: Shop) -> None:
    shop.files["/private/wget"] = b"got\n"
    command = f'wget -q -O - --header "Authorization: Bearer $TOKEN" {shop.url}/private/wget'
    stdout, stderr = inside(client, "wget --version", command)
    assert stdout == "got\n", stderr


def test_fetch_in_node(client: OpenAI, shop: Shop) -> None:
    shop.files["/private/node"] = b"fetched"
    code = (
        f"fetch('{shop.url}/private/node', {{headers: {{authorization: 'Bearer ' + process.env.TOKEN}}}})"
        ".then(r => r.text()).then(console.log)"
    )
    # The proxy variables are read since these versions (Node's documentation, NODE_USE_ENV_PROXY).
    reads = (
        "const [a,b] = process.versions.node.split('.').map(Number); "
        "process.exit(a > 24 || (a == 24 && b >= 5) || (a == 22 && b >= 21) ? 0 : 1)"
    )
    stdout, stderr = inside(client, f'node -e "{reads}"', f'node -e "{code}"')
    assert stdout == "fetched\n", stderr


def test_go_downloads_a_module(client: OpenAI, shop: Shop) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("example.org/tiny@v1.0.0/go.mod", "module example.org/tiny\n")
        archive.writestr("example.org/tiny@v1.0.0/tiny.go", "package tiny\n")
    base = "/go/example.org/tiny/@v"
    shop.files[f"{base}/list"] = b"v1.0.0\n"
    shop.files[f"{base}/v1.0.0.info"] = b'{"Version": "v1.0.0"}'
    shop.files[f"{base}/v1.0.0.mod"] = b"module example.org/tiny\n"
    shop.files[f"{base}/v1.0.0.zip"] = packed.getvalue()
    command = f"GOPROXY={shop.url}/go GONOSUMDB=* GOFLAGS=-mod=mod go mod download -x example.org/tiny@v1.0.0; "
    command += "ls ~/go/pkg/mod/example.org"
    stdout, stderr = inside(client, "go version", f"go mod init x; {command}")
    assert stdout == "tiny@v1.0.0\n", stderr


def test_java(client: OpenAI, shop: Shop) -> None:
    shop.files["/private/java"] = b"brewed"
    source = (
        "public class F { public static void main(String[] a) throws Exception { "
        f'var c = new java.net.URL("{shop.url}/private/java").openConnection(); '
        'c.setRequestProperty("Authorization", "Bearer " + System.getenv("TOKEN")); '
        "System.out.println(new String(c.getInputStream().readAllBytes())); } }"
    )
    encoded = base64.b64encode(source.encode()).decode()
    stdout, stderr = inside(client, "javac -version", f"echo {encoded} | base64 -d > F.java; java F.java")
    assert stdout == "brewed\n", stderr


def test_a_passthrough_shows_a_server_as_it_is(client: OpenAI, shop: Shop) -> None:
    """The container trusts what the host trusts (here the test's issuer), and the placeholder stays one."""
    shop.files["/through"] = b"as it is\n"
    policy = {
        "type": "allowlist",
        "allowed_domains": [HOST],
        "rules": [{"domain": HOST, "passthrough": True}],
    }
    stdout, stderr, _ = run(client, f"curl -sSv {shop.url}/through 2>&1 | grep -i 'issuer\\|as it is'", shell(policy))
    assert "as it is" in stdout, stderr
    assert "Test CA" in stdout
