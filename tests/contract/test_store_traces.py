"""The shipped store of traces against its conformance suite, and their end."""

import pytest

from deskhand.store.database import Database
from deskhand.store.retention import SqlRetention
from deskhand.store.traces import SqlTraces
from deskhand.testing.conformance_traces import TRACE_CHECKS, TraceCheck, listed, span, trace

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", TRACE_CHECKS, ids=lambda check: check.__name__)
async def test_traces(database: Database, check: TraceCheck) -> None:
    await check(SqlTraces(database))


async def test_old_traces_go_with_their_spans_whoever_has_them(database: Database) -> None:
    traces, retention = SqlTraces(database), SqlRetention(database)
    for owner, created_at in (("a", 1), ("a", 2), ("b", 3), ("b", 4)):
        id_ = f"trace_{created_at}"
        await traces.put(owner, [trace(id_, created_at)], [span(id_)], 9)
    assert [await retention.expire_traces(4, 2) for _ in range(3)] == [2, 1, 0]
    assert (await listed(traces, "a"), await listed(traces, "b")) == ([], ["trace_4"])
