"""The set of passages and questions, and how good a ranking is. Pure."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

DEPTH: Final = 10
"""Results that are looked at."""
LONG: Final = 3000
"""Characters of a long text: it fits one chunk of 800 tokens, and no window of a small embedding model."""

_HERE = Path(__file__).parent


class Question(msgspec.Struct, frozen=True):
    """What is asked, and the passages that answer it: 2 for an answer, 1 for what has to do with it."""

    kind: Literal["paraphrase", "term"]
    question: str
    relevant: dict[str, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph of the handbook. `id` is that of its section and its place there."""

    id: str
    section: str
    text: str


def passages() -> list[Passage]:
    """All passages, in order."""
    found = []
    for part in re.split(r"^# ", (_HERE / "handbook.md").read_text(), flags=re.MULTILINE)[1:]:
        section, *texts = [piece.strip() for piece in part.split("\n\n") if piece.strip()]
        slug = section.lower().replace(" ", "-")
        found += [Passage(f"{slug}/{number}", section, text) for number, text in enumerate(texts, start=1)]
    return found


def questions() -> list[Question]:
    """All questions with their judgements."""
    lines = (_HERE / "questions.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Question) for line in lines]


def long_ones(kept: Sequence[Passage], asked: Sequence[Question]) -> tuple[list[Passage], list[Question]]:
    """Passages from all over the handbook in texts that fill a chunk of the usual size, and what is asked of those."""
    mixed = sorted(kept, key=lambda passage: hashlib.sha256(passage.id.encode()).digest())
    groups: list[list[Passage]] = [[]]
    for passage in mixed:
        if sum(len(one.text) + 2 for one in groups[-1]) + len(passage.text) > LONG:
            groups.append([])
        groups[-1].append(passage)
    place = {passage.id: f"long/{number}" for number, group in enumerate(groups) for passage in group}
    texts = [Passage(place[group[0].id], "", "\n\n".join(one.text for one in group)) for group in groups]
    return texts, [Question(one.kind, one.question, _moved(one.relevant, place)) for one in asked]


def _moved(relevant: Mapping[str, int], place: Mapping[str, str]) -> dict[str, int]:
    grades: dict[str, int] = {}
    for id_, grade in relevant.items():
        grades[place[id_]] = max(grade, grades.get(place[id_], 0))
    return grades


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int]) -> float:
    """nDCG@10 of ids, best first (Järvelin and Kekäläinen, 2002): 1 if nothing could be ranked better."""
    ideal = gain(sorted(relevant.values(), reverse=True))
    return gain([relevant.get(id_, 0) for id_ in ranking]) / ideal


def gain(grades: Sequence[int]) -> float:
    """Grades, each worth less the later it comes."""
    return sum(float(2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(grades[:DEPTH]))
