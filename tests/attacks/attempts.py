"""The attempts of `inside/attempts.py`: in a container and, as the control, where nothing of Deskhand forbids them.

Controls run on the host as a user without any privilege, or as that user in namespaces of its own, where it may do
what a root may without touching what belongs to anybody else. Nothing here runs as root.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deskhand.testing.conformance_sandbox_bench import Desk

SCRIPT: Final = (Path(__file__).parent / "inside" / "attempts.py").read_text()
NOBODY: Final = 65534
PYTHON: Final = ("/usr/bin/python3", "-I", "-c")
NAMESPACES: Final = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork",
                     "--mount-proc")  # fmt: skip
LIMIT_S: Final = 30


def dropped() -> Sequence[str]:
    """The words that give up root, if this is root."""
    if os.geteuid() != 0:
        return ()
    identity = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    return ("setpriv", *identity, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--")


def run(script: str, *arguments: str, namespaces: Sequence[str] = ()) -> str:
    """Run a Python script on the host without privilege; its standard output."""
    argv = [*dropped(), *namespaces, *PYTHON, script, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd="/", env={})
    assert done.returncode == 0, done.stderr
    return done.stdout


async def inside(desk: Desk, *words: str) -> Mapping[str, str]:
    """Attempts in a container."""
    result = await desk.python(SCRIPT, *words)
    assert not result.stderr, result.stderr.decode()
    return _parsed(result.text)


def outside(*words: str) -> Mapping[str, str]:
    """Attempts by an ordinary user of the host."""
    return _parsed(run(SCRIPT, *words))


def namespaced(*words: str) -> Mapping[str, str]:
    """Attempts by an ordinary user who is root of namespaces of its own."""
    return _parsed(run(SCRIPT, *words, namespaces=NAMESPACES))


def _parsed(text: str) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(text)
    return found
