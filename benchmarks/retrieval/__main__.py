"""How good searches in vector stores are: nDCG@10 of words, of vectors and of both, through a running server.

Run: python -m benchmarks.retrieval (the tables of docs/reference/retrieval.md)
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from openai import OpenAI

from tests.conftest import launched
from tests.minilm import minilm

from .measures import DEPTH, Passage, Question, long_ones, ndcg, passages, questions

WAYS: Final[Mapping[str, Mapping[str, float] | None]] = {
    "words (BM25)": {"text_weight": 1.0, "embedding_weight": 0.0},
    "vectors": {"text_weight": 0.0, "embedding_weight": 1.0},
    "hybrid, equal weights": {"text_weight": 0.5, "embedding_weight": 0.5},
    "hybrid (default)": None,
}
Quality = Mapping[str, Mapping[str, float]]


def index(client: OpenAI, kept: list[Passage]) -> tuple[str, Mapping[str, str]]:
    """A store that has each passage as a file, and the passages by the ids of their files."""
    files = {
        client.files.create(file=(f"{number}.txt", passage.text.encode()), purpose="assistants").id: passage.id
        for number, passage in enumerate(kept)
    }
    store = client.vector_stores.create(name="handbook")
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=list(files), poll_interval_ms=200)
    assert batch.file_counts.completed == len(files), batch
    return store.id, files


def ranking(client: OpenAI, store: str, files: Mapping[str, str], asked: str, way: str) -> list[str]:
    """The ids of the passages that a search finds, best first."""
    weights = WAYS[way]
    options = {} if weights is None else {"ranking_options": {"hybrid_search": weights}}
    found = client.vector_stores.search(store, query=asked, max_num_results=DEPTH, extra_body=options)
    return [files[result.file_id] for result in found.data]


def measure(client: OpenAI, kept: list[Passage], asked: list[Question]) -> Quality:
    """nDCG@10 of each way, over all questions and over each kind of them."""
    store, files = index(client, kept)
    quality = {}
    for way in WAYS:
        scores = [(one.kind, _score(client, store, files, one, way)) for one in asked]
        kinds = {kind: [score for of, score in scores if of == kind] for kind in ("paraphrase", "term")}
        kinds["all"] = [score for _, score in scores]
        quality[way] = {kind: sum(of) / len(of) for kind, of in kinds.items()}
    return quality


def _score(client: OpenAI, store: str, files: Mapping[str, str], one: Question, way: str) -> float:
    return ndcg(ranking(client, store, files, one.question, way), one.relevant)


def table(quality: Quality) -> str:
    """The figures as a Markdown table."""
    rows = ["| nDCG@10 | all questions | other words | names and numbers |", "|---|---|---|---|"]
    rows += [f"| {way} | {of['all']:.3f} | {of['paraphrase']:.3f} | {of['term']:.3f} |" for way, of in quality.items()]
    return "\n".join(rows)


def main() -> None:
    """Measure against a server of its own, and print."""
    settings = {"engine": "none", "embedding_model": "all-MiniLM-L6-v2", "embedding_model_path": str(minilm())}
    with tempfile.TemporaryDirectory() as name, launched(Path(name) / "data", None, **settings) as server:
        print(table(measure(server.client(), passages(), questions())))
        print("\nLong texts:\n")
        print(table(measure(server.client(), *long_ones(passages(), questions()))))


if __name__ == "__main__":
    main()
