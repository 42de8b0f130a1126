"""Vectors of texts from a model in a directory, made in this process.

A batch is as small as keeps a processor busy, so that a question waits for part of a long job and not for all of it.
The threads are this embedder's own, and each does its sums alone: numpy's own threads wait for each other by spinning,
which on a busy machine made the same work ten times slower.
"""

import asyncio
import os
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..core.errors import UpstreamError
from ..ports.chat import Embedded, EmbeddingRequest
from .bert import Numbers
from .model_directory import SentenceModel, Tokens

BATCH_TOKENS: Final = 1024
"""Tokens of one batch, with those that fill up its shorter texts."""
MOST_TOKENS: Final = 1 << 19
"""Tokens of one request: some minutes of work."""
MOST_THREADS: Final = 4
TOKENIZED_AT_ONCE: Final = 64


@asynccontextmanager
async def local_embedder(model: SentenceModel) -> AsyncIterator["LocalEmbedder"]:
    """An embedder with threads of its own, until the block ends: what is under way is finished, the rest is not."""
    at_once = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="embed")
    with threadpool_limits(limits=1, user_api="blas"):
        try:
            yield LocalEmbedder(model, threads, at_once)
        finally:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)


class LocalEmbedder:
    """An `Embedder` of one model. `threads` are the caller's to end; as many batches of a request go there at once."""

    def __init__(self, model: SentenceModel, threads: Executor, at_once: int) -> None:
        self._model = model
        self._threads = threads
        self._at_once = at_once

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """The vectors; see `Embedder.embed`. Raises `UpstreamError` for tokens, and for other dimensions."""
        texts = self._texts(request)
        in_thread = asyncio.get_running_loop().run_in_executor
        windows: list[Sequence[Tokens]] = []
        for at in range(0, len(texts), TOKENIZED_AT_ONCE):
            some = texts[at : at + TOKENIZED_AT_ONCE]
            windows += await in_thread(self._threads, self._model.windows, some)
        tokens = [window for of_text in windows for window in of_text]
        if (total := sum(map(len, tokens))) > MOST_TOKENS:
            raise _unfit(f"The texts have {total} tokens together; the local model takes {MOST_TOKENS} at once.")
        vectors: dict[int, Numbers] = {}
        # More than there are threads for would keep other requests waiting until this one is done.
        room = asyncio.Semaphore(self._at_once)

        async def one(batch: Sequence[int]) -> None:
            async with room:
                made = await in_thread(self._threads, self._model.vectors, [tokens[index] for index in batch])
            vectors.update(zip(batch, made, strict=True))

        async with asyncio.TaskGroup() as group:
            for batch in batches([len(one) for one in tokens], BATCH_TOKENS):
                group.create_task(one(batch))
        left = iter([vectors[index] for index in range(len(tokens))])
        whole = [self._model.together(of_text, list(islice(left, len(of_text)))) for of_text in windows]
        return Embedded([array("f", vector.tobytes()) for vector in whole], total)

    def _texts(self, request: EmbeddingRequest) -> list[str]:
        texts = [one for one in request.inputs if isinstance(one, str)]
        if len(texts) < len(request.inputs):
            raise _unfit(f"The local model '{request.model}' takes texts, not token ids: they belong to another model.")
        if request.dimensions not in (None, self._model.dimensions):
            raise _unfit(f"The model '{request.model}' makes vectors of {self._model.dimensions} dimensions only.")
        return texts


def batches(lengths: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Places of texts or windows, in batches of like lengths: none has more than `most` tokens, made equally long.

    One that is longer than that has a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _unfit(message: str) -> UpstreamError:
    return UpstreamError(message, code="invalid_prompt")
