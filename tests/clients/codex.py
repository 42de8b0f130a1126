"""The Codex CLI, run without a person in front of it, with a home and a folder to work in of its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..conftest import KEY
from .packages import Packages

SECONDS = 100
CONFIG = """
model = "{model}"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
{choice}

[features]
plugins = false
apps = false

[analytics]
enabled = false

[model_providers.deskhand]
name = "{name}"
base_url = "{url}"
env_key = "CODEX_API_KEY"
wire_api = "responses"
request_max_retries = 2
stream_max_retries = 2
{provider}
"""
OWN = 'model_provider = "deskhand"'
BUILT_IN = 'openai_base_url = "{url}"'


@dataclass(frozen=True)
class Way:
    """How Codex is told of a server. `{url}` in a line is its base URL.

    It runs commands without a sandbox: its own is not for folders under /tmp, and what it is told to run is a test's.
    """

    model: str = "m"
    choice: str = OWN
    """Which provider it shall use, and whatever else stands at the top."""
    provider: str = ""
    """What else is said of the provider."""
    name: str = "Deskhand"
    """What the provider calls itself: `OpenAI` makes Codex ask for what only OpenAI has."""

    def config(self, url: str) -> str:
        """What stands in `config.toml`."""
        lines = {"choice": self.choice.format(url=url), "provider": self.provider.format(url=url)}
        return CONFIG.format(model=self.model, name=self.name, url=url, **lines)


@dataclass(frozen=True)
class Ran:
    """What a run did: its events, and the last words of its agent."""

    events: list[dict[str, Any]]
    said: str

    def items(self, kind: str) -> list[dict[str, Any]]:
        """What was done, of one kind, as it ended."""
        ended = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in ended if item["type"] == kind]

    @property
    def complaints(self) -> list[str]:
        """What Codex found wrong on the way, even if it went on."""
        failed = [str(event) for event in self.events if event["type"] in {"error", "turn.failed"}]
        return [item["message"] for item in self.items("error")] + failed


@dataclass(frozen=True)
class Codex:
    """The program, and a folder for all that it writes."""

    packages: Packages
    folder: Path

    @property
    def workspace(self) -> Path:
        """Where the agent works."""
        return self.folder / "workspace"

    def told(self, way: Way, url: str) -> "Codex":
        """The same, with its configuration written."""
        for folder in (self.workspace, self.folder / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "home" / "config.toml").write_text(way.config(url))
        return self

    def run(self, *arguments: str) -> Ran:
        """`codex exec --json ARGUMENTS`. Raises `AssertionError` if it failed."""
        last = self.folder / "last.txt"
        last.unlink(missing_ok=True)
        codex = str(self.packages.programs / "codex")
        command = [codex, "exec", *arguments, "--json", "--skip-git-repo-check", "-o", str(last)]
        home = str(self.folder / "home")
        ran = subprocess.run(
            command,
            cwd=self.workspace,
            # What it knows of this machine is its home: no proxy, no key and no configuration of who runs the tests.
            env={"PATH": self.packages.path, "HOME": home, "CODEX_HOME": home, "CODEX_API_KEY": KEY},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        events = [json.loads(line) for line in ran.stdout.splitlines()]
        return Ran(events, last.read_text() if last.exists() else "")
