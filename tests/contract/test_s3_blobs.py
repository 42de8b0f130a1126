"""Bytes in a real S3 server, which may go away and come back."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import S3Store

from deskhand.core.errors import StoreUnavailable
from deskhand.store.s3_blobs import PART_BYTES, Name, S3Blobs, S3Place, by_content, by_upload
from deskhand.testing import conformance_records as records
from deskhand.testing.conformance_records import chunked, content

from ..s3 import ACCESS_KEY, SECRET_KEY, Wire, create_bucket, s3_process

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_process() as running:
        yield running


@pytest.fixture
def place(port: int) -> S3Place:
    """A bucket of a test's own."""
    bucket = f"b-{uuid4().hex}"
    create_bucket(port, bucket)
    return S3Place(f"s3://{bucket}/some/prefix", f"http://127.0.0.1:{port}", "us-east-1", ACCESS_KEY, SECRET_KEY)


def _objects(place: S3Place) -> list[str]:
    """Every name in the bucket."""
    bucket = place.url.split("/")[2]
    store = S3Store(
        bucket,
        endpoint=place.endpoint,
        region=place.region,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        client_options={"allow_http": True},
    )
    return [found["path"] for batch in obstore.list(store) for found in batch]


@pytest.mark.parametrize("name", [by_content, by_upload])
@pytest.mark.parametrize("check", records.BLOB_CHECKS, ids=lambda check: check.__name__)
async def test_blobs_in_s3(tmp_path: Path, place: S3Place, name: Name, check: records.BlobCheck) -> None:
    await check(S3Blobs(place, "files", tmp_path / "incoming", name))
    assert not list((tmp_path / "incoming").glob("*"))


async def test_names_begin_with_the_prefix_and_the_folder(tmp_path: Path, place: S3Place) -> None:
    for folder in ("files", "skills"):
        await S3Blobs(place, folder, tmp_path, by_content).put(chunked(b"x"), max_bytes=1)
    assert [name.rpartition("/")[0] for name in _objects(place)] == ["some/prefix/files", "some/prefix/skills"]


async def test_what_one_server_deletes_is_not_what_another_has_just_stored(tmp_path: Path, place: S3Place) -> None:
    one = S3Blobs(place, "files", tmp_path / "one", by_upload)
    other = S3Blobs(place, "files", tmp_path / "other", by_upload)
    ours, theirs = [await blobs.put(chunked(b"same"), max_bytes=4) for blobs in (one, other)]
    await one.delete(ours.key)
    assert await content(one, ours.key) is None
    assert await content(one, theirs.key) == b"same"


async def test_large_bytes_are_sent_in_parts_and_read_in_ranges(tmp_path: Path, place: S3Place) -> None:
    blobs, data = S3Blobs(place, "files", tmp_path, by_content), os.urandom(1 << 20) * (2 * PART_BYTES // (1 << 20) + 1)
    blob = await blobs.put(chunked(data), max_bytes=len(data))
    chunks = [chunk async for chunk in blobs.open(blob.key)]
    assert len(chunks) > 2
    assert b"".join(chunks) == data


async def test_an_s3_that_is_gone_is_said_and_got_over(tmp_path: Path, port: int, place: S3Place) -> None:
    wire = Wire(port)
    through = S3Place(place.url, f"http://127.0.0.1:{wire.port}", "us-east-1", ACCESS_KEY, SECRET_KEY)
    blobs = S3Blobs(through, "files", tmp_path, by_content)
    kept = await blobs.put(chunked(b"kept"), max_bytes=4)
    wire.cut()
    results = await asyncio.gather(
        blobs.put(chunked(b"lost"), max_bytes=4),
        content(blobs, kept.key),
        blobs.delete(kept.key),
        return_exceptions=True,
    )
    for result in results:
        assert isinstance(result, StoreUnavailable)
        assert "DESKHAND_S3_ENDPOINT" in str(result)
        assert str(wire.port) not in str(result)
        assert SECRET_KEY not in str(result)
    wire.mend()
    assert await content(blobs, kept.key) == b"kept"
    assert len(_objects(place)) == 1
    assert not list(tmp_path.iterdir())
    wire.cut()


async def test_a_bucket_that_is_not_there_is_said(tmp_path: Path, place: S3Place) -> None:
    missing = S3Place("s3://no-such-bucket", place.endpoint, "us-east-1", ACCESS_KEY, SECRET_KEY)
    blobs = S3Blobs(missing, "files", tmp_path, by_content)
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        await blobs.put(chunked(b"x"), max_bytes=1)
    with pytest.raises(StoreUnavailable, match="no such bucket"):
        await content(blobs, "a" * 64)


@pytest.mark.parametrize(
    "url", ["", "s3:", "s3://", "http://bucket", "/path", "s3://Bad_Bucket", "s3://bucket?x=1", "s3://user:pw@bucket"]
)
def test_what_is_no_place_in_s3_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreUnavailable, match="DESKHAND_BLOB_URL is not of the form") as refused:
        S3Blobs(S3Place(url, None, None, ACCESS_KEY, SECRET_KEY), "files", tmp_path, by_content)
    assert "pw" not in str(refused.value)


def test_the_secret_is_not_shown() -> None:
    assert SECRET_KEY not in repr(S3Place("s3://bucket", None, None, ACCESS_KEY, SECRET_KEY))
