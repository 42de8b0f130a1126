"""The shipped idempotency store against its conformance suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deskhand.store.database import Database
from deskhand.store.idempotency import SqlIdempotency
from deskhand.store.responses import SqlResponses
from deskhand.testing.conformance_idempotency import IDEMPOTENCY_CHECKS, IdempotencyCheck

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("check", IDEMPOTENCY_CHECKS, ids=lambda check: check.__name__)
async def test_idempotency_keys(database: Database, check: IdempotencyCheck) -> None:
    await check(SqlIdempotency(database), SqlResponses(database))
