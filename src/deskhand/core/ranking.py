"""One ranking out of two: what a text search found, and what is near in a vector space. Pure.

Cosines count as they are. Scores of words count as far as the best stands out from those after it: a question in other
words than the text's hits many passages by some word, all about as well, and would drown what is near in meaning; a
name or a number hits one. `docs/reference/retrieval.md` has the figures of this, and of what was tried beside it.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, TypeVar

Id = TypeVar("Id", bound=Hashable)
Ranking = Sequence[tuple[Id, float]]
"""Ids with scores, best first."""

TEXT_WEIGHT: Final = 0.3
EMBEDDING_WEIGHT: Final = 0.7
"""Weights where a caller names none."""
RIVALS: Final = 5
"""Places after the best that it must stand out from."""


def fuse(
    text: Ranking[Id], vectors: Ranking[Id], text_weight: float, embedding_weight: float
) -> list[tuple[Id, float]]:
    """Both rankings as one, best first, with scores of 0..1.

    `text` has scores of any scale from 0 up, as BM25 gives; `vectors` has cosines. An id that a list lacks has nothing
    from it. Weights are relative to each other; where neither is above 0 they count the same. A list that is empty, or
    has no weight while the other has some, takes no part: then the other's scores are as they are, those of words as
    shares of the best. Equals stay in the order of `text`, then `vectors`. A score that is not a number counts as 0.
    """
    words, cosines = _shares(_best_of_each(text, math.inf)), _best_of_each(vectors, 1.0)
    of_words, of_cosines = _weight(text_weight), _weight(embedding_weight)
    if of_words + of_cosines == 0:
        of_words = of_cosines = 1.0
    if not words or (not of_words and cosines):
        return _ranked([*words, *cosines], cosines)
    if not cosines or not of_cosines:
        return _ranked([*words, *cosines], words)
    total = of_words + of_cosines
    telling = _standing_out(words)
    fused = {
        id_: telling.get(id_, 0.0) * (of_words / total) + cosines.get(id_, 0.0) * (of_cosines / total)
        for id_ in (*words, *cosines)
    }
    return _ranked([*words, *cosines], fused)


def _ranked(ids: Sequence[Id], scores: Mapping[Id, float]) -> list[tuple[Id, float]]:
    # Rounding may lead a hair's breadth above 1.
    ranked = [(id_, min(1.0, scores.get(id_, 0.0))) for id_ in dict.fromkeys(ids)]
    return sorted(ranked, key=lambda one: -one[1])


def _standing_out(shares: Mapping[Id, float]) -> dict[Id, float]:
    """What each has more than the mean of the first rivals of the best, times how far the best itself stands out."""
    rivals = sorted(shares.values(), reverse=True)[1 : RIVALS + 1]
    mean = sum(rivals) / RIVALS
    trust = (1.0 - mean) ** 2
    return {id_: max(0.0, share - mean) * trust for id_, share in shares.items()}


def _shares(scores: Mapping[Id, float]) -> dict[Id, float]:
    """Scores as shares of the best."""
    top = max(scores.values(), default=0.0)
    if top in (0.0, math.inf):
        return {id_: float(score == top > 0) for id_, score in scores.items()}
    return {id_: score / top for id_, score in scores.items()}


def _best_of_each(ranking: Ranking[Id], most: float) -> dict[Id, float]:
    best: dict[Id, float] = {}
    for id_, score in ranking:
        bounded = 0.0 if math.isnan(score) else min(max(score, 0.0), most)
        best[id_] = max(best.get(id_, 0.0), bounded)
    return best


def _weight(weight: float) -> float:
    # What is too large to be added up is cut; only the ratio of weights counts.
    return min(max(weight, 0.0), 1e9) if not math.isnan(weight) else 0.0
