"""Vector stores through the official SDK: files in, words and meanings found, and every refusal named."""

import io
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from ..conftest import Launch, Server

TEXTS = {
    "cats.md": b"The zebra code is 7391. Cats purr when they are content.",
    "boats.md": b"Sailing boats need wind. A keel keeps a boat upright.",
    "bread.md": b"Bread is made of flour, water, salt and yeast.",
}


def filled(client: OpenAI, **texts: bytes) -> Any:
    """A store with texts in it, indexed."""
    store = client.vector_stores.create(name="kb")
    files = [(name, io.BytesIO(text)) for name, text in (texts or TEXTS).items()]
    batch = client.vector_stores.file_batches.upload_and_poll(vector_store_id=store.id, files=files)
    assert (batch.status, batch.file_counts.completed) == ("completed", len(files))
    return client.vector_stores.retrieve(store.id)


def upload(client: OpenAI, name: str, content: bytes) -> str:
    return client.files.create(file=(name, content), purpose="assistants").id


def names(page: Any) -> list[str]:
    return [hit.filename for hit in page.data]


def refused(call: Any, status: int = 400) -> tuple[str | None, str]:
    """The parameter that a refused call names, and the words."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    assert caught.value.status_code == status, caught.value.message
    return caught.value.param, caught.value.message


def test_a_file_is_indexed_and_found(client: OpenAI) -> None:
    store = client.vector_stores.create(name="kb", metadata={"a": "b"}, description="about animals")
    assert store.id.startswith("vs_")
    assert (store.object, store.name, store.status, store.metadata) == ("vector_store", "kb", "completed", {"a": "b"})
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("cats.md", TEXTS["cats.md"]), attributes={"kind": "animal", "legs": 4}
    )
    assert (file.status, file.object, file.vector_store_id) == ("completed", "vector_store.file", store.id)
    assert file.last_error is None
    assert file.attributes == {"kind": "animal", "legs": 4}
    assert file.chunking_strategy is not None
    static = {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}
    assert file.chunking_strategy.to_dict() == {"type": "static", "static": static}
    page = client.vector_stores.search(store.id, query="what is the zebra code?")
    (hit,) = page.data
    assert page.to_dict()["search_query"] == ["what is the zebra code?"]
    assert (hit.file_id, hit.filename, hit.attributes) == (file.id, "cats.md", {"kind": "animal", "legs": 4})
    assert "7391" in hit.content[0].text
    assert 0 < hit.score <= 1
    seen = client.vector_stores.retrieve(store.id)
    assert (seen.file_counts.completed, seen.file_counts.total) == (1, 1)
    assert seen.usage_bytes == file.usage_bytes > 0


def test_the_whole_text_is_read_again(client: OpenAI) -> None:
    text = "\n\n".join(f"Paragraph {n} says things – äöü – about number {n}. " * 5 for n in range(300))
    store = client.vector_stores.create()
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("long.txt", text.encode()),
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}},
    )
    assert file.status == "completed"
    pieces = [part.text for part in client.vector_stores.files.content(file.id, vector_store_id=store.id)]
    assert len(pieces) > 100
    assert "".join(piece or "" for piece in pieces) == text


def test_attributes_and_their_filters(client: OpenAI) -> None:
    store = client.vector_stores.create()
    files: dict[str, Any] = {
        "a.txt": {"year": 2020, "lang": "en", "draft": True},
        "b.txt": {"year": 2022, "lang": "de"},
        "c.txt": {"year": 2024, "lang": "en", "draft": False},
    }
    for name, attributes in files.items():
        client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, b"all of them speak of harbours"), attributes=attributes
        )

    def found(**filters: Any) -> str:
        page = client.vector_stores.search(store.id, query="harbours", filters=filters)  # type: ignore[arg-type]
        return "".join(sorted(name[0] for name in names(page)))

    assert found(type="eq", key="lang", value="en") == "ac"
    assert found(type="ne", key="lang", value="en") == "b"
    assert found(type="gt", key="year", value=2020) == "bc"
    assert found(type="gte", key="year", value=2020) == "abc"
    assert found(type="lt", key="year", value=2022) == "a"
    assert found(type="lte", key="year", value=2022) == "ab"
    assert found(type="in", key="year", value=[2020, 2024]) == "ac"
    assert found(type="nin", key="year", value=[2020, 2024]) == "b"
    assert found(type="eq", key="missing", value=1) == ""
    both = [{"type": "eq", "key": "lang", "value": "en"}, {"type": "eq", "key": "draft", "value": True}]
    assert found(type="and", filters=both) == "a"
    assert found(type="or", filters=both) == "ac"
    (a,) = [
        file
        for file in client.vector_stores.files.list(store.id)
        if file.attributes and "draft" in file.attributes and file.attributes["draft"] is True
    ]
    client.vector_stores.files.update(a.id, vector_store_id=store.id, attributes={"lang": "fr"})
    assert found(type="eq", key="lang", value="fr") == "a"
    assert found(type="eq", key="lang", value="en") == "c"


def test_lists_in_pages_both_ways(client: OpenAI) -> None:
    store = filled(client, **{f"{n}.txt": b"text" for n in range(5)})
    ids = [file.id for file in client.vector_stores.files.list(store.id, limit=2, order="asc")]
    assert len(ids) == 5
    assert [file.id for file in client.vector_stores.files.list(store.id, order="asc", after=ids[2]).data] == ids[3:]
    before = client.vector_stores.files.list(store.id, order="asc", before=ids[2], limit=1)
    assert [file.id for file in before.data] == [ids[1]]
    assert client.vector_stores.files.list(store.id, filter="failed").data == []
    assert len(client.vector_stores.files.list(store.id, filter="completed").data) == 5
    assert store.id in [one.id for one in client.vector_stores.list(limit=100)]
    assert refused(lambda: client.vector_stores.files.list(store.id, after="nobody"), 404)[0] == "after"


def test_a_batch_with_attributes_of_each_file(client: OpenAI) -> None:
    store = client.vector_stores.create()
    good, other = upload(client, "good.txt", b"good words"), upload(client, "other.txt", b"other words")
    batch = client.vector_stores.file_batches.create_and_poll(
        vector_store_id=store.id,
        files=[{"file_id": good, "attributes": {"n": 1}}, {"file_id": other}],
    )
    assert batch.id.startswith("vsfb_")
    assert (batch.object, batch.status, batch.file_counts.total) == ("vector_store.files_batch", "completed", 2)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id).data
    assert {file.id: file.attributes for file in listed} == {good: {"n": 1}, other: {}}
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status == "completed", "nothing was left to cancel"
    both = refused(
        lambda: client.vector_stores.file_batches.create(
            vector_store_id=store.id, file_ids=[good], files=[{"file_id": other}]
        )
    )
    assert both[0] == "file_ids"


def test_a_file_that_has_no_text_fails_alone(client: OpenAI) -> None:
    store = client.vector_stores.create()
    files = [upload(client, "empty.txt", b"  \n "), upload(client, "noise.bin", bytes(range(256)) * 20)]
    files.append(upload(client, "fine.txt", b"fine words"))
    batch = client.vector_stores.file_batches.create_and_poll(vector_store_id=store.id, file_ids=files)
    assert (batch.status, batch.file_counts.failed, batch.file_counts.completed) == ("completed", 2, 1)
    failed = {file.id: file for file in client.vector_stores.files.list(store.id, filter="failed")}
    errors = [failed[id_].last_error for id_ in files[:2]]
    assert [error.code if error else None for error in errors] == ["invalid_file", "unsupported_file"]
    assert all(error is not None and error.message for error in errors)
    assert names(client.vector_stores.search(store.id, query="words")) == ["fine.txt"]


def test_what_is_taken_out_is_not_found(client: OpenAI) -> None:
    store = filled(client)
    (cats,) = client.vector_stores.search(store.id, query="zebra").data
    gone = client.vector_stores.files.delete(cats.file_id, vector_store_id=store.id)
    assert (gone.object, gone.deleted) == ("vector_store.file.deleted", True)
    assert names(client.vector_stores.search(store.id, query="zebra")) == []
    assert client.files.retrieve(cats.file_id).filename == "cats.md", "the file itself stays"
    (boats,) = client.vector_stores.search(store.id, query="keel").data
    client.files.delete(boats.file_id)
    assert names(client.vector_stores.search(store.id, query="keel")) == [], "a deleted file is in no store"
    assert client.vector_stores.retrieve(store.id).file_counts.total == 1
    assert client.vector_stores.delete(store.id).to_dict() == {
        "id": store.id,
        "object": "vector_store.deleted",
        "deleted": True,
    }
    assert refused(lambda: client.vector_stores.search(store.id, query="bread"), 404)[0] == "vector_store_id"


def test_a_file_that_is_put_in_again_is_indexed_anew(client: OpenAI) -> None:
    store = filled(client)
    (cats,) = client.vector_stores.search(store.id, query="zebra").data
    client.vector_stores.files.create_and_poll(cats.file_id, vector_store_id=store.id, attributes={"again": True})
    (again,) = client.vector_stores.search(store.id, query="zebra").data
    assert (again.file_id, again.attributes) == (cats.file_id, {"again": True})
    assert client.vector_stores.retrieve(store.id).file_counts.total == 3


def test_a_store_is_renamed_and_expires(client: OpenAI) -> None:
    store = client.vector_stores.create(name="old", expires_after={"anchor": "last_active_at", "days": 2})
    assert store.last_active_at is not None
    assert store.expires_at == store.last_active_at + 2 * 86_400
    renamed = client.vector_stores.update(store.id, name="new", metadata={"k": "v"})
    assert renamed.last_active_at is not None
    ends = renamed.last_active_at + 2 * 86_400
    assert (renamed.name, renamed.metadata, renamed.expires_at) == ("new", {"k": "v"}, ends)
    assert client.vector_stores.update(store.id, expires_after=None).expires_at is None


def test_a_store_that_was_idle_for_long_may_be_told_to_expire(server: Server, client: OpenAI) -> None:
    store = filled(client)
    now = int(time.time())
    with server.rows() as rows:
        rows.execute("UPDATE vector_stores SET last_active_at = ? WHERE id = ?", (now - 40 * 86_400, store.id))
    told = client.vector_stores.update(store.id, expires_after={"anchor": "last_active_at", "days": 7})
    assert (told.status, told.file_counts.completed) == ("completed", 3)
    assert told.last_active_at is not None
    assert told.last_active_at >= now, "a change is a use"
    assert told.expires_at == told.last_active_at + 7 * 86_400
    assert names(client.vector_stores.search(store.id, query="zebra")) == ["cats.md"]


def test_an_expired_store_is_searched_no_more(server: Server, client: OpenAI) -> None:
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"words"))
    with server.rows() as rows:
        rows.execute("UPDATE vector_stores SET expires_at = ? WHERE id = ?", (int(time.time()) - 1, store.id))
    assert client.vector_stores.retrieve(store.id).status == "expired"
    param, message = refused(lambda: client.vector_stores.search(store.id, query="words"))
    assert param == "vector_store_id"
    assert "expired" in message


def test_queries_thresholds_and_weights(client: OpenAI) -> None:
    store = filled(client)
    search = client.vector_stores.search
    assert set(names(search(store.id, query=["zebra", "keel"]))) == {"cats.md", "boats.md"}
    assert len(search(store.id, query=["zebra", "keel"], max_num_results=1).data) == 1
    best = search(store.id, query="zebra keel boat wind").data[0]
    strict = search(store.id, query="zebra keel boat wind", ranking_options={"score_threshold": best.score})
    assert names(strict) == [best.filename]
    asked = search(store.id, query="Can you tell me what the zebra code is?", rewrite_query=True)
    assert asked.to_dict()["search_query"] == ["zebra code"]
    assert names(asked) == ["cats.md"]


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("我住在北京市，天气很好。", ["北京", "北京的天气怎么样？"]),
        ("会議は東京都庁で行われます", ["東京", "会議はどこですか"]),
        ("한국어 문서입니다", ["문서", "한국어 문서는?"]),
        ("กรุงเทพมหานครเป็นเมืองหลวง", ["กรุงเทพ", "เมือง"]),
        ("น้ำกั้นเขื่อน", ["น้ำ", "กั้น"]),
        ("हिन्दी भाषा", ["हिन्दी"]),
        ("型番ＡＢＣ７７７です", ["ABC777", "型番"]),
        ("Mu\u0308ller's e\ufb03cient engine", ["Müller", "efficient", "Mu\u0308ller’s"]),
        ("Release 1.2.3 of foo/bar_baz by john@example.com <zebra>", ["1.2.3", "bar", "baz", "john", "zebra"]),
        ("ÄRGER in “Österreich” – the captain’s log…", ["ärger", "Österreich", "captain's", "captain’s", "log"]),
        ("The part ABC-123 is spent", ["ABC-123", "abc", "123"]),
        ("x" * 128, ["x" * 128]),
    ],
)
def test_words_of_every_script_are_found(client: OpenAI, text: str, queries: list[str]) -> None:
    store = filled(client, **{"wanted.txt": text.encode(), "other.txt": b"bread and salt"})
    for query in [*queries, text]:
        assert names(client.vector_stores.search(store.id, query=query)) == ["wanted.txt"], query
    (hit,) = client.vector_stores.search(store.id, query=queries[0]).data
    assert hit.content[0].text == text, "it is shown as it was written"
    assert names(client.vector_stores.search(store.id, query="😀 南 zzz")) == []


def test_bad_input_is_named(client: OpenAI) -> None:
    store = client.vector_stores.create()
    stores: Any = client.vector_stores
    file = upload(client, "a.txt", b"words")

    def static(size: int, overlap: int) -> Any:
        return {"type": "static", "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}}

    for param, call in {
        "chunking_strategy.static.max_chunk_size_tokens": lambda: stores.files.create(
            store.id, file_id=file, chunking_strategy=static(99, 0)
        ),
        "chunking_strategy.static.chunk_overlap_tokens": lambda: stores.files.create(
            store.id, file_id=file, chunking_strategy=static(200, 101)
        ),
        "chunking_strategy": lambda: stores.files.create(store.id, file_id=file, chunking_strategy={"type": "other"}),
        "attributes": lambda: stores.files.create(store.id, file_id=file, attributes={str(n): 1 for n in range(17)}),
        "attributes.a": lambda: stores.files.create(store.id, file_id=file, attributes={"a": [1]}),
        "query": lambda: stores.search(store.id, query=" "),
        "max_num_results": lambda: stores.search(store.id, query="a", max_num_results=51),
        "ranking_options.score_threshold": lambda: stores.search(
            store.id, query="a", ranking_options={"score_threshold": 2}
        ),
        "filters.type": lambda: stores.search(store.id, query="a", filters={"type": "like", "key": "a", "value": 1}),
        "filters.value": lambda: stores.search(store.id, query="a", filters={"type": "eq", "key": "a", "value": None}),
        "expires_after.days": lambda: stores.create(expires_after={"anchor": "last_active_at", "days": 366}),
        "file_ids": lambda: stores.file_batches.create(store.id, file_ids=[]),
        "metadata": lambda: stores.create(metadata={str(n): "" for n in range(17)}),
        "filter": lambda: stores.files.list(store.id, filter="lost"),
    }.items():
        named = refused(call)[0]
        assert named is not None
        assert named.startswith(param) or param.startswith(named), (param, named)
    assert refused(lambda: stores.files.create(store.id, file_id="file-nobody"), 404)[0] == "file_id"
    assert refused(lambda: stores.retrieve("vs_nobody"), 404)[0] == "vector_store_id"
    assert refused(lambda: stores.files.retrieve("file-x", vector_store_id=store.id), 404)[0] == "file_id"
    assert refused(lambda: stores.file_batches.retrieve("vsfb_x", vector_store_id=store.id), 404)[0] == "batch_id"
    assert names(stores.search(store.id, query="\" OR * NEAR( ' -- %s ;")) == []


def test_another_projects_store_does_not_exist(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text("".join(f'[[keys]]\nkey = "sk-{name}"\nproject = "proj_{name}"\n' for name in "ab"))
    server = launch(config=str(config), api_key="")
    mine, theirs = server.client("sk-a"), server.client("sk-b")
    store = filled(mine)
    assert names(mine.vector_stores.search(store.id, query="zebra")) == ["cats.md"], "the control"
    refused(lambda: theirs.vector_stores.search(store.id, query="zebra"), 404)
    refused(lambda: theirs.vector_stores.retrieve(store.id), 404)
    own = theirs.vector_stores.create()
    (file, *_) = mine.vector_stores.files.list(store.id).data
    refused(lambda: theirs.vector_stores.files.create(own.id, file_id=file.id), 404)


def test_without_an_embedding_model_words_are_found_and_it_is_said(client: OpenAI) -> None:
    store = filled(client)
    mode: Any = store.to_dict()["search"]
    assert mode["mode"] == "keyword"
    assert "DESKHAND_EMBEDDING_MODEL" in mode["reason"]
    page = client.vector_stores.search(store.id, query="flour")
    assert names(page) == ["bread.md"]
    said: Any = page.to_dict()
    assert said["search"]["mode"] == "keyword"


def test_indexing_goes_on_after_the_server_was_killed(launch: Launch) -> None:
    first = launch()
    client = first.client()
    store = client.vector_stores.create()
    files = [upload(client, f"{n}.txt", f"harbour number {n} ".encode() * 20_000) for n in range(6)]
    batch = client.vector_stores.file_batches.create(vector_store_id=store.id, file_ids=files)
    first.process.kill()
    first.process.wait()
    client = launch().client()
    with_lease = client.vector_stores.retrieve(store.id).file_counts
    assert with_lease.total == 6
    done = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id)
    assert (done.status, done.file_counts.completed) == ("completed", 6)
    hits = client.vector_stores.search(store.id, query="harbour", max_num_results=50).data
    assert len({hit.file_id for hit in hits}) >= 1
    for file in files:
        text = "".join(part.text or "" for part in client.vector_stores.files.content(file, vector_store_id=store.id))
        assert text.count("harbour") == 20_000, "no chunk is there twice"


@pytest.fixture
def meaning(launch: Launch) -> OpenAI:
    """A server whose scripted upstream makes vectors."""
    return launch(embedding_model="scripted").client()


def test_vectors_find_what_words_alone_rank_otherwise(meaning: OpenAI) -> None:
    store = filled(meaning)
    mode: Any = store.to_dict()["search"]
    assert (mode["mode"], mode["embedding_model"], mode["dimensions"]) == ("hybrid", "scripted", 64)
    page = meaning.vector_stores.search(store.id, query="zebra code")
    said: Any = page.to_dict()
    assert said["search"]["mode"] == "hybrid"
    assert page.data[0].filename == "cats.md"
    assert len(page.data) == 3, "vectors are near or far, of every chunk"
    weights: Any = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
    assert names(meaning.vector_stores.search(store.id, query="zebra", ranking_options=weights)) == ["cats.md"]
    weights = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    assert len(meaning.vector_stores.search(store.id, query="zebra", ranking_options=weights).data) == 3


def test_another_model_leaves_the_words_and_it_is_said(launch: Launch) -> None:
    first = launch(embedding_model="scripted")
    store = filled(first.client())
    first.process.terminate()
    first.process.wait()
    client = launch(embedding_model="another").client()
    page = client.vector_stores.search(store.id, query="zebra")
    said: Any = page.to_dict()
    assert names(page) == ["cats.md"]
    assert said["search"]["mode"] == "keyword"
    assert "'scripted'" in said["search"]["reason"]
    assert "'another'" in said["search"]["reason"]


def when_hybrid(client: OpenAI, store_id: str) -> Any:
    """The store, once it is searched by vectors as well."""
    deadline = time.monotonic() + 60
    while True:
        store: Any = client.vector_stores.retrieve(store_id)
        if store.search["mode"] == "hybrid":
            return store
        assert time.monotonic() < deadline, store.search
        time.sleep(0.2)


def test_what_was_indexed_without_a_model_gets_its_vectors_later(launch: Launch) -> None:
    """Those of a store from before there was a model, and those of a file that came while there was none."""
    first = launch()
    client = first.client()
    old = filled(client)
    first.process.terminate()
    first.process.wait()
    second = launch(embedding_model="scripted")
    client = second.client()
    store = when_hybrid(client, old.id)
    assert (store.search["embedding_model"], store.search["dimensions"]) == ("scripted", 64)
    assert store.usage_bytes == old.usage_bytes + 3 * 64 * 4
    assert len(client.vector_stores.search(old.id, query="zebra code").data) == 3, "near or far, every chunk"
    second.process.terminate()
    second.process.wait()
    third = launch()
    client = third.client()
    client.vector_stores.files.upload_and_poll(vector_store_id=old.id, file=("late.md", b"A late zebra."))
    third.process.terminate()
    third.process.wait()
    client = launch(embedding_model="scripted").client()
    when_hybrid(client, old.id)
    assert len(client.vector_stores.search(old.id, query="zebra code").data) == 4
    own = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    found = client.vector_stores.search(old.id, query="A late zebra.", ranking_options=own)  # type: ignore[arg-type]
    assert (found.data[0].filename, round(found.data[0].score, 3)) == ("late.md", 1.0)


def test_a_text_that_the_model_refuses_keeps_no_other_from_its_vectors(launch: Launch) -> None:
    first = launch()
    client = first.client()
    store = filled(client, **{"long.md": b"@@ too long: a zebra", "cats.md": b"a zebra purrs"})
    first.process.terminate()
    first.process.wait()
    second = launch(embedding_model="scripted")
    client = second.client()
    when_hybrid(client, store.id)
    assert "late_vectors.refused" in second.log.read_text()
    assert set(names(client.vector_stores.search(store.id, query="zebra"))) == {"long.md", "cats.md"}
    own: Any = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    assert names(client.vector_stores.search(store.id, query="zebra", ranking_options=own)) == ["cats.md"]


def test_a_text_that_the_model_refuses_fails_at_once_and_says_why(launch: Launch) -> None:
    server = launch(embedding_model="scripted")
    client = server.client()
    store = filled(client, **{"cats.md": b"a zebra purrs"})
    file = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"@@ too long"))
    assert (file.status, file.last_error is not None and file.last_error.code) == ("failed", "server_error")
    assert "maximum context length" in (file.last_error.message if file.last_error else "")
    with server.rows() as rows:
        assert list(rows.execute("SELECT attempts FROM vector_store_files ORDER BY seq")) == [(1,), (1,)]


def test_vectors_are_tried_again_until_the_model_makes_them(launch: Launch) -> None:
    first = launch()
    store = filled(first.client())
    first.process.terminate()
    first.process.wait()
    wrong = launch(upstream=None, embedding_model="demo")
    client = wrong.client()
    said: Any = client.vector_stores.search(store.id, query="zebra").to_dict()
    assert said["search"]["mode"] == "keyword"
    assert "in the background" in said["search"]["reason"]
    deadline = time.monotonic() + 30
    while "late_vectors.later" not in wrong.log.read_text():
        assert time.monotonic() < deadline, "it did not try"
        time.sleep(0.1)
    wrong.process.terminate()
    wrong.process.wait()
    with wrong.rows() as rows:
        rows.execute("UPDATE vector_store_files SET lease_until = 0")
    assert when_hybrid(launch(embedding_model="scripted").client(), store.id).search["dimensions"] == 64


def test_vectors_of_the_wrong_size_fail_the_file_that_has_them(server: Server, launch: Launch) -> None:
    own = launch(embedding_model="scripted")
    client = own.client()
    store = filled(client)
    with own.rows() as rows:
        rows.execute("UPDATE vector_stores SET dimensions = 7 WHERE id = ?", (store.id,))
    file = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("late.txt", b"late words"))
    assert file.status == "failed"
    assert file.last_error is not None
    assert file.last_error.code == "server_error"
    assert "64 numbers" in file.last_error.message
    assert "vectors of 7" in file.last_error.message
    page = client.vector_stores.search(store.id, query="zebra")
    assert names(page) == ["cats.md"], "words are found all the same"
    said: Any = page.to_dict()
    assert (said["search"]["mode"], "have 7 numbers" in said["search"]["reason"]) == ("keyword", True)


def test_a_model_that_serves_no_vectors_fails_the_files_and_leaves_words(launch: Launch) -> None:
    client = launch(upstream=None, embedding_model="demo").client()
    store = client.vector_stores.create()
    file = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", b"words"))
    assert file.status == "failed"
    assert file.last_error is not None
    assert "embedding model" in file.last_error.message
