"""What is stored is what is read, whatever an item holds."""

import asyncio
import string
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deskhand.ports.runs import Claim, Written
from deskhand.store.responses import SqlResponses
from deskhand.store.sqlite import SqliteDatabase
from deskhand.testing.conformance_store import begun, ended
from deskhand.wire.codec import plain
from deskhand.wire.items import (
    ApplyPatchCall,
    ExitOutcome,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    ShellCallOutput,
    ShellOutput,
    TimeoutOutcome,
    UpdateFile,
)
from deskhand.wire.parts import InputFile, InputImage, InputText, OutputText, Refusal, SummaryText

# Every code point: NULs and lone surrogates, too.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
ids = st.text(string.ascii_lowercase, min_size=1, max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
objects = st.dictionaries(texts, values, max_size=3)
parts = (
    st.builds(InputText, text=texts)
    | st.builds(InputImage, image_url=st.none() | texts, detail=texts)
    | st.builds(InputFile, filename=texts)
    | st.builds(OutputText, text=texts, annotations=st.lists(objects, max_size=2).map(tuple))
    | st.builds(Refusal, refusal=texts)
)
outputs = st.builds(
    ShellOutput,
    stdout=texts,
    stderr=texts,
    outcome=st.builds(TimeoutOutcome) | st.builds(ExitOutcome, exit_code=st.integers(-255, 255)),
)
items: st.SearchStrategy[Item] = (
    st.builds(Message, id=ids, role=st.sampled_from(["user", "assistant"]), content=st.lists(parts).map(tuple))
    | st.builds(Reasoning, id=ids, summary=st.lists(st.builds(SummaryText, text=texts)).map(tuple))
    | st.builds(FunctionCall, id=ids, call_id=texts, name=texts, arguments=texts, caller=values)
    | st.builds(FunctionCallOutput, id=ids, call_id=texts, output=texts | st.lists(parts).map(tuple))
    | st.builds(ShellCallOutput, id=ids, call_id=texts, output=st.lists(outputs).map(tuple))
    | st.builds(ApplyPatchCall, id=ids, call_id=texts, operation=st.builds(UpdateFile, path=texts, diff=texts))
    | st.builds(
        lambda fields, id_, type_: OpaqueItem({**fields, "id": id_, "type": f"x_{type_}"}), objects, texts, texts
    )
)


def kept(value: Any) -> Any:
    """`value` with lone surrogates as the store keeps them."""
    match value:
        case str():
            return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
        case dict():
            return {kept(key): kept(entry) for key, entry in value.items()}
        case list() | tuple():
            return type(value)(kept(entry) for entry in value)
        case _:
            return value


async def roundtrip(database: SqliteDatabase, entries: list[Item]) -> None:
    store, response = SqlResponses(database), begun()
    await store.create("proj", response, entries)
    await store.finish(Claim(response.id), ended(response, entries), Written(dict(enumerate(entries))))
    found = await store.get("proj", response.id)
    assert found is not None
    expected = [kept(plain(entry)) for entry in entries]
    assert [plain(item) for item in found.output] == expected
    assert [plain(item) for item in await store.given("proj", response.id) or ()] == expected
    assert [type(item) for item in found.output] == [type(entry) for entry in entries]
    assert [plain(item) for item in await store.context("proj", response.id)] == expected * 2
    for entry in entries:
        assert await store.item("proj", entry.id) is not None or not entry.id


def test_what_is_stored_is_what_is_read() -> None:
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        opened = SqliteDatabase.open(Path(directory) / "store.sqlite")
        database = runner.run(opened.__aenter__())

        @settings(max_examples=100, deadline=None)
        @given(st.lists(items, max_size=4))
        def check(entries: list[Item]) -> None:
            runner.run(roundtrip(database, entries))

        try:
            check()
        finally:
            runner.run(opened.__aexit__(None, None, None))
