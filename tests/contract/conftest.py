"""Contract tests run on asyncio, which Deskhand is written for."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
