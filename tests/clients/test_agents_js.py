"""The OpenAI Agents SDK for JavaScript works with only its base URL changed."""

import pytest

from ..api.mcp_servers import Running
from ..conftest import Server
from .packages import Packages


@pytest.mark.timeout(600)  # the first one may install it
def test_the_agents_sdk_works_by_base_url_alone(packages: Packages, server: Server, calculator_server: Running) -> None:
    packages.check("agents.mjs", server, MCP_URL=calculator_server.url)
