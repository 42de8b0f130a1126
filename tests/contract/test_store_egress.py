"""The shipped store of secrets and egress records against its conformance suite."""

import pytest

from deskhand.store.containers import SqlContainers
from deskhand.store.database import Database
from deskhand.store.egress import SqlEgress
from deskhand.testing import conformance_egress as suite

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", suite.EGRESS_CHECKS, ids=lambda check: check.__name__)
async def test_egress(database: Database, check: suite.EgressCheck) -> None:
    await check(SqlEgress(database), SqlContainers(database))
