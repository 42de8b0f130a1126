"""The whole promise in one request: a skill is found, live data fetched with a secret that nobody sees, kept in SQLite,
queried, and comes back as a workbook that opens."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import openpyxl
import pytest

from ..api.test_network import trusting
from ..conftest import Server, launched
from ..egress.world import Issuer

SECRET = "tok-7f3a-story-9c1e-not-for-agents"
SALES = [
    {"product": "lamp", "month": "2026-01", "units": 40},
    {"product": "lamp", "month": "2026-02", "units": 31},
    {"product": "desk", "month": "2026-01", "units": 12},
    {"product": "desk", "month": "2026-02", "units": 19},
    {"product": "chair", "month": "2026-01", "units": 25},
    {"product": "chair", "month": "2026-02", "units": 9},
]

SKILL = """---
name: declining-products
description: Finds products whose sales fell, from the sales API. Use it for questions about declining sales.
---
# Declining products
1. Fetch `/v1/sales` from the sales API with `Authorization: Bearer $SALES_TOKEN`.
2. Run `python3 scripts/load.py sales.json sales.db`, which fills the table `sales(product, month, units)`.
3. Query it, then write the workbook with openpyxl to /mnt/data/declining.xlsx.
"""
LOAD = """import json, sqlite3, sys
rows = json.load(open(sys.argv[1]))
db = sqlite3.connect(sys.argv[2])
db.execute("create table sales (product text, month text, units integer)")
db.executemany("insert into sales values (:product, :month, :units)", rows)
db.commit()
print(len(rows), "rows")
"""


class Sales(BaseHTTPRequestHandler):
    """The sales API: no token, no sales."""

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == f"Bearer {SECRET}"
        body = json.dumps(SALES if known else {"error": "who are you?"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def sales(tmp_path: Path) -> Iterator[tuple[int, Issuer]]:
    issuer = Issuer()
    api = ThreadingHTTPServer(("127.0.0.1", 0), Sales)
    api.socket = issuer.server("sales.test").wrap_socket(api.socket, server_side=True)
    Thread(target=api.serve_forever, daemon=True).start()
    yield api.server_address[1], issuer
    api.shutdown()
    api.server_close()


@pytest.fixture
def desk(sales: tuple[int, Issuer], tmp_path: Path, upstream_url: str) -> Iterator[Server]:
    port, issuer = sales
    with (
        trusting(issuer, tmp_path),
        launched(
            tmp_path / "data",
            upstream_url,
            network_allowed_domains=f"sales.test:{port}",
            network_hosts="sales.test=127.0.0.1",
        ) as server,
    ):
        yield server


def script(port: int) -> str:
    """What a model that has read the skill does."""
    fetch = f'curl -sS --fail https://sales.test:{port}/v1/sales -H "Authorization: Bearer $SALES_TOKEN" -o sales.json'
    query = (
        "select product, sum(case month when '2026-01' then units end) before, "
        "sum(case month when '2026-02' then units end) now from sales group by product having now < before order by 1"
    )
    write = f"""import openpyxl, sqlite3
rows = sqlite3.connect("sales.db").execute({query!r}).fetchall()
book = openpyxl.Workbook()
book.active.append(["product", "January", "February"])
for row in rows: book.active.append(row)
book.save("declining.xlsx")
rows"""
    return "\n".join(
        (
            "Which products had declining sales? Give me a spreadsheet.",
            "@@ shell ls /mnt/skills; cat /mnt/skills/declining-products-1/SKILL.md",
            f"@@ shell {fetch} && python3 /mnt/skills/declining-products-1/scripts/load.py sales.json sales.db",
            f"@@ python <<EOF\n{write}\nEOF",
            "@@ say Two products declined: chair and lamp. The workbook is at sandbox:/mnt/data/declining.xlsx",
        )
    )


def test_from_a_question_to_a_workbook(desk: Server, sales: tuple[int, Issuer], tmp_path: Path) -> None:
    port, _ = sales
    client = desk.client()
    skill = client.skills.create(
        files=[("declining/SKILL.md", SKILL.encode()), ("declining/scripts/load.py", LOAD.encode())]
    )
    environment: Any = {
        "type": "container_auto",
        "skills": [{"type": "skill_reference", "skill_id": skill.id}],
        "network_policy": {
            "type": "allowlist",
            "allowed_domains": ["sales.test"],
            "domain_secrets": [{"domain": "sales.test", "name": "SALES_TOKEN", "value": SECRET}],
        },
    }
    tools: Any = [
        {"type": "shell", "environment": environment},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ]
    response: Any = client.responses.create(
        model="m", input=script(port), tools=tools, include=["code_interpreter_call.outputs"]
    )

    assert response.status == "completed"
    seen, fetched = [item.output[0] for item in response.output if item.type == "shell_call_output"]
    assert "Finds products whose sales fell" in seen.stdout
    assert (fetched.stdout, fetched.outcome.exit_code) == ("6 rows\n", 0)
    (python,) = [item for item in response.output if item.type == "code_interpreter_call"]
    assert "[('chair', 25, 9), ('lamp', 40, 31)]" in python.outputs[0].logs

    (citation,) = [a for a in response.output[-1].content[0].annotations if a.filename.endswith("declining.xlsx")]
    assert citation.type == "container_file_citation"
    book = client.containers.files.content.retrieve(citation.file_id, container_id=citation.container_id).read()
    rows = list(openpyxl.load_workbook(BytesIO(book)).worksheets[0].iter_rows(values_only=True))
    assert rows == [("product", "January", "February"), ("chair", 25, 9), ("lamp", 40, 31)]

    with desk.http() as http:
        records = http.get(f"/v1/containers/{citation.container_id}/egress").json()["data"]
    assert [(r["host"], r["method"], r["path"], r["decision"], r["secrets"]) for r in records][:1] == [
        ("sales.test", "GET", "/v1/sales", "allowed", ["SALES_TOKEN"])
    ]
    everywhere = response.to_json() + desk.log.read_text() + json.dumps(records)
    assert SECRET not in everywhere
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file() and path.stat().st_size < 64 << 20:
            assert SECRET.encode() not in path.read_bytes(), path
