"""A turn of the Codex CLI: requests of its shape, and the CLI itself where it is installed (npm: `@openai/codex`)."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from .figures import Figures, show
from .load import measure
from .processes import KEY, deskhand, upstream

TURNS = 100
SESSIONS = 3
INSTRUCTIONS = "You are a coding agent that runs in a terminal. " * 340  # about as long as Codex's, 16 kB
COMMAND = {
    "type": "object",
    "properties": {"cmd": {"type": "string"}, "workdir": {"type": "string"}, "yield_time_ms": {"type": "number"}},
    "required": ["cmd"],
    "additionalProperties": False,
}
CONFIG = """
model = "scripted"
model_provider = "local"
approval_policy = "never"
check_for_update_on_startup = false
[features]
plugins = false
apps = false
[analytics]
enabled = false
[model_providers.local]
name = "local"
base_url = "{url}/v1"
env_key = "API_KEY"
wire_api = "responses"
"""


def request(turns: int) -> dict[str, Any]:
    """What Codex sends after so many commands: everything so far, its tools, nothing stored."""
    history: list[dict[str, Any]] = []
    for n in range(turns):
        history += [
            _message("assistant", "output_text", f"Looking at step {n}."),
            {
                "type": "function_call",
                "id": f"fc_{n}",
                "call_id": f"call_{n}",
                "name": "exec_command",
                "arguments": '{"cmd":"ls"}',
            },
            {"type": "function_call_output", "call_id": f"call_{n}", "output": "a line of output\n" * 40},
        ]
    return {
        "model": "scripted",
        "stream": True,
        "store": False,
        "input": [
            _message("developer", "input_text", INSTRUCTIONS),
            _message("user", "input_text", "a task"),
            *history,
            _message("user", "input_text", "@@ call exec_command " + '{"cmd":"ls"}'),
        ],
        "tools": [_function(name) for name in ("exec_command", "write_stdin", "view_image")]
        + [{"type": "web_search"}, {"type": "namespace", "name": "agents", "tools": [_function("spawn")]}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0197-bench",
    }


def _message(role: str, part: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


def _function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "description": "Runs something.", "strict": False, "parameters": COMMAND}


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """The same prompt as one long chat request, for the upstream itself."""
    texts = [part["text"] for item in body["input"] for part in item.get("content", ())]
    functions = [{"type": "function", "function": _function(name)} for name in ("exec_command", "write_stdin")]
    messages = [{"role": "user", "content": "\n".join(texts[:-1])}, {"role": "user", "content": texts[-1]}]
    return {"model": "scripted", "stream": True, "messages": messages, "tools": functions}


async def turn(mock: str, server: str) -> None:
    """One turn early in a session, and late."""
    cases = []
    for turns in (1, 50):
        body, name = request(turns), f"after {turns} command{'s' if turns > 1 else ''}"
        direct = await measure(
            f"the mock upstream, {name}",
            mock,
            "/v1/chat/completions",
            _as_chat(body),
            KEY,
            concurrency=1,
            requests=TURNS,
        )
        through = await measure(f"deskhand, {name}", server, "/v1/responses", body, KEY, concurrency=1, requests=TURNS)
        cases += [direct, through]
    show("a turn as Codex sends it", cases, cases[0])


def session(server: str) -> None:
    """The CLI itself: a prompt, one command, an answer. Most of it is the CLI's own start."""
    program = os.environ.get("CODEX") or shutil.which("codex")
    if program is None:
        print("\nthe Codex CLI itself: not measured, as there is no `codex` (set CODEX to its path)")
        return
    seconds = []
    for _ in range(SESSIONS):
        with tempfile.TemporaryDirectory(prefix="deskhand-bench-") as scratch:
            Path(scratch, "config.toml").write_text(CONFIG.format(url=server))
            command = [program, "exec", "--json", "--skip-git-repo-check", "-s", "danger-full-access", "-C", scratch]
            began = time.perf_counter()
            done = subprocess.run(
                [*command, "@@ shell echo $((6*7))"],
                env={**os.environ, "CODEX_HOME": scratch, "API_KEY": KEY},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=120,
            )
            seconds.append(time.perf_counter() - began)
            assert b"42" in done.stdout, (done.stdout[-500:], done.stderr[-500:])
    show("the Codex CLI: start, a command, an answer", [Figures("codex exec", seconds)])


def main() -> None:
    """Measure and print."""
    with upstream() as mock, deskhand(mock) as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(turn(mock, server))
        session(server)


if __name__ == "__main__":
    main()
