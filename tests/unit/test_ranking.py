"""Two rankings made one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.ranking import fuse

SCORES = st.floats(allow_nan=True, allow_infinity=True)
RANKINGS = st.lists(st.tuples(st.sampled_from("abcdefgh"), SCORES), max_size=12)


def ids(ranking: list[tuple[str, float]]) -> list[str]:
    """Only the ids."""
    return [id_ for id_, _ in ranking]


def test_a_hit_of_words_that_stands_out_leads() -> None:
    text = [("a", 10.0), ("b", 2.0), ("c", 2.0)]
    fused = fuse(text, [("b", 0.6), ("a", 0.5)], 1, 1)
    assert ids(fused) == ["a", "b", "c"]
    mean = (0.2 + 0.2) / 5
    assert fused[0][1] == pytest.approx(0.5 * (1 - mean) ** 3 + 0.5 * 0.5)


def test_words_that_hit_many_passages_alike_leave_it_to_vectors() -> None:
    text = [(id_, 5.0 - place / 100) for place, id_ in enumerate("abcdefgh")]
    assert ids(fuse(text, [("z", 0.5), ("a", 0.3)], 1, 1))[:2] == ["z", "a"]
    assert ids(fuse(text, [("a", 0.5), ("z", 0.3)], 1, 1))[:2] == ["a", "z"]


@pytest.mark.parametrize(
    ("text_weight", "embedding_weight", "first"), [(1, 0, "a"), (0, 1, "b"), (3, 1, "a"), (1, 3, "b")]
)
def test_weights_decide(text_weight: float, embedding_weight: float, first: str) -> None:
    assert fuse([("a", 5.0)], [("b", 1.0)], text_weight, embedding_weight)[0][0] == first


def test_a_list_without_weight_leaves_the_others_scores_as_they_are() -> None:
    text, vectors = [("a", 4.0), ("b", 3.0)], [("b", 0.5), ("c", 0.25)]
    assert fuse(text, vectors, 1, 0) == [("a", 1.0), ("b", 0.75), ("c", 0.0)]
    assert fuse(text, vectors, 0, 1) == [("b", 0.5), ("c", 0.25), ("a", 0.0)]


def test_only_the_ratio_of_weights_counts() -> None:
    text, vectors = [("a", 3.0), ("b", 2.0)], [("b", 0.7), ("c", 0.1)]
    once, again = fuse(text, vectors, 0.2, 0.6), fuse(text, vectors, 1, 3)
    assert ids(once) == ids(again)
    assert [score for _, score in once] == pytest.approx([score for _, score in again])


def test_a_list_alone_gives_its_own_scores() -> None:
    assert fuse([("a", 4.0), ("b", 1.0)], [], 1, 1) == [("a", 1.0), ("b", 0.25)]
    assert fuse([], [("a", 0.5), ("b", -0.5)], 1, 1) == [("a", 0.5), ("b", 0.0)]
    assert fuse([], [], 1, 1) == []


def test_a_list_alone_counts_even_with_no_weight() -> None:
    assert fuse([("a", 4.0)], [], 0, 1) == [("a", 1.0)]
    assert fuse([], [("a", 0.5)], 1, 0) == [("a", 0.5)]
    assert fuse([("a", 4.0)], [("b", 0.5)], 0, 0) == [("a", 0.5), ("b", 0.25)]


def test_equals_stay_in_the_order_they_came() -> None:
    assert ids(fuse([("b", 1.0), ("a", 1.0), ("c", 1.0)], [], 1, 1)) == ["b", "a", "c"]
    assert fuse([("z", 1.0)], [("a", 1.0)], 1, 1) == [("z", 0.5), ("a", 0.5)]


def test_what_is_not_a_number_counts_as_nothing() -> None:
    assert fuse([("a", math.nan), ("b", 1.0)], [("c", math.nan)], 1, 1) == [("b", 0.5), ("a", 0.0), ("c", 0.0)]
    assert ids(fuse([("a", 5.0), ("b", math.inf)], [], 1, 1)) == ["b", "a"]
    assert fuse([("a", 1.0)], [("b", 1.0)], math.nan, 1) == [("b", 1.0), ("a", 0.0)]


@given(RANKINGS, RANKINGS, SCORES, SCORES)
def test_every_id_comes_once_with_a_score_that_clients_accept(
    text: list[tuple[str, float]], vectors: list[tuple[str, float]], text_weight: float, embedding_weight: float
) -> None:
    fused = fuse(text, vectors, text_weight, embedding_weight)
    assert sorted(ids(fused)) == sorted({*ids(text), *ids(vectors)})
    scores = [score for _, score in fused]
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert scores == sorted(scores, reverse=True)
