"""Vectors of texts, for clients: from whichever upstream serves the model."""

import base64
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..core.errors import ApiError, NotServed, UpstreamError
from ..ports.chat import EmbeddingRequest
from ..ports.upstreams import Upstreams
from ..wire.chat import MAX_EMBEDDED, CreateEmbeddings
from .supervisor import Supervisor
from .upstream_failures import client_error

Json = dict[str, Any]

LONGEST_INPUT: Final = 1 << 20
"""Characters of one text: far beyond every model's window."""
MOST_CHARACTERS: Final = 16 << 20
"""Characters of all texts of a request."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Makes vectors. Every request counts as a run of its project meanwhile."""

    upstreams: Upstreams
    supervisor: Supervisor

    async def create(self, owner: str, asked: CreateEmbeddings) -> Json:
        """The vectors, as they were asked for. Raises `ApiError`."""
        inputs = read_inputs(asked.input)
        resolved = await self.upstreams.resolve(asked.model)
        if resolved.embedder is None:
            raise _unserved(asked.model)
        request = EmbeddingRequest(resolved.upstream_name, inputs, asked.dimensions, asked.user)
        try:
            with self.supervisor.counting(owner):
                found = await resolved.embedder.embed(request)
        except NotServed as exc:
            raise _unserved(asked.model, f" {exc.message}") from exc
        except UpstreamError as exc:
            raise client_error(exc) from exc
        made = len(found.vectors[0])
        if asked.dimensions not in (None, made):
            raise ApiError(
                f"The model '{asked.model}' makes vectors of {made} dimensions only.",
                code="unsupported_value",
                param="dimensions",
            )
        data = [
            {"object": "embedding", "index": index, "embedding": _shown(vector, asked.encoding_format)}
            for index, vector in enumerate(found.vectors)
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def read_inputs(value: str | Sequence[Any]) -> Sequence[str | Sequence[int]]:
    """The texts, or the tokens of texts, in an `input`. Raises `ApiError`."""
    if isinstance(value, str):
        inputs: Sequence[Any] = [value]
    elif all(_is_token(one) for one in value):
        inputs = [value]
    else:
        inputs = value
    if len(inputs) > MAX_EMBEDDED:
        raise ApiError(
            f"Invalid 'input': at most {MAX_EMBEDDED} texts fit a request, got {len(inputs)}.",
            code="array_above_max_length",
            param="input",
        )
    total = 0
    for index, one in enumerate(inputs):
        where = f"input[{index}]" if inputs is value else "input"
        if not isinstance(one, str) and not (isinstance(one, list) and all(_is_token(token) for token in one)):
            raise ApiError(
                f"Invalid type for '{where}': expected a string or an array of tokens.",
                code="invalid_type",
                param=where,
            )
        if not one:
            raise ApiError(f"Invalid '{where}': cannot be empty.", code="invalid_value", param=where)
        if len(one) > LONGEST_INPUT:
            raise ApiError(f"Invalid '{where}': too long.", code="string_above_max_length", param=where)
        total += len(one)
    if total > MOST_CHARACTERS:
        raise ApiError("Invalid 'input': too long.", code="string_above_max_length", param="input")
    return inputs


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _shown(vector: "array[float]", encoding: str | None) -> Any:
    """A vector as numbers, or as base64 of little-endian single precision (API reference, "Embeddings")."""
    if encoding != "base64":
        return vector.tolist()
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()


def _unserved(model: str, why: str = "") -> ApiError:
    return ApiError(
        f"No upstream serves embeddings for the model '{model}'.{why}",
        status=404,
        code="model_not_found",
        param="model",
    )
