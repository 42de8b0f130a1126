"""The shipped store of chat completions against its conformance suite."""

import pytest

from deskhand.store.completions import SqlCompletions
from deskhand.store.database import Database
from deskhand.testing.conformance_completions import COMPLETION_CHECKS, CompletionCheck

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", COMPLETION_CHECKS, ids=lambda check: check.__name__)
async def test_completions(database: Database, check: CompletionCheck) -> None:
    await check(SqlCompletions(database))
