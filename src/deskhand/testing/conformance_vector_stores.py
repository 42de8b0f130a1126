"""What the stores behind vector stores must do, as checks to run against an implementation.

A check takes a library that may hold other things already, and raises `AssertionError`.
"""

from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..core.chunking import Chunk, ChunkSizes
from ..core.errors import ApiError
from ..ports.store import FileRecord, FileStore, Page
from ..ports.vector_stores import (
    BareChunk,
    Changes,
    IndexingJob,
    IndexingJobs,
    LateVectorJobs,
    NewFile,
    SearchIndex,
    VectorStoreRecord,
    VectorStoreRecords,
)
from .conformance_store import unique


@dataclass(frozen=True, slots=True)
class Shelves:
    """The parts of a database that vector stores need."""

    records: VectorStoreRecords
    jobs: IndexingJobs
    late: LateVectorJobs
    index: SearchIndex
    files: FileStore


ShelfCheck = Callable[[Shelves], Awaitable[None]]

TEXTS: Final = ("zebras graze on wide plains", "sailing boats need wind", "the zebra boat has stripes")
VECTORS: Final = (array("f", [1.0, 0.0, 0.0]), array("f", [0.0, 1.0, 0.0]), array("f", [2.0, 2.0, 0.0]))


async def made(shelves: Shelves, *file_ids: str, days: int = 0, model: str = "m") -> VectorStoreRecord:
    """A store with files to index."""
    ends = 1000 + days * 86_400 if days else None
    store_id, owner = unique("vs"), unique("proj")
    record = VectorStoreRecord(0, store_id, owner, "n \0 é", "d", {"a": "b"}, 1000, 1000, days, ends, model)
    await shelves.records.add(record, [NewFile(id_, f"{id_}.txt", {"n": 1}, ChunkSizes()) for id_ in file_ids])
    return await again(shelves, record)


async def again(shelves: Shelves, record: VectorStoreRecord) -> VectorStoreRecord:
    """The store as it is now."""
    found = await shelves.records.get(record.owner, record.id)
    assert found is not None
    return found


async def job_of(shelves: Shelves, record: VectorStoreRecord, file_id: str, now: int = 2000) -> IndexingJob:
    """The job of a file, begun."""
    due = [job for job in await shelves.jobs.due(now, 10_000) if (job.store_seq, job.file_id) == (record.seq, file_id)]
    assert len(due) == 1
    begun = await shelves.jobs.claim(due[0], now, now + 60)
    assert begun is not None
    return begun


async def index(
    shelves: Shelves,
    record: VectorStoreRecord,
    file_id: str,
    texts: Sequence[str] = TEXTS,
    vectors: Sequence["array[float]"] | None = VECTORS,
) -> IndexingJob:
    """Index a file of these chunks."""
    job = await job_of(shelves, record, file_id)
    if vectors is not None:
        assert await shelves.jobs.set_dimensions(job, len(vectors[0])) == len(vectors[0])
    assert await shelves.jobs.add_chunks(job, [Chunk(text) for text in texts], vectors)
    assert await shelves.jobs.finish(job, 100)
    return job


async def words(shelves: Shelves, record: VectorStoreRecord, *terms: str) -> list[str]:
    """The texts that have the words, best first."""
    record = await again(shelves, record)
    found = await shelves.index.by_words(record, terms, None, 10)
    assert all(score > 0 for _, score in found)
    return [passage.text for passage in await shelves.index.passages([seq for seq, _ in found])]


async def near(shelves: Shelves, record: VectorStoreRecord, *numbers: float) -> list[tuple[str, float]]:
    """The texts with near vectors, nearest first, with their cosines."""
    record = await again(shelves, record)
    found = await shelves.index.by_vector(record, array("f", numbers), None, 10)
    passages = await shelves.index.passages([seq for seq, _ in found])
    return [(passage.text, round(score, 4)) for passage, (_, score) in zip(passages, found, strict=True)]


async def a_store_is_read_as_it_was_kept(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    assert (record.name, record.metadata, record.expires_at) == ("n \ufffd é", {"a": "b"}, None)
    assert await shelves.records.get(unique("proj"), record.id) is None
    (counts,) = await shelves.records.counts([record])
    assert (counts.in_progress, counts.total, counts.usage_bytes) == (1, 1, 0)
    await shelves.records.update(record, Changes(name="other", expires_days=2), 5)
    await shelves.records.update(record, Changes(metadata={}), 7)
    changed = await again(shelves, record)
    assert (changed.name, changed.metadata, changed.last_active_at) == ("other", {}, 7)
    assert changed.expires_at == 7 + 2 * 86_400, "a change is a use"
    await shelves.records.touch(changed, 9)
    assert (await again(shelves, record)).expires_at == 9 + 2 * 86_400
    await shelves.records.update(record, Changes(name="late", expires_days=0), 9 + 2 * 86_400)
    assert await again(shelves, record) == replace(changed, last_active_at=9, expires_at=9 + 2 * 86_400), "it is over"
    assert await shelves.records.delete(record.owner, record.id)
    assert not await shelves.records.delete(record.owner, record.id)


async def words_and_vectors_are_found(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    assert await words(shelves, record, "zebra") == []
    await index(shelves, record, "file-a")
    assert set(await words(shelves, record, "zebra")) == {TEXTS[0], TEXTS[2]}, "stems, whatever the ending"
    assert await words(shelves, record, "zebra", "striped", "boat") != []
    assert (await words(shelves, record, "zebra", "stripes", "boat"))[0] == TEXTS[2]
    assert await words(shelves, record, "nothing") == []
    assert await near(shelves, record, 5, 0, 0) == [(TEXTS[0], 1.0), (TEXTS[2], 0.7071), (TEXTS[1], 0.0)]


async def words_that_mean_something_to_the_database_are_words(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    await index(shelves, record, "file-a")
    for hostile in ('"', "'", "NEAR(", "*", "a:b", "-zebra", "\\", "\0", "%", "or", "and", "(", "^", "{", "é", "😀"):
        await words(shelves, record, hostile, "plains")
    assert await words(shelves, record, "or", "plains") == [TEXTS[0]], "the control"


async def stores_do_not_see_each_other(shelves: Shelves) -> None:
    one, other = await made(shelves, "file-a"), await made(shelves, "file-a")
    await index(shelves, one, "file-a")
    assert await words(shelves, other, "zebra") == []
    assert await near(shelves, replace(other, dimensions=3), 1, 0, 0) == []
    assert len(await words(shelves, one, "zebra")) == 2, "the control"


async def only_the_wanted_files_are_looked_in(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    first, second = await index(shelves, record, "file-a"), await index(shelves, record, "file-b")
    record = await again(shelves, record)
    assert {file.seq for file in await shelves.index.files(record)} == {first.file_seq, second.file_seq}
    for wanted, found in [([first.file_seq], {"file-a"}), ([second.file_seq], {"file-b"}), ([], set())]:
        by_words = await shelves.index.by_words(record, ["zebra"], wanted, 10)
        by_vector = await shelves.index.by_vector(record, VECTORS[0], wanted, 10)
        for hits in (by_words, by_vector):
            passages = await shelves.index.passages([seq for seq, _ in hits])
            assert {passage.file_id for passage in passages} == found


async def what_is_not_indexed_yet_is_not_found(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    await index(shelves, record, "file-a")
    assert len(await near(shelves, record, 1, 0, 0)) == 3
    job = await job_of(shelves, record, "file-b")
    assert await shelves.jobs.add_chunks(job, [Chunk("zebra again")], [array("f", [3.0, 0.0, 0.0])])
    assert "zebra again" not in await words(shelves, record, "zebra")
    assert len(await near(shelves, record, 1, 0, 0)) == 3
    assert await shelves.jobs.finish(job, 1)
    assert "zebra again" in await words(shelves, record, "zebra")
    assert len(await near(shelves, record, 1, 0, 0)) == 4


async def what_is_not_indexed_yet_hides_nothing(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    await index(shelves, record, "file-a", ["a zebra is mentioned once in this rather long sentence"], None)
    job = await job_of(shelves, record, "file-b")
    assert await shelves.jobs.add_chunks(job, [Chunk("zebra")] * 300, None)
    assert len(await words(shelves, record, "zebra")) == 1


async def what_is_taken_out_is_not_found_and_goes(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    await index(shelves, record, "file-a")
    await index(shelves, record, "file-b", ["zebra alone"], [array("f", [1.0, 0.0, 0.0])])
    assert len(await near(shelves, record, 1, 0, 0)) == 4
    file = await shelves.records.file(record, "file-a")
    assert file is not None
    assert await shelves.records.remove_file(record, "file-a")
    assert not await shelves.records.remove_file(record, "file-a")
    assert await words(shelves, record, "zebra") == ["zebra alone"]
    assert await near(shelves, record, 1, 0, 0) == [("zebra alone", 1.0)]
    assert len(await shelves.records.content(file, 0, 10)) == 3, "its chunks go later"
    while await shelves.jobs.sweep(2000, 2):
        pass
    assert await shelves.records.content(file, 0, 10) == []
    assert await words(shelves, record, "zebra") == ["zebra alone"]


async def a_file_that_comes_again_keeps_its_new_chunks(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    await index(shelves, record, "file-a")
    assert await shelves.records.add_files(record, [NewFile("file-a", "a", {}, ChunkSizes())], 2000, None, 10)
    await index(shelves, record, "file-a", ["a new zebra"], [VECTORS[0]])
    while await shelves.jobs.sweep(2000, 2):
        pass
    assert await words(shelves, record, "zebra") == ["a new zebra"]
    assert await near(shelves, record, 1, 0, 0) == [("a new zebra", 1.0)]


async def a_deleted_file_is_in_no_store(shelves: Shelves) -> None:
    record = await made(shelves)
    file_id = unique("file")
    await shelves.files.add(FileRecord(file_id, record.owner, "f", 1, "assistants", 1, None, unique("blob")))
    new = [NewFile(file_id, "f", {}, ChunkSizes())]
    assert await shelves.records.add_files(record, new, 2000, None, 10)
    await index(shelves, record, file_id)
    assert len(await words(shelves, record, "zebra")) == 2
    await shelves.files.delete(record.owner, file_id)
    assert await words(shelves, record, "zebra") == []
    assert await near(shelves, record, 1, 0, 0) == []
    assert await shelves.records.file(record, file_id) is None


async def a_job_is_one_process_s_at_a_time(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    (due,) = [job for job in await shelves.jobs.due(2000, 10_000) if job.store_seq == record.seq]
    first = await shelves.jobs.claim(due, 2000, 2060)
    assert first is not None
    assert await shelves.jobs.claim(due, 2000, 2060) is None
    assert record.seq not in [job.store_seq for job in await shelves.jobs.due(2059, 10_000)]
    assert await shelves.jobs.renew(first, 2100)
    assert record.seq not in [job.store_seq for job in await shelves.jobs.due(2099, 10_000)]
    assert await shelves.jobs.add_chunks(first, [Chunk("of the first")], None)
    second = await job_of(shelves, record, "file-a", 2100)
    assert second.attempts == 2
    assert not await shelves.jobs.add_chunks(first, [Chunk("too late")], None)
    assert not await shelves.jobs.finish(first, 1)
    assert not await shelves.jobs.fail(first, "server_error", "too late")
    assert not await shelves.jobs.renew(first, 9999)
    assert await shelves.jobs.clear(second, 10)
    assert not await shelves.jobs.clear(second, 10)
    assert await shelves.jobs.add_chunks(second, [Chunk("of the second")], None)
    assert await shelves.jobs.finish(second, 7)
    file = await shelves.records.file(record, "file-a")
    assert file is not None
    assert (file.status, file.usage_bytes) == ("completed", 7)
    assert [chunk.text for _, chunk in await shelves.records.content(file, 0, 10)] == ["of the second"]


async def a_job_that_fails_says_why_and_one_that_waits_comes_again(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    assert await shelves.jobs.fail(await job_of(shelves, record, "file-a"), "invalid_file", "no \0 text")
    file = await shelves.records.file(record, "file-a")
    assert file is not None
    assert (file.status, file.error_code, file.error_message) == ("failed", "invalid_file", "no \ufffd text")
    assert await shelves.jobs.postpone(await job_of(shelves, record, "file-b"), 3000)
    assert record.seq not in [job.store_seq for job in await shelves.jobs.due(2999, 10_000)]
    assert (await job_of(shelves, record, "file-b", 3000)).attempts == 2


async def a_batch_is_cancelled(shelves: Shelves) -> None:
    record, batch_id = await made(shelves), unique("vsfb")
    new = [NewFile(id_, "f", {}, ChunkSizes()) for id_ in ("file-a", "file-b")]
    assert await shelves.records.add_files(record, new, 2000, batch_id, 10)
    await index(shelves, record, "file-a")
    job = await job_of(shelves, record, "file-b")
    await shelves.records.cancel_batch(record, batch_id)
    assert not await shelves.jobs.finish(job, 1)
    batch = await shelves.records.batch(record, batch_id)
    assert batch is not None
    assert (batch.cancelled, batch.counts.completed, batch.counts.cancelled) == (True, 1, 1)
    listed = await shelves.records.files(record, Page(10, "asc"), "cancelled", batch_id)
    assert [file.file_id for file in listed.data] == ["file-b"]
    assert (await shelves.records.files(record, Page(10, "asc"), None, "vsfb_nobody")).data == []


async def a_store_takes_no_more_than_it_may(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    new = [NewFile(id_, "f", {}, ChunkSizes()) for id_ in ("file-b", "file-c")]
    assert not await shelves.records.add_files(record, new, 2000, None, 2)
    assert await shelves.records.file(record, "file-b") is None
    assert await shelves.records.add_files(record, new, 2000, None, 3)
    assert (await again(shelves, record)).last_active_at == 2000
    assert await shelves.records.delete(record.owner, record.id)
    gone = None
    try:
        await shelves.records.add_files(record, new, 2000, None, 3)
    except ApiError as exc:
        gone = (exc.status, exc.param)
    assert gone == (404, "vector_store_id"), "nothing is put into a store that was deleted meanwhile"


async def pages_go_both_ways(shelves: Shelves) -> None:
    record = await made(shelves, *(f"file-{n}" for n in range(5)))

    async def ids(page: Page) -> list[str]:
        return [file.file_id[-1] for file in (await shelves.records.files(record, page, None, None)).data]

    assert await ids(Page(3, "asc")) == ["0", "1", "2"]
    assert await ids(Page(3, "asc", after="file-2")) == ["3", "4"]
    assert await ids(Page(2, "asc", before="file-3")) == ["1", "2"]
    assert await ids(Page(2, "desc", before="file-1")) == ["3", "2"]
    refused = None
    try:
        await ids(Page(2, "asc", before="file-9"))
    except ApiError as exc:
        refused = (exc.status, exc.param)
    assert refused == (404, "before")


async def expired_stores_are_emptied(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", days=1)
    await index(shelves, record, "file-a")
    while await shelves.jobs.sweep(1000 + 86_399, 100):
        pass
    assert len(await words(shelves, record, "zebra")) == 2, "the control"
    while await shelves.jobs.sweep(1000 + 86_400, 100):
        pass
    assert await words(shelves, record, "zebra") == []
    assert (await shelves.records.counts([record]))[0].total == 0


async def vectors_of_a_store_are_of_one_size(shelves: Shelves) -> None:
    record = await made(shelves, "file-a")
    job = await index(shelves, record, "file-a")
    assert await shelves.jobs.set_dimensions(job, 5) == 3
    assert (await again(shelves, record)).dimensions == 3


async def what_has_no_vectors_gets_them_later(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b", model="")
    await index(shelves, record, "file-a", vectors=None)
    record = await again(shelves, record)
    assert (record.bare, record.dimensions) == (True, 0)
    (file,) = [one for one in await shelves.late.bare_files("m", 2000, 10_000) if one.store_seq == record.seq]
    assert await shelves.late.hold(file, 2000, 2060)
    assert not await shelves.late.hold(file, 2059, 2200)
    assert record.seq not in [one.store_seq for one in await shelves.late.bare_files("m", 2059, 10_000)]
    first = await shelves.late.bare_chunks(file, 2)
    assert [chunk.text for chunk in first] == list(TEXTS[:2])
    assert await shelves.late.give_vectors(file, "m", first, VECTORS[:2], 2100)
    record = await again(shelves, record)
    assert (record.bare, record.embedding_model, record.dimensions) == (True, "m", 3)
    rest = await shelves.late.bare_chunks(file, 2)
    assert not await shelves.late.give_vectors(file, "other", rest, VECTORS[2:], 2100), "it has a model now"
    assert not await shelves.late.give_vectors(file, "m", rest, [array("f", [1.0])], 2100), "of another size"
    assert await shelves.late.give_vectors(file, "m", rest, VECTORS[2:], 2100)
    await shelves.late.let_go(file)
    assert not (await again(shelves, record)).bare
    assert await near(shelves, record, 5, 0, 0) == [(TEXTS[0], 1.0), (TEXTS[2], 0.7071), (TEXTS[1], 0.0)]
    assert (await shelves.records.counts([record]))[0].usage_bytes == 100 + 3 * 3 * 4


async def a_file_that_cannot_have_vectors_is_left_to_its_words(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    await index(shelves, record, "file-a")
    assert len(await near(shelves, record, 1, 0, 0)) == 3
    await index(shelves, record, "file-b", ["bare zebra"], None)
    assert (await again(shelves, record)).bare
    assert record.seq not in [one.store_seq for one in await shelves.late.bare_files("another", 2000, 10_000)]
    (file,) = [one for one in await shelves.late.bare_files("m", 2000, 10_000) if one.store_seq == record.seq]
    await shelves.late.let_go(file)
    assert not (await again(shelves, record)).bare
    assert len(await near(shelves, record, 1, 0, 0)) == 3
    assert "bare zebra" in await words(shelves, record, "zebra")
    assert await shelves.records.remove_file(record, "file-b")
    assert not await shelves.late.give_vectors(file, "m", [BareChunk(1, "x")], VECTORS[:1], 2100), "it has gone"


async def vectors_that_come_late_are_found_by_who_has_looked_before(shelves: Shelves) -> None:
    record = await made(shelves, "file-a", "file-b")
    await index(shelves, record, "file-a")
    await index(shelves, record, "file-b", ["bare zebra"], None)
    assert len(await near(shelves, record, 1, 0, 0)) == 3
    (file,) = [one for one in await shelves.late.bare_files("m", 2000, 10_000) if one.store_seq == record.seq]
    assert await shelves.late.give_vectors(file, "m", await shelves.late.bare_chunks(file, 9), VECTORS[:1], 2100)
    await shelves.late.let_go(file)
    assert len(await near(shelves, record, 1, 0, 0)) == 4


SHELF_CHECKS: Final[tuple[ShelfCheck, ...]] = (
    a_store_is_read_as_it_was_kept,
    words_and_vectors_are_found,
    words_that_mean_something_to_the_database_are_words,
    stores_do_not_see_each_other,
    only_the_wanted_files_are_looked_in,
    what_is_not_indexed_yet_is_not_found,
    what_is_not_indexed_yet_hides_nothing,
    what_is_taken_out_is_not_found_and_goes,
    a_file_that_comes_again_keeps_its_new_chunks,
    a_deleted_file_is_in_no_store,
    a_job_is_one_process_s_at_a_time,
    a_job_that_fails_says_why_and_one_that_waits_comes_again,
    a_batch_is_cancelled,
    a_store_takes_no_more_than_it_may,
    pages_go_both_ways,
    expired_stores_are_emptied,
    vectors_of_a_store_are_of_one_size,
    what_has_no_vectors_gets_them_later,
    a_file_that_cannot_have_vectors_is_left_to_its_words,
    vectors_that_come_late_are_found_by_who_has_looked_before,
)
