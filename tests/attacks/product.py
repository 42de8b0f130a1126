"""The whole product under attack: a real server, a scripted model, commands through the API."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ..conftest import Server

KEYS: Mapping[str, str] = {"a": "sk-attacks-a-canary", "b": "sk-attacks-b-canary", "c": "sk-attacks-c-canary"}
"""Three projects."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one command of the model ended with, as the API shows it."""

    stdout: str
    stderr: str
    outcome: Mapping[str, Any]
    container_id: str
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Product:
    """A server and the clients of its projects."""

    server: Server
    engine: str

    @property
    def root(self) -> Path:
        """What the isolation engines keep."""
        return self.server.data_dir / "sandboxes"

    def http(self, project: str = "a") -> httpx2.Client:
        """A client of one project."""
        return self.server.http(KEYS[project])

    def container(self, project: str = "a", **fields: Any) -> str:
        """A new container."""
        with self.http(project) as client:
            made = client.post("/v1/containers", json={"name": "attacked"} | fields)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])

    def shell(self, script: str, container: str = "", project: str = "a", **arguments: Any) -> Said:
        """Have the model run a script, in a container of its own unless one is named."""
        place = {"type": "container_reference", "container_id": container} if container else {"type": "container_auto"}
        call = json.dumps({"commands": [script]} | arguments)
        end = f"END{secrets.token_hex(4)}"
        body = {
            "model": "m",
            "input": f"@@ call shell <<{end}\n{call}\n{end}",
            "tools": [{"type": "shell", "environment": place}],
        }
        with self.http(project) as client:
            answer = client.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        response = answer.json()
        asked = next(item for item in response["output"] if item["type"] == "shell_call")
        heard = next(item for item in response["output"] if item["type"] == "shell_call_output")
        entry = heard["output"][0]
        where = asked["environment"]["container_id"]
        return Said(entry["stdout"], entry["stderr"], entry["outcome"], where, response)

    def upload(self, container: str, content: bytes, project: str = "a", **fields: str) -> httpx2.Response:
        """Add a file to a container."""
        with self.http(project) as client:
            return client.post(f"/v1/containers/{container}/files", files={"file": ("f", content)}, data=fields)

    def clear(self) -> None:
        """Delete every container of every project."""
        for project in KEYS:
            with self.http(project) as client:
                while found := client.get("/v1/containers", params={"limit": 100}).json()["data"]:
                    for container in found:
                        client.delete(f"/v1/containers/{container['id']}")
