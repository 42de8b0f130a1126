"""How good searches are: the set that is shipped, through a server with real embeddings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.retrieval.__main__ import Quality, measure, table
from benchmarks.retrieval.measures import long_ones, ndcg, passages, questions

from ..conftest import launched
from ..minilm import minilm

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "retrieval.md"


@pytest.fixture(scope="module")
def quality(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quality]:
    data = tmp_path_factory.mktemp("retrieval") / "data"
    settings = {"embedding_model": "all-MiniLM-L6-v2", "embedding_model_path": str(minilm())}
    with launched(data, None, engine="none", **settings) as server:
        yield measure(server.client(), passages(), questions())


def test_words_and_vectors_together_find_at_least_as_much_as_either(quality: Quality) -> None:
    better = max(quality["words (BM25)"]["all"], quality["vectors"]["all"])
    assert quality["hybrid (default)"]["all"] >= better - 0.005
    assert min(quality["words (BM25)"]["all"], quality["vectors"]["all"]) > 0.3, "something was not searched at all"


def test_the_page_has_the_figures_of_today(quality: Quality) -> None:
    """Within what another processor's rounding, or PostgreSQL's ranking of words, may change."""
    shown, now = (re.findall(r"\| ([01]\.\d+)", text) for text in (PAGE.read_text(), table(quality)))
    vectors = slice(3, 6)
    assert [float(one) for one in now[vectors]] == pytest.approx([float(one) for one in shown[vectors]], abs=0.02)


def test_every_judgement_is_of_a_passage() -> None:
    ids = [passage.id for passage in passages()]
    assert len(ids) == len(set(ids)) == 156
    assert len({passage.section for passage in passages()}) == 26
    asked = questions()
    assert len(asked) == 80
    assert {id_ for one in asked for id_ in one.relevant} <= set(ids)
    assert {kind: sum(one.kind == kind for one in asked) for kind in ("paraphrase", "term")} == {
        "paraphrase": 53,
        "term": 27,
    }


def test_long_texts_are_made_of_all_passages() -> None:
    texts, asked = long_ones(passages(), questions())
    assert sorted(part for text in texts for part in text.text.split("\n\n")) == sorted(
        passage.text for passage in passages()
    )
    assert all(1500 < len(text.text) <= 3200 for text in texts[:-1])
    assert {id_ for one in asked for id_ in one.relevant} <= {text.id for text in texts}


def test_the_measure_is_what_its_definition_says() -> None:
    relevant = {"a": 2, "b": 1}
    assert ndcg(["a", "b"], relevant) == 1.0
    assert ndcg(["x", "y"], relevant) == 0.0
    assert ndcg(["b", "a"], relevant) == pytest.approx((1 + 3 / 1.5849625) / (3 + 1 / 1.5849625))
    assert ndcg([*"0123456789", "a"], relevant) == 0.0
