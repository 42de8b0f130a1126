"""The shipped conversation store against its conformance suite, and what it leaves in the tables."""

import asyncio
import random

import msgspec
import pytest

from deskhand.ports.runs import Plan
from deskhand.store.conversations import SqlConversations
from deskhand.store.database import Database
from deskhand.store.responses import SqlResponses
from deskhand.testing import conformance_conversations as suite
from deskhand.testing.conformance_store import asked, begun, said, stored
from deskhand.wire.items import Item
from deskhand.wire.response import ConversationRef, Response

from .conftest import OpenAnother

pytestmark = pytest.mark.anyio


async def count(database: Database, table: str) -> int:
    found: int = await database.read(lambda c: c.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    return found


@pytest.mark.parametrize("check", suite.CONVERSATION_CHECKS, ids=lambda check: check.__name__)
async def test_conversations(database: Database, check: suite.ConversationCheck) -> None:
    await check(SqlConversations(database), SqlResponses(database))


async def test_storing_a_turn_costs_its_new_items_only(database: Database) -> None:
    store, responses = SqlConversations(database), SqlResponses(database)
    id_ = await suite.made(store, "proj", [asked(str(number)) for number in range(100)])
    response = await suite.started(store, responses, "proj", id_, asked("q"))
    await suite.ended(responses, response, [said("a")])
    assert (await count(database, "items"), await count(database, "conversation_items")) == (2, 102)


async def test_what_is_not_stored_leaves_no_rows(database: Database) -> None:
    store, responses = SqlConversations(database), SqlResponses(database)
    id_ = await suite.made(store, "proj")
    for status in ("completed", "failed"):
        response = await suite.started(store, responses, "proj", id_, asked("q"), keep=False)
        assert await count(database, "responses") == 1
        await suite.ended(responses, response, [said("a")], "completed" if status == "completed" else "failed")
        assert [await count(database, table) for table in ("responses", "items", "events")] == [0, 0, 0]
    assert await count(database, "conversation_items") == 2
    assert await store.delete("proj", id_)
    assert [await count(database, table) for table in ("conversations", "conversation_items")] == [0, 0]


async def test_a_deleted_conversation_goes_with_its_last_response(database: Database) -> None:
    store, responses = SqlConversations(database), SqlResponses(database)
    id_ = await suite.made(store, "proj", [asked("0")])
    done = await suite.ended(responses, await suite.started(store, responses, "proj", id_, asked("1")), [said("2")])
    await store.delete("proj", id_)
    await store.collect()
    assert await count(database, "conversation_items") == 3
    await responses.delete("proj", done.id)
    await store.collect()
    assert [await count(database, table) for table in ("conversations", "conversation_items")] == [0, 0]


@pytest.mark.parametrize("seed", range(5))
async def test_chains_branches_and_conversations_equal_a_model_of_them(database: Database, seed: int) -> None:
    """Random turns, on a conversation or after any earlier response: each context is what a list would hold."""
    choices, store, responses = random.Random(seed), SqlConversations(database), SqlResponses(database)
    model: list[str] = []
    contexts: dict[str, list[str]] = {}
    known: list[Response] = []
    id_ = await suite.made(store, "proj")
    for _ in range(60):
        match choices.choice(["turn", "turn", "branch", "add", "fail", "unstored"]):
            case "branch" if known:
                after = choices.choice(known)
                given, answer = asked("q"), said("a")
                done = await stored(responses, "proj", after=after, given=given, out=answer)
                contexts[done.id] = [*contexts[after.id], given.id, answer.id]
                known.append(done)
            case "add":
                item = asked("x")
                await store.append("proj", id_, [item])
                model.append(item.id)
            case kind:
                given = asked("q")
                output: list[Item] = [said("a") for _ in range(choices.randrange(3))]
                response = await suite.started(store, responses, "proj", id_, given, keep=kind != "unstored")
                before, turn = list(model), [given.id, *(item.id for item in output)]
                if kind == "fail":
                    done = await suite.ended(responses, response, output, "failed")
                else:
                    done = await suite.ended(responses, response, output)
                    model += turn
                if kind != "unstored":
                    contexts[done.id] = before + turn
                    known.append(done)
        assert await suite.ids(store, "proj", id_) == model
    for response in known:
        assert [item.id for item in await responses.context("proj", response.id)] == contexts[response.id]


async def test_ids_that_an_upstream_repeats_do_not_keep_a_response_from_ending(database: Database) -> None:
    store, responses = SqlConversations(database), SqlResponses(database)
    id_, again = await suite.made(store, "proj"), said("first")
    for text in ("first", "second"):
        response = await suite.started(store, responses, "proj", id_, asked("q"))
        await suite.ended(responses, response, [msgspec.structs.replace(said(text), id=again.id)])
    assert "second" in repr(await store.item("proj", id_, again.id))
    assert await store.delete_item("proj", id_, again.id)
    assert len(await suite.ids(store, "proj", id_)) == 2


async def test_the_lock_is_one_of_the_database_too(database: Database) -> None:
    """Should the store's own check ever miss a second response, the index does not."""
    store, responses = SqlConversations(database), SqlResponses(database)
    id_ = await suite.made(store, "proj")
    await suite.started(store, responses, "proj", id_, asked("q"))
    other = begun()
    await responses.create("proj", other, [])

    def bind(connection: object) -> None:
        connection.execute(  # type: ignore[attr-defined]  # whichever database it is of
            f"UPDATE responses SET conversation_id = '{id_}' WHERE id = '{other.id}'"
        )

    with pytest.raises(Exception, match="(?i)unique"):
        await database.write(bind)


async def test_of_many_that_start_at_once_in_several_processes_one_does(open_another: OpenAnother) -> None:
    async with open_another() as here, open_another() as there:
        id_ = await suite.made(SqlConversations(here), "proj")

        async def attempt(database: Database) -> str | None:
            response = msgspec.structs.replace(begun(), conversation=ConversationRef(id_))
            started = SqlResponses(database).create("proj", response, [asked("x")], Plan(revision=0))
            error = await suite.refusal(started)
            return "started" if error is None else error.code

        told = await asyncio.gather(*(attempt(database) for database in (here, there) for _ in range(10)))
    assert sorted(told, key=str) == ["conversation_locked"] * 19 + ["started"]


async def test_what_is_added_at_once_in_several_processes_is_all_there(open_another: OpenAnother) -> None:
    async with open_another() as here, open_another() as there:
        id_ = await suite.made(SqlConversations(here), "proj")
        items = [asked(str(number)) for number in range(20)]
        adding = [
            SqlConversations(here if number % 2 else there).append("proj", id_, [item])
            for number, item in enumerate(items)
        ]
        await asyncio.gather(*adding)
        assert set(await suite.ids(SqlConversations(there), "proj", id_)) == {item.id for item in items}
