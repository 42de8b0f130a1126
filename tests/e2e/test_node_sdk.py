"""The official Node SDK works with only its base URL changed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ..conftest import KEY, Server

HERE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node() -> Path:
    """Node 24 with the SDK beside it, from the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: the Node SDK is not checked")
    if not (HERE / "node_modules" / "openai").exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=HERE, check=True)
    return HERE / "node_modules" / ".bin" / "node"


def test_the_node_sdk_works_by_base_url_alone(node: Path, server: Server) -> None:
    environ = {**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
    ran = subprocess.run(
        [node, "check.mjs"], cwd=HERE, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
