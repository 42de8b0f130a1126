"""What searching costs: indexing rate, and searches in 1,000 and in 100,000 chunks, beside an embedding of the question
and beside a request that does nothing. The upstream's vectors are made of hashes: its model costs nothing.

Run: python -m benchmarks.search
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from openai import OpenAI
from openai.types import StaticFileChunkingStrategyObjectParam

from tests.conftest import launched, upstream_process

from .figures import Figures, show

SIZES = (1_000, 100_000)
CHUNK_TOKENS = 100
CHUNK_CHARACTERS = 4 * CHUNK_TOKENS  # as the server counts tokens of ASCII
FILE_CHUNKS = 1_000
WORDS = 20_000
WARM, ROUNDS = 5, 100
TERMS = 4


class Texts:
    """Texts of words that are as uneven as those of a language: the n-th is 1/n as frequent as the first."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._words = ["".join(self._random.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(WORDS)]
        self._weights = [1 / place for place in range(1, WORDS + 1)]

    def file(self) -> bytes:
        """A text that is cut into `FILE_CHUNKS` chunks."""
        count = FILE_CHUNKS * CHUNK_CHARACTERS // 8
        return " ".join(self._random.choices(self._words, self._weights, k=count)).encode()

    def question(self) -> str:
        """Some words, most of them rare."""
        return " ".join(self._random.choices(self._words, k=TERMS))


def filled(client: OpenAI, texts: Texts, size: int) -> tuple[str, float]:
    """A store with so many chunks, and how many were indexed each second."""
    files = [
        client.files.create(file=(f"{number}.txt", texts.file()), purpose="assistants").id
        for number in range(size // FILE_CHUNKS)
    ]
    store = client.vector_stores.create(name=f"{size}")
    cut: StaticFileChunkingStrategyObjectParam = {
        "type": "static",
        "static": {"max_chunk_size_tokens": CHUNK_TOKENS, "chunk_overlap_tokens": 0},
    }
    start = time.perf_counter()
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id,
        file_ids=files,
        chunking_strategy=cut,
        poll_interval_ms=100,
    )
    seconds = time.perf_counter() - start
    assert batch.file_counts.completed == len(files), batch
    return store.id, size / seconds


def timed(name: str, call: Callable[[], object]) -> Figures:
    """Seconds of a call, one after the other."""
    for _ in range(WARM):
        call()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Figures(name, seconds, len(seconds) / sum(seconds))


def measure(client: OpenAI) -> None:
    """Measure and print."""
    texts = Texts()
    base = timed("GET /v1/models/{id}, which does nothing", lambda: client.models.retrieve("scripted"))
    embedding = timed("embedding of a question", lambda: client.embeddings.create(model="m", input=texts.question()))
    cases, rates = [base, embedding], []
    for size in SIZES:
        store, rate = filled(client, texts, size)
        rates.append(f"{rate:,.0f} chunks/s for {size:,}")

        def search(store: str = store) -> object:
            return client.vector_stores.search(store, query=texts.question())

        cases.append(timed(f"search in {size:,} chunks", search))
    show("search: hybrid, ten results, through the API", cases, base)
    print(f"  indexed: {', '.join(rates)}; 100,000 over 1,000 chunks: {cases[-1].at(50) / cases[-2].at(50):.1f} times")


def main() -> None:
    """Measure against a server and an upstream of its own."""
    with tempfile.TemporaryDirectory() as name, upstream_process() as upstream:
        with launched(Path(name) / "data", upstream, engine="none", embedding_model="scripted") as server:
            measure(server.client())


if __name__ == "__main__":
    main()
