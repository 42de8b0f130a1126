"""Vectors of texts for tests: the same for the same text, alike for texts that share words. Pure."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

DIMENSIONS: Final = 64

Json = dict[str, Any]


def answer(body: Mapping[str, Any]) -> Json:
    """The answer to a request for embeddings; it says them as numbers, whatever it is asked for."""
    given = body["input"]
    inputs = [given] if isinstance(given, str) or all(isinstance(one, int) for one in given) else given
    dimensions = body.get("dimensions") or DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": vector(one, dimensions)}
        for index, one in enumerate(inputs)
    ]
    used = sum(len(words(one)) for one in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def vector(text: str | Sequence[int], dimensions: int = DIMENSIONS) -> list[float]:
    """A vector of length 1: each word of `text` adds to one of its numbers."""
    counts = [0.0] * dimensions
    for word in words(text):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        counts[int.from_bytes(digest) % dimensions] += 1.0
    length = math.sqrt(sum(count * count for count in counts))
    return [count / length for count in counts] if length else [1.0, *counts[1:]]


def words(text: str | Sequence[int]) -> list[str]:
    """The words of a text, or its tokens."""
    return re.findall(r"\w+", text.lower()) if isinstance(text, str) else [str(token) for token in text]
