"""The command line, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path


def deskhand(*arguments: str, home: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `deskhand` with a home of its own and nothing of Deskhand's in the environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DESKHAND_", "OPENAI_"))}
    return subprocess.run(
        [sys.executable, "-m", "deskhand", *arguments],
        cwd=home,
        env={**clean, "HOME": str(home), "COLUMNS": "120", **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_shows_the_loop_and_saves_what_the_agent_made(tmp_path: Path) -> None:
    ran = deskhand("demo", home=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    saved = list((tmp_path / "demo-output").iterdir())
    assert saved
    for file in saved:
        assert str(file) in ran.stdout.replace("\n", "")
        assert file.stat().st_size > 0
    assert "agent" in ran.stdout
    assert "not an LLM" in ran.stdout


def test_the_doctor_says_what_is_enforced(tmp_path: Path) -> None:
    ran = deskhand("doctor", home=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Hosted tools run at isolation level namespace" in ran.stdout


def test_the_doctor_fails_where_isolation_is_missing(tmp_path: Path) -> None:
    ran = deskhand("doctor", home=tmp_path, DESKHAND_ENGINE="none")
    assert ran.returncode == 1
    assert "MISSING" in ran.stdout
    assert "to mend it:" in ran.stdout


def test_help_version_and_settings(tmp_path: Path) -> None:
    assert "serve" in deskhand("--help", home=tmp_path).stdout
    assert deskhand("version", home=tmp_path).stdout.startswith("deskhand 0.")
    assert "DESKHAND_UPSTREAM_URL" in deskhand("settings", home=tmp_path).stdout


def test_a_bad_setting_is_one_clear_line(tmp_path: Path) -> None:
    ran = deskhand("serve", home=tmp_path, DESKHAND_PORT="many")
    assert ran.returncode == 1
    assert ran.stderr.startswith("deskhand: bad setting")
    assert "Traceback" not in ran.stderr


def test_without_isolation_hosted_tools_are_refused_and_the_rest_works(tmp_path: Path) -> None:
    from ..conftest import launched

    with launched(tmp_path / "data", None, engine="none") as server:
        client = server.client()
        assert "demo model" in client.responses.create(model="demo", input="hello").output_text
        with server.http() as http:
            body = {
                "model": "demo",
                "input": "run ls",
                "tools": [{"type": "shell", "environment": {"type": "container_auto"}}],
            }
            answer = http.post("/v1/responses", json=body)
            health = http.get("/health").json()
        assert answer.status_code == 503
        assert answer.headers["x-should-retry"] == "false"
        assert "isolat" in answer.json()["error"]["message"]
        assert health["isolation"]["hosted_tools"] is False
        assert "hosted tools are refused" in server.log.read_text()
