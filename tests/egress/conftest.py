"""Egress tests run on asyncio, which Deskhand is written for."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deskhand.egress.authority import Authority

from .world import Issuer, World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.kept(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def world(tmp_path: Path, issuer: Issuer, authority: Authority) -> AsyncIterator[World]:
    assert ssl.HAS_TLSv1_3
    async with World.open(tmp_path, issuer, authority) as made:
        yield made
