"""Bytes in an S3-compatible store, which several servers may share.

An object appears only when all of it is there, as S3 does it. Bytes are received into a file first: their name follows
from all of them, and a client that goes away leaves nothing behind.
"""

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from ..core.errors import StoreUnavailable
from ..ports.store import Blob
from .uploads import Uploads

T = TypeVar("T")

PART_BYTES: Final = 8 << 20
"""Of a multipart upload, which larger files are sent with (S3 takes parts of 5 MB to 5 GB, 10,000 of them)."""
PARTS_AT_ONCE: Final = 4
RANGE_BYTES: Final = 4 << 20
"""Read with one request. One for all of a file would time out on a slow client."""
CONNECT_SECONDS: Final = 3
REQUEST_SECONDS: Final = 30
RETRY_SECONDS: Final = 5
RETRIES: Final = 3

_KEY: Final = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{32})?")
_EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")

_ADVICE: Final = "The S3 store does not take or give the bytes of files. Check that it runs and DESKHAND_S3_ENDPOINT."
_BAD_KEYS: Final = (
    "The S3 store refuses the keys of this server. Check DESKHAND_S3_ACCESS_KEY and DESKHAND_S3_SECRET_KEY, and that "
    "they may read, write and delete in the bucket."
)
_CODES: Mapping[str, str] = MappingProxyType(
    {
        "NoSuchBucket": "There is no such bucket. Make it, or correct DESKHAND_BLOB_URL.",
        "InvalidBucketName": "There can be no such bucket. Correct DESKHAND_BLOB_URL.",
        "PermanentRedirect": "The bucket is in another region. Set DESKHAND_S3_REGION.",
        "AuthorizationHeaderMalformed": "The bucket is in another region. Set DESKHAND_S3_REGION.",
        "RequestTimeTooSkewed": "The clocks of this server and of the S3 store differ. Set them.",
        "AccessDenied": _BAD_KEYS,
        "InvalidAccessKeyId": _BAD_KEYS,
        "SignatureDoesNotMatch": _BAD_KEYS,
    }
)

Name = Callable[[str], str]
"""The name of an upload's object, from the SHA-256 of its bytes."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where objects are, and who asks for them. What is not given is taken from the usual `AWS_*` variables."""

    url: str
    """`s3://bucket/prefix`."""
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)


def by_content(digest: str) -> str:
    """Equal bytes are one object."""
    return digest


def by_upload(digest: str) -> str:
    """Every upload is an object of its own.

    For bytes that are deleted when nobody on this server needs them: another server may have just stored the same.
    """
    return f"{digest}-{secrets.token_hex(16)}"


class S3Blobs:
    """The `BlobStore` of a folder in a bucket; `incoming` is a directory on disk that belongs to it alone.

    Anything that is not a key, such as `../x`, names no bytes.
    """

    def __init__(self, place: S3Place, folder: str, incoming: Path, name: Name) -> None:
        self._store = _store(place, folder)
        self._uploads = Uploads(incoming)
        self._name = name

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store bytes durably. Raises `BlobTooLarge`, `StoreUnavailable`, and what `chunks` raises; then none stay."""
        async with self._uploads.received(chunks, max_bytes=max_bytes) as received:
            key = self._name(received.digest)
            try:
                await obstore.put_async(
                    self._store,
                    key,
                    received.path,
                    use_multipart=received.size > PART_BYTES,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
            except (BaseError, OSError) as error:
                raise _unavailable(error) from None
            return Blob(key, received.size)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in chunks. Raises `FileNotFoundError` before the first, and `StoreUnavailable`."""
        if not _KEY.fullmatch(key):
            raise FileNotFoundError(f"no blob {key!r}")
        if key.startswith(_EMPTY):
            # There is no range of nothing.
            await _found(obstore.head_async(self._store, key), key)
            return
        start, size = 0, 1
        while start < size:
            wanted: Any = {"range": (start, start + RANGE_BYTES)}
            found = await _found(obstore.get_async(self._store, key, options=wanted), key)
            size = found.meta["size"]
            chunk = bytes(await _found(found.bytes_async(), key))
            if not chunk:
                raise StoreUnavailable(_ADVICE)
            start += len(chunk)
            yield chunk

    async def delete(self, key: str) -> None:
        """Forget the bytes. Idempotent. Raises `StoreUnavailable`."""
        if not _KEY.fullmatch(key):
            return
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise _unavailable(error) from None
        except (BaseError, OSError) as error:
            raise _unavailable(error) from None


async def _found(asked: Awaitable[T], key: str) -> T:
    """What was asked for. Raises `FileNotFoundError`, `StoreUnavailable`."""
    try:
        return await asked
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise _unavailable(error) from None
        raise FileNotFoundError(f"no blob {key!r}") from None
    except (BaseError, OSError) as error:
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> StoreUnavailable:
    """Advice for `error`, without its text: that has addresses, names of keys, and what was signed."""
    code = _code(error)
    if code is not None:
        return StoreUnavailable(_CODES.get(code, f"{_ADVICE} It says {code}."))
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StoreUnavailable(_BAD_KEYS)
    return StoreUnavailable(_ADVICE)


def _code(error: Exception) -> str | None:
    """The code of an S3 error, which its XML has (S3 API reference, "Error responses")."""
    found = _CODE.search(str(error))
    return found and found[1]


def _store(place: S3Place, folder: str) -> S3Store:
    """The folder of a bucket. Raises `StoreUnavailable`, without any part of a key."""
    url = urlsplit(place.url)
    if url.scheme != "s3" or not _BUCKET.fullmatch(url.netloc) or url.query or url.fragment:
        raise StoreUnavailable("DESKHAND_BLOB_URL is not of the form s3://bucket or s3://bucket/prefix.")
    given = {
        "endpoint": place.endpoint,
        "region": place.region,
        "access_key_id": place.access_key,
        "secret_access_key": place.secret_key,
    }
    # Empty ones would hide what the variables say.
    config: Any = {name: value for name, value in given.items() if value}
    prefix = "/".join(part for part in (url.path.strip("/"), folder) if part)
    try:
        return S3Store(
            url.netloc,
            prefix=prefix,
            config=config,
            client_options={
                "allow_http": (place.endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
    except (BaseError, ValueError):
        raise StoreUnavailable(
            "The S3 store cannot be used. Check DESKHAND_BLOB_URL, DESKHAND_S3_ENDPOINT and DESKHAND_S3_REGION."
        ) from None
