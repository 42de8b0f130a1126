"""Vectors of texts, from an upstream's `/embeddings`.

Many servers refuse `encoding_format`, or all values of it but one, so none is asked for; base64 is read as well. A long
request is cut into batches: servers bound what they take at once, and the answer to a batch has a size that can be
bounded here.
"""

import asyncio
import base64
import binascii
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..core.errors import UpstreamError
from ..ports.chat import Embedded, EmbeddingRequest
from ..wire.codec import encode
from . import failures
from .http import Endpoint

BATCH: Final = 64
AT_ONCE: Final = 4
LONGEST_VECTOR: Final = 16_384


class _Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


class UpstreamEmbedder:
    """An `Embedder` behind HTTP. `endpoint` is the caller's to close."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """The vectors; see `Embedder.embed`."""
        inputs, room = request.inputs, asyncio.Semaphore(AT_ONCE)

        async def one(batch: Sequence[Any]) -> Embedded:
            async with room:
                return await self._endpoint.retrying(lambda: self._batch(request, batch))

        failure: UpstreamError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(inputs[at : at + BATCH])) for at in range(0, len(inputs), BATCH)]
        except* UpstreamError as errors:
            failure = _first(errors)
        if failure is not None:
            raise failure
        parts = [task.result() for task in tasks]
        vectors = [vector for part in parts for vector in part.vectors]
        if len({len(vector) for vector in vectors}) > 1:
            raise UpstreamError(f"The model server {self._endpoint.name!r} sent vectors of different lengths.")
        return Embedded(vectors, sum(part.tokens for part in parts))

    async def _batch(self, request: EmbeddingRequest, inputs: Sequence[Any]) -> Embedded:
        # One text as text: what every server takes.
        said = inputs[0] if len(inputs) == 1 else list(inputs)
        fields = {"model": request.model, "input": said, "dimensions": request.dimensions, "user": request.user}
        body = encode({name: value for name, value in fields.items() if value is not None})
        exchange = await self._endpoint.open("/embeddings", body)
        try:
            while (payloads := await exchange.read()) == []:
                pass
        finally:
            await exchange.aclose()
        answer = payloads[0] if payloads else b""
        # Parsing megabytes of numbers must not keep everybody else waiting.
        return await asyncio.to_thread(_read, self._endpoint.name, self._endpoint.key, answer, len(inputs))


def _read(name: str, key: str | None, payload: bytes, count: int) -> Embedded:
    """The vectors in an answer. Raises `UpstreamError`."""
    try:
        answer = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_vectors(name, payload, key) from None
    if len(answer.data) != count:
        raise UpstreamError(f"The model server {name!r} sent {len(answer.data)} vectors for {count} texts.")
    found = answer.data
    if sorted(one.index or 0 for one in found) == list(range(count)):
        found = sorted(found, key=lambda one: one.index or 0)
    try:
        vectors = [_vector(one.embedding) for one in found]
    except (ValueError, OverflowError, binascii.Error):
        raise UpstreamError(f"The model server {name!r} sent vectors that cannot be read.") from None
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise UpstreamError(f"The model server {name!r} sent numbers that are not finite.")
    if any(not 0 < len(vector) <= LONGEST_VECTOR for vector in vectors):
        raise UpstreamError(f"The model server {name!r} sent a vector of no or more than {LONGEST_VECTOR} numbers.")
    usage = answer.usage or _Usage()
    return Embedded(vectors, usage.prompt_tokens or usage.total_tokens)


def _vector(value: list[float] | str) -> "array[float]":
    if not isinstance(value, str):
        return array("f", value)
    vector = array("f", base64.b64decode(value, validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _not_vectors(name: str, payload: bytes, key: str | None) -> UpstreamError:
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return failures.garbage(name, payload, key)
    if isinstance(value, dict) and value.get("error"):
        return failures.from_object(name, value["error"], key)
    return UpstreamError(f"The model server {name!r} sent something that is not vectors.")


def _first(errors: BaseExceptionGroup[UpstreamError]) -> UpstreamError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, UpstreamError)
    return found
