"""A sentence-embedding model in a directory, as Hugging Face and sentence-transformers lay it out.

Read are `config.json`, `model.safetensors`, `tokenizer.json` or `vocab.txt`, and if they are there `modules.json` with
the pooling that it names, and `sentence_bert_config.json`. Nothing in the directory is executed. Everything is checked
before the server starts, and every size is bounded by that of the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from ..core.errors import DeskhandError
from .bert import Activation, Architecture, Bert, Numbers, Pooling, Weights, pool, unit

LARGEST_CONFIG: Final = 1 << 20
LARGEST_TOKENIZER: Final = 64 << 20
LARGEST_HEADER: Final = 8 << 20
LARGEST_WEIGHTS: Final = 4 << 30
MOST_LAYERS: Final = 128
LARGEST_DIMENSION: Final = 1 << 24
MOST_WINDOWS: Final = 32
"""Of one text. With 256 tokens each they are what OpenAI's models take (API reference, "Embeddings")."""
CHARACTERS_OF_A_TOKEN: Final = 100
"""The longest word that BERT's tokenizer looks into."""

_TYPES: Final = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
_ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
}
_MODULES: Final = ("Transformer", "Pooling", "Normalize")

Json = Mapping[str, Any]
Tokens = Sequence[int]
"""The ids of a text's tokens, with those that begin and end it."""


class BadModelDirectory(DeskhandError):
    """The directory holds no model that can be used; the message says which file is wrong, and why."""


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """A model that makes one vector of a text. `longest` is in tokens; a longer text is looked at in windows."""

    bert: Bert
    tokenizer: Tokenizer
    pooling: Pooling
    normalised: bool
    longest: int

    @property
    def dimensions(self) -> int:
        """The length of its vectors."""
        return self.bert.architecture.width

    def windows(self, texts: Sequence[str]) -> list[Sequence[Tokens]]:
        """The tokens of each text, in windows that fit. What is beyond `MOST_WINDOWS` is not looked at."""
        most = self.longest * CHARACTERS_OF_A_TOKEN * MOST_WINDOWS
        found = self.tokenizer.encode_batch([text[:most] for text in texts])
        return [[one.ids, *(rest.ids for rest in one.overflowing)][:MOST_WINDOWS] for one in found]

    def together(self, windows: Sequence[Tokens], vectors: Sequence[Numbers]) -> Numbers:
        """The vector of a text of those of its windows: their mean, in which each counts by its tokens."""
        if len(vectors) == 1:
            return vectors[0]
        mean = np.average(vectors, axis=0, weights=[len(ids) for ids in windows])[None]
        made: Numbers = (unit(mean) if self.normalised else mean)[0].astype(np.float32)
        return made

    def vectors(self, batch: Sequence[Tokens]) -> Numbers:
        """A vector for each of some texts, which are given as their tokens."""
        lengths = np.array([len(ids) for ids in batch])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros(mask.shape, dtype=np.int64)
        padded[mask] = np.concatenate([np.array(ids, dtype=np.int64) for ids in batch])
        vectors = pool(self.bert.encode(padded, mask), mask, self.pooling)
        return unit(vectors) if self.normalised else vectors


def load_model(directory: Path) -> SentenceModel:
    """The model in `directory`. Raises `BadModelDirectory`."""
    if not directory.is_dir():
        raise BadModelDirectory(f"The embedding model's directory {str(directory)!r} is not there.")
    config = _json(directory / "config.json")
    architecture = _architecture(config, directory / "config.json")
    pooling, normalised = _modules(directory)
    longest = _longest(directory, architecture.positions)
    tokenizer = _tokenizer(directory, architecture, longest)
    bert = Bert(architecture, _weights(directory / "model.safetensors", architecture))
    return SentenceModel(bert, tokenizer, pooling, normalised, longest)


def _architecture(config: Json, path: Path) -> Architecture:
    if config.get("model_type") != "bert":
        raise _bad(path, f"model_type is {config.get('model_type')!r}; only models of type 'bert' can be used")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise _bad(path, "only absolute position embeddings can be used")
    activation = _ACTIVATIONS.get(str(config.get("hidden_act", "gelu")))
    if activation is None:
        raise _bad(path, f"hidden_act is {config['hidden_act']!r}; known are {', '.join(_ACTIVATIONS)}")
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
        raise _bad(path, "layer_norm_eps must be a small number")
    width, heads = _size(config, "hidden_size", path), _size(config, "num_attention_heads", path)
    if width % heads:
        raise _bad(path, "hidden_size must be a multiple of num_attention_heads")
    return Architecture(
        vocabulary=_size(config, "vocab_size", path),
        width=width,
        layers=_size(config, "num_hidden_layers", path, most=MOST_LAYERS),
        heads=heads,
        inner=_size(config, "intermediate_size", path),
        positions=_size(config, "max_position_embeddings", path),
        kinds=_size(config, "type_vocab_size", path),
        epsilon=epsilon,
        activation=activation,
    )


def _modules(directory: Path) -> tuple[Pooling, bool]:
    """How a text's vector is made of its tokens', and whether it is made to have length 1.

    A directory without `modules.json` is a plain encoder: mean, and length 1, as most embedding models want it.
    """
    path = directory / "modules.json"
    if not path.exists():
        return "mean", True
    modules = _read(path, LARGEST_CONFIG, list[dict[str, Any]])
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if unknown := [kind for kind in kinds if kind not in _MODULES]:
        raise _bad(path, f"a module of type {unknown[0]!r} cannot be used; known are {', '.join(_MODULES)}")
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise _bad(path, "it must begin with a Transformer and a Pooling")
    return _pooling(directory / str(modules[1].get("path")) / "config.json"), "Normalize" in kinds


def _pooling(path: Path) -> Pooling:
    config = _json(path)
    known: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
    }
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in known:
        raise _bad(path, f"exactly one of {', '.join(known)} must be true")
    return known[chosen[0]]


def _longest(directory: Path, positions: int) -> int:
    path = directory / "sentence_bert_config.json"
    if not path.exists():
        return positions
    longest = _json(path).get("max_seq_length") or positions
    if not isinstance(longest, int) or longest < 3:
        raise _bad(path, "max_seq_length must be an integer of at least 3")
    return min(longest, positions)


def _tokenizer(directory: Path, architecture: Architecture, longest: int) -> Tokenizer:
    path = directory / "tokenizer.json"
    if not path.exists():
        path = directory / "vocab.txt"
    content = _bytes(path, LARGEST_TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(content) if path.suffix == ".json" else _word_pieces(directory, content)
        tokenizer.no_padding()
        tokenizer.enable_truncation(longest)
        largest = max(tokenizer.get_vocab().values())
    except Exception as exc:  # the library raises bare exceptions
        raise _bad(path, f"it cannot be used ({exc})") from None
    if largest >= architecture.vocabulary:
        raise _bad(path, f"it has token {largest}, and config.json says vocab_size {architecture.vocabulary}")
    if not tokenizer.encode("").ids:
        raise _bad(path, "it must put tokens around a text")
    return tokenizer


def _word_pieces(directory: Path, content: bytes) -> Tokenizer:
    config = directory / "tokenizer_config.json"
    lower = _json(config).get("do_lower_case", True) if config.exists() else True
    words = content.decode().splitlines()
    made = BertWordPieceTokenizer({word: number for number, word in enumerate(words)}, lowercase=bool(lower))
    return Tokenizer.from_str(made.to_str())


def _weights(path: Path, architecture: Architecture) -> Weights:
    _check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            prefix = "bert." if "bert.embeddings.word_embeddings.weight" in names else ""
            weights = {}
            for name, shape in architecture.shapes().items():
                if prefix + name not in names:
                    raise _bad(path, f"it has no weight {prefix + name!r}")
                weights[name] = _weight(file, prefix + name, shape, path)
            return weights
    except (SafetensorError, OSError, ValueError, TypeError) as exc:
        raise _bad(path, f"it cannot be read ({exc})") from None


def _weight(file: Any, name: str, shape: tuple[int, ...], path: Path) -> Numbers:
    held = file.get_slice(name)
    if tuple(held.get_shape()) != shape:
        raise _bad(path, f"weight {name!r} has the shape {held.get_shape()}, and config.json says {list(shape)}")
    if held.get_dtype() not in _TYPES:
        raise _bad(path, f"weight {name!r} is of type {held.get_dtype()}; known are {', '.join(_TYPES)}")
    weight: Numbers = np.ascontiguousarray(file.get_tensor(name), dtype=np.float32)
    if not np.isfinite(weight).all():
        raise _bad(path, f"weight {name!r} has numbers that are not finite")
    return weight


def _check_size(path: Path) -> None:
    """Refuse what is too large before anything reads it; the first eight bytes say how long the header is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as exc:
        raise _bad(path, exc.strerror or "it cannot be read") from None
    if size > LARGEST_WEIGHTS:
        raise _bad(path, f"it has {size} bytes; at most {LARGEST_WEIGHTS} can be used")
    if header > min(LARGEST_HEADER, size - 8):
        raise _bad(path, f"it says that its header has {header} bytes, of {size} in all")


def _size(config: Json, name: str, path: Path, most: int = LARGEST_DIMENSION) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise _bad(path, f"{name} must be an integer from 1 to {most}")
    return value


def _json(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = _read(path, LARGEST_CONFIG, dict[str, Any])
    return read


def _read(path: Path, most: int, kind: Any) -> Any:
    try:
        return msgspec.json.decode(_bytes(path, most), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _bad(path, f"it cannot be read ({exc})") from None


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as exc:
        raise _bad(path, exc.strerror or "it cannot be read") from None
    if len(content) > most:
        raise _bad(path, f"it has more than {most} bytes")
    return content


def _bad(path: Path, why: str) -> BadModelDirectory:
    return BadModelDirectory(f"The embedding model cannot be loaded: {path}: {why}.")
