"""Clients that nobody here wrote, and a server that may call what runs beside the tests."""

from collections.abc import Iterator

import pytest

from ..api.mcp_servers import Running, both, calculator, serving
from ..conftest import Server, launched
from .packages import Packages, install


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def packages() -> Packages:
    """The clients from npm, and a Node for them."""
    try:
        return install()
    except FileNotFoundError:
        pytest.skip("npm is not installed: clients from npm are not tried")


@pytest.fixture(scope="session")
def shared_server(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As everywhere, but MCP servers and receivers of webhooks may be on this host."""
    data = tmp_path_factory.mktemp("clients") / "data"
    with launched(data, upstream_url, allow_private_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="session")
def calculator_server() -> Iterator[Running]:
    """An MCP server with tools such as `add`."""
    with serving(both(calculator())) as running:
        yield running
