"""The shipped idempotency store against its conformance suite."""

import pytest

from deskhand.store.database import Database
from deskhand.store.idempotency import SqlIdempotency
from deskhand.store.responses import SqlResponses
from deskhand.testing.conformance_idempotency import IDEMPOTENCY_CHECKS, IdempotencyCheck

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", IDEMPOTENCY_CHECKS, ids=lambda check: check.__name__)
async def test_idempotency_keys(database: Database, check: IdempotencyCheck) -> None:
    await check(SqlIdempotency(database), SqlResponses(database))
