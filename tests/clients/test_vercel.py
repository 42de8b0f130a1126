"""The Vercel AI SDK works with only its base URL changed: over Responses, chat completions and Open Responses."""

import pytest

from ..api.mcp_servers import Running
from ..conftest import Server
from .packages import Packages


@pytest.mark.timeout(600)  # the first one may install it
def test_the_vercel_ai_sdk_works_by_base_url_alone(
    packages: Packages, server: Server, calculator_server: Running
) -> None:
    packages.check("vercel.mjs", server, MCP_URL=calculator_server.url)
