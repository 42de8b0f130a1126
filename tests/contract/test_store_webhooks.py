"""The shipped stores of webhooks against their conformance suite."""

import pytest

from deskhand.store.database import Database
from deskhand.store.deliveries import SqlDeliveries
from deskhand.store.responses import SqlResponses
from deskhand.store.webhooks import SqlWebhooks
from deskhand.testing import conformance_webhooks as suite

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", suite.WEBHOOK_CHECKS, ids=lambda check: check.__name__)
async def test_webhooks(database: Database, check: suite.WebhookCheck) -> None:
    stores = suite.WebhookStores(SqlWebhooks(database), SqlDeliveries(database), SqlResponses(database))
    await check(stores)
