"""What a BERT encoder computes, in numpy and single precision. Pure.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (2019); the names of
weights are those that Hugging Face's `BertModel` is stored with.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]
Weights = Mapping[str, Numbers]
Shape = tuple[int, ...]
Pooling = Literal["mean", "cls", "max"]
Activation = Literal["gelu", "gelu_new", "relu"]

_MASKED: Final = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model, from its `config.json`."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    kinds: int
    epsilon: float
    activation: Activation

    def shapes(self) -> Mapping[str, Shape]:
        """The names of all weights and their shapes."""
        width, inner = self.width, self.inner
        shapes: dict[str, Shape] = {
            "embeddings.word_embeddings.weight": (self.vocabulary, width),
            "embeddings.position_embeddings.weight": (self.positions, width),
            "embeddings.token_type_embeddings.weight": (self.kinds, width),
            **_norm("embeddings.LayerNorm", width),
        }
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            for part in ("query", "key", "value"):
                shapes |= _linear(f"{layer}.attention.self.{part}", width, width)
            shapes |= _linear(f"{layer}.attention.output.dense", width, width)
            shapes |= _norm(f"{layer}.attention.output.LayerNorm", width)
            shapes |= _linear(f"{layer}.intermediate.dense", width, inner)
            shapes |= _linear(f"{layer}.output.dense", inner, width)
            shapes |= _norm(f"{layer}.output.LayerNorm", width)
        return shapes


@dataclass(frozen=True, slots=True)
class Bert:
    """A model with its weights, named and shaped as `Architecture.shapes` says."""

    architecture: Architecture
    weights: Weights

    def encode(self, ids: Ids, mask: Mask) -> Numbers:
        """What the last layer says of each token: `ids` are of texts by tokens, and `mask` is false where none is."""
        activate = _ACTIVATIONS[self.architecture.activation]
        unseen = np.where(mask, np.float32(0), _MASKED)[:, None, None, :]
        state = self._embedded(ids)
        for number in range(self.architecture.layers):
            layer = f"encoder.layer.{number}"
            seen = self._attended(state, unseen, f"{layer}.attention.self")
            state = self._added(state, seen, f"{layer}.attention.output")
            inner = activate(self._linear(state, f"{layer}.intermediate.dense"))
            state = self._added(state, inner, f"{layer}.output")
        return state

    def _embedded(self, ids: Ids) -> Numbers:
        weights = self.weights
        words = weights["embeddings.word_embeddings.weight"][ids]
        words += weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        words += weights["embeddings.token_type_embeddings.weight"][0]
        return self._normalised(words, "embeddings.LayerNorm")

    def _attended(self, state: Numbers, unseen: Numbers, name: str) -> Numbers:
        query, key, value = (self._heads(state, f"{name}.{part}") for part in ("query", "key", "value"))
        scores: Numbers = query @ key.swapaxes(-1, -2)
        scores /= np.float32(math.sqrt(query.shape[-1]))
        scores += unseen
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        seen: Numbers = scores @ value
        return seen.swapaxes(1, 2).reshape(state.shape)

    def _heads(self, state: Numbers, name: str) -> Numbers:
        texts, tokens, width = state.shape
        heads = self.architecture.heads
        return self._linear(state, name).reshape(texts, tokens, heads, width // heads).swapaxes(1, 2)

    def _added(self, state: Numbers, more: Numbers, name: str) -> Numbers:
        added = self._linear(more, f"{name}.dense")
        added += state
        return self._normalised(added, f"{name}.LayerNorm")

    def _linear(self, state: Numbers, name: str) -> Numbers:
        made = state @ self.weights[f"{name}.weight"].T
        made += self.weights[f"{name}.bias"]
        return made

    def _normalised(self, state: Numbers, name: str) -> Numbers:
        state = state - state.mean(axis=-1, keepdims=True)
        variance = np.square(state).mean(axis=-1, keepdims=True)
        state /= np.sqrt(variance + np.float32(self.architecture.epsilon))
        state *= self.weights[f"{name}.weight"]
        state += self.weights[f"{name}.bias"]
        return state


def pool(state: Numbers, mask: Mask, pooling: Pooling) -> Numbers:
    """One vector for each text, from what the last layer says of its tokens."""
    seen = mask[:, :, None]
    match pooling:
        case "cls":
            return state[:, 0]
        case "max":
            most: Numbers = np.where(seen, state, np.float32(-np.inf)).max(axis=1)
            return most
        case "mean":
            total: Numbers = np.where(seen, state, np.float32(0)).sum(axis=1)
            total /= mask.sum(axis=1, keepdims=True, dtype=np.float32)
            return total


def unit(vectors: Numbers) -> Numbers:
    """Vectors of length 1 in the same direction."""
    lengths: Numbers = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.maximum(lengths, np.float32(1e-12), out=lengths)
    made: Numbers = vectors / lengths
    return made


def _linear(name: str, into: int, out: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _gelu(x: Numbers) -> Numbers:
    """x times the normal distribution's share below x.

    numpy has no error function; this is 7.1.26 of Abramowitz and Stegun, "Handbook of Mathematical Functions", whose
    error is at most 1.5e-7.
    """
    size = np.abs(x)
    size *= np.float32(math.sqrt(0.5))
    t = np.reciprocal(np.float32(0.3275911) * size + np.float32(1))
    np.square(size, out=size)
    np.negative(size, out=size)
    np.exp(size, out=size)
    tail = t * np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(factor)
        tail *= t
    tail *= size
    tail *= np.float32(0.5)
    share: Numbers = np.where(x > 0, np.float32(1) - tail, tail)
    share *= x
    return share


def _gelu_new(x: Numbers) -> Numbers:
    """The approximation by tanh that `gelu_new` and `gelu_pytorch_tanh` mean."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    made: Numbers = np.tanh(inner)
    made += np.float32(1)
    made *= np.float32(0.5) * x
    return made


def _relu(x: Numbers) -> Numbers:
    made: Numbers = np.maximum(x, np.float32(0))
    return made


_ACTIVATIONS: Final[Mapping[Activation, Callable[[Numbers], Numbers]]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_new,
    "relu": _relu,
}
