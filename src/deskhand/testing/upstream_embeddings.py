"""Vectors of texts for tests: the same for the same text, alike for texts that share words. Pure."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

DIMENSIONS: Final = 64

TOO_LONG: Final = "@@ too long"
"""A text that has this is refused, as a model refuses what is longer than its window."""

Json = dict[str, Any]


def refusal(body: Mapping[str, Any]) -> Json | None:
    """The error for a request that is refused."""
    if TOO_LONG not in str(body["input"]):
        return None
    message = "This model's maximum context length is 8192 tokens. Reduce the length of the input."
    return {"error": {"message": message, "type": "invalid_request_error", "param": "input", "code": None}}


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
