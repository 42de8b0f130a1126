"""Vectors from a model in a directory: real weights against recorded figures, and directories that are broken."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.errors import UpstreamError
from deskhand.models.bert import Architecture
from deskhand.models.local_embeddings import batches, local_embedder
from deskhand.models.model_directory import MOST_WINDOWS, BadModelDirectory, SentenceModel, load_model
from deskhand.ports.chat import EmbeddingRequest

from ..minilm import minilm

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

# What sentence-transformers gives with all-MiniLM-L6-v2 for the pairs of its documentation, to four digits:
# https://sbert.net/docs/sentence_transformer/usage/semantic_textual_similarity.html
RECORDED = [
    ("The cat sits outside", "The dog plays in the garden", 0.2838),
    ("A man is playing guitar", "A woman watches TV", -0.0327),
    ("The new movie is awesome", "The new movie is so great", 0.8939),
    ("The new movie is awesome", "The dog plays in the garden", 0.0543),
    ("The new movie is awesome", "A woman watches TV", -0.0502),
    ("The cat sits outside", "The new movie is so great", -0.0029),
    ("The cat sits outside", "A woman watches TV", 0.1310),
    ("A man is playing guitar", "The dog plays in the garden", 0.2277),
    ("A man is playing guitar", "The new movie is so great", -0.0136),
]


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    return load_model(minilm())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A directory with a model of two layers and random weights."""
    return make_model(tmp_path / "small")


def cosine(one: Any, other: Any) -> float:
    """The cosine of two vectors."""
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize(("one", "other", "recorded"), RECORDED)
async def test_similarities_are_those_that_were_recorded(
    model: SentenceModel, one: str, other: str, recorded: float
) -> None:
    async with local_embedder(model) as embedder:
        found = await embedder.embed(EmbeddingRequest("minilm", [one, other]))
    assert cosine(*found.vectors) == pytest.approx(recorded, abs=1e-4)


async def test_a_vector_does_not_depend_on_what_it_was_made_beside(model: SentenceModel) -> None:
    texts = ["short", "a text of some more words than that", "and one more, " * 40, "short"]
    async with local_embedder(model) as embedder:
        together = await embedder.embed(EmbeddingRequest("minilm", texts))
        alone = [(await embedder.embed(EmbeddingRequest("minilm", [text]))).vectors[0] for text in texts]
    assert [len(vector) for vector in together.vectors] == [384] * 4
    for one, other in zip(together.vectors, alone, strict=True):
        assert np.allclose(one, other, atol=1e-5)
        assert math.isclose(np.linalg.norm(one), 1.0, abs_tol=1e-5)
    assert together.tokens == sum(len(tokens) for windows in model.windows(texts) for tokens in windows)


async def test_alike_texts_are_nearer_than_others(model: SentenceModel) -> None:
    texts = ["How do I reset my password?", "I forgot my login secret", "The Nile flows north", "rivers of Egypt"]
    async with local_embedder(model) as embedder:
        vectors = (await embedder.embed(EmbeddingRequest("minilm", texts))).vectors
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2
    assert cosine(vectors[2], vectors[3]) > cosine(vectors[1], vectors[3]) + 0.2


def test_a_long_text_is_looked_at_in_windows(model: SentenceModel) -> None:
    (windows,) = model.windows(["word " * 100_000])
    assert {len(window) for window in windows} == {model.longest} == {256}
    assert len(windows) == MOST_WINDOWS
    assert model.windows(["", "word " * 255]) == [[[101, 102]], [[101, *[2773] * 254, 102], [101, 2773, 102]]]


async def test_the_end_of_a_long_text_counts(model: SentenceModel) -> None:
    start, end = "The harbour master counts the ships. " * 60, "Zebras graze on the plains of Kenya. " * 60
    texts = [start, start + end, "zebras in Kenya", start]
    async with local_embedder(model) as embedder:
        first, both, asked, again = (await embedder.embed(EmbeddingRequest("minilm", texts))).vectors
    assert cosine(both, asked) > cosine(first, asked) + 0.2
    assert np.allclose(first, again, atol=1e-5)
    assert math.isclose(np.linalg.norm(both), 1.0, abs_tol=1e-5)


async def test_the_windows_of_a_text_count_by_their_tokens(small: Path) -> None:
    with_modules(small, "mean")
    model = load_model(small)
    (windows,) = model.windows(["red " * 14 + "green blue"])
    assert [len(window) for window in windows] == [16, 4]
    async with local_embedder(model) as embedder:
        (found,) = (await embedder.embed(EmbeddingRequest("small", ["red " * 14 + "green blue"]))).vectors
    one, other = (model.vectors([window])[0] for window in windows)
    assert np.allclose(found, (16 * one + 4 * other) / 20, atol=1e-5)


async def test_a_request_has_an_end(model: SentenceModel) -> None:
    async with local_embedder(model) as embedder:
        with pytest.raises(UpstreamError, match="524288 at once"):
            await embedder.embed(EmbeddingRequest("minilm", ["word " * 10_000] * 65))


async def test_what_the_model_cannot_make_is_refused(model: SentenceModel) -> None:
    async with local_embedder(model) as embedder:
        same = await embedder.embed(EmbeddingRequest("minilm", ["a"], dimensions=384))
        assert len(same.vectors[0]) == 384
        with pytest.raises(UpstreamError, match="384 dimensions only"):
            await embedder.embed(EmbeddingRequest("minilm", ["a"], dimensions=256))
        with pytest.raises(UpstreamError, match="texts, not token ids"):
            await embedder.embed(EmbeddingRequest("minilm", [[1, 2, 3]]))


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_batches_hold_every_text_once_and_no_more_than_may(lengths: list[int], most: int) -> None:
    made = list(batches(lengths, most))
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most


def test_the_encoder_is_what_its_definition_says(small: Path) -> None:
    """Against the same sums written one number at a time, with the error function of the C library."""
    model = load_model(small)
    tokens = [[2, 5, 6, 7, 3], [2, 6, 3]]
    expected = [slow_vector(model, ids) for ids in tokens]
    assert np.allclose(model.vectors(tokens), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_pooled_as_the_directory_says(small: Path, pooling: str) -> None:
    with_modules(small, pooling)
    model = load_model(small)
    assert (model.pooling, model.normalised) == (pooling, False)
    state = np.array([slow_states(model, [2, 5, 3])])
    expected = {"mean": state.mean(axis=1), "cls": state[:, 0], "max": state.max(axis=1)}[pooling]
    assert np.allclose(model.vectors([[2, 5, 3]]), expected, atol=1e-5)


def test_weights_may_be_half_precision_and_have_the_prefix_of_bert(small: Path) -> None:
    whole = load_model(small)
    header, data = read_weights(small)
    halves = {
        f"bert.{name}": np.frombuffer(data[start:end], np.float32).astype(np.float16)
        for name, (start, end) in spans(header)
    }
    shapes = {f"bert.{name}": entry["shape"] for name, entry in header.items()}
    write_weights(small, {name: half.reshape(shapes[name]) for name, half in halves.items()})
    assert np.allclose(load_model(small).vectors([[2, 5, 3]]), whole.vectors([[2, 5, 3]]), atol=2e-2)


def test_a_tokenizer_may_be_a_list_of_words(small: Path) -> None:
    (small / "tokenizer.json").unlink(missing_ok=True)
    assert load_model(small).windows(["Red, GREEN"]) == [[[2, 5, 8, 6, 3]]]
    (small / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_model(small).windows(["red GREEN"]) == [[[2, 5, 1, 3]]]


def edit(**changes: Any) -> Callable[[Path], None]:
    """A change to `config.json`."""

    def apply(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | changes))

    return apply


def put(name: str, content: bytes) -> Callable[[Path], None]:
    """Other content of a file."""

    def apply(path: Path) -> None:
        (path / name).write_bytes(content)

    return apply


def gone(name: str) -> Callable[[Path], None]:
    """No such file."""
    return lambda path: (path / name).unlink()


def weights_with(name: str, value: Any) -> Callable[[Path], None]:
    """Other weights of one name, or none."""

    def apply(path: Path) -> None:
        header, data = read_weights(path)
        weights = {
            one: np.frombuffer(data[start:end], np.float32).reshape(header[one]["shape"])
            for one, (start, end) in spans(header)
        }
        if value is None:
            del weights[name]
        else:
            weights[name] = value
        write_weights(path, weights)

    return apply


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (gone("config.json"), "config.json: No such file"),
        (put("config.json", b"{"), "config.json: it cannot be read"),
        (put("config.json", b"[" * 100_000), "config.json: it cannot be read"),
        (put("config.json", b"[1]"), "config.json: it cannot be read"),
        (put("config.json", b" " * (2 << 20)), "config.json: it has more than"),
        (edit(model_type="llama"), "only models of type 'bert'"),
        (edit(hidden_size=10**30), "hidden_size must be an integer from 1"),
        (edit(hidden_size="8"), "hidden_size must be an integer"),
        (edit(num_hidden_layers=10**6), "num_hidden_layers must be an integer from 1 to 128"),
        (edit(num_attention_heads=3), "a multiple of num_attention_heads"),
        (edit(hidden_act="swish"), "hidden_act is 'swish'"),
        (edit(layer_norm_eps="x"), "layer_norm_eps"),
        (edit(hidden_size=16), "config.json says [9, 16]"),
        (edit(vocab_size=4), "vocab_size 4"),
        (gone("vocab.txt"), "vocab.txt: No such file"),
        (put("vocab.txt", b"\xff\xfe"), "vocab.txt: it cannot be used"),
        (put("tokenizer.json", b"{}"), "tokenizer.json: it cannot be used"),
        (put("modules.json", b"{}"), "modules.json: it cannot be read"),
        (put("modules.json", b'[{"type": "x.Dense"}]'), "a module of type 'Dense' cannot be used"),
        (put("modules.json", b"[]"), "begin with a Transformer and a Pooling"),
        (put("sentence_bert_config.json", b'{"max_seq_length": 1}'), "max_seq_length"),
        (gone("model.safetensors"), "model.safetensors: No such file"),
        (put("model.safetensors", b""), "model.safetensors: it says that its header has 0 bytes"),
        (put("model.safetensors", struct.pack("<Q", 1 << 62) + b"{}"), "header has 4611686018427387904 bytes, of 10"),
        (put("model.safetensors", struct.pack("<Q", 2) + b"{}"), "it has no weight"),
        (put("model.safetensors", struct.pack("<Q", 8) + b"[[[[[[[["), "it cannot be read"),
        (
            put(
                "model.safetensors",
                struct.pack("<Q", 64) + b'{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,1000000]}}'.ljust(64),
            ),
            "it cannot be read",
        ),
        (weights_with("encoder.layer.1.output.dense.bias", None), "no weight 'encoder.layer.1.output.dense.bias'"),
        (weights_with("embeddings.LayerNorm.bias", np.zeros(9, np.float32)), "has the shape [9]"),
        (weights_with("embeddings.LayerNorm.bias", np.full(8, np.nan, np.float32)), "not finite"),
        (weights_with("embeddings.LayerNorm.bias", np.zeros(8, np.int32)), "is of type I32"),
    ],
)
def test_a_broken_directory_is_refused_with_the_file_and_the_reason(
    small: Path, breaking: Callable[[Path], None], said: str
) -> None:
    load_model(small)
    breaking(small)
    with pytest.raises(BadModelDirectory) as raised:
        load_model(small)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelDirectory, match="is not there"):
        load_model(tmp_path / "none")


def make_model(path: Path) -> Path:
    """Write a small model with random weights: 8 numbers wide, 2 layers, 9 words, up to 16 tokens."""
    path.mkdir()
    (path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "bert",
                "hidden_act": "gelu",
                "hidden_size": 8,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 12,
                "vocab_size": 9,
                "max_position_embeddings": 16,
                "type_vocab_size": 2,
                "layer_norm_eps": 1e-12,
            }
        )
    )
    (path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ngreen\nblue\n,\n")
    put("model.safetensors", struct.pack("<Q", 2) + b"{}")(path)
    random = np.random.default_rng(5)
    write_weights(path, {name: random.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes_of(path)})
    return path


def shapes_of(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The weights that the model needs."""
    config = json.loads((path / "config.json").read_text())
    sizes = [config[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")]
    vocabulary, width, layers, heads = sizes
    return iter(Architecture(vocabulary, width, layers, heads, 12, 16, 2, 1e-12, "gelu").shapes().items())


def with_modules(path: Path, pooling: str) -> None:
    """Say how vectors are pooled, and that they are not brought to length 1."""
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    modes = {f"pooling_mode_{word}": name == pooling for name, word in names.items()}
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(modes))


def read_weights(path: Path) -> tuple[dict[str, Json], bytes]:
    """The header and the numbers of a safetensors file."""
    content = (path / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def spans(header: dict[str, Json]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where each weight is."""
    return ((name, tuple(entry["data_offsets"])) for name, entry in header.items())


def write_weights(path: Path, weights: dict[str, Any]) -> None:
    """Write a safetensors file."""
    kinds = {"float32": "F32", "float16": "F16", "int32": "I32"}
    header, data = {}, b""
    for name, weight in weights.items():
        start, data = len(data), data + weight.tobytes()
        header[name] = {
            "dtype": kinds[str(weight.dtype)],
            "shape": list(weight.shape),
            "data_offsets": [start, len(data)],
        }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)


def slow_vector(model: SentenceModel, ids: list[int]) -> list[float]:
    """Mean of the states, of length 1."""
    mean = np.mean(slow_states(model, ids), axis=0)
    vector: list[float] = (mean / math.sqrt(sum(float(x) ** 2 for x in mean))).tolist()
    return vector


def slow_states(model: SentenceModel, ids: list[int]) -> list[list[float]]:
    """What the last layer says of each token, in double precision, by loops."""
    weights = {name: weight.astype(float).tolist() for name, weight in model.bert.weights.items()}
    width, heads = model.bert.architecture.width, model.bert.architecture.heads
    size = width // heads

    def linear(x: list[float], name: str) -> list[float]:
        rows, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(rows, bias, strict=True)]

    def norm(x: list[float], name: str) -> list[float]:
        mean = sum(x) / len(x)
        spread = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-12)
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return [(v - mean) / spread * a + b for v, a, b in zip(x, scale, shift, strict=True)]

    def gelu(x: float) -> float:
        return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))

    def attend(states: list[list[float]], name: str) -> list[list[float]]:
        query, key, value = ([linear(x, f"{name}.{part}") for x in states] for part in ("query", "key", "value"))
        made = []
        for q in query:
            row: list[float] = []
            for at in range(0, width, size):
                near = [sum(a * b for a, b in zip(q[at : at + size], k[at : at + size], strict=True)) for k in key]
                shares = [math.exp(score / math.sqrt(size)) for score in near]
                row += [
                    sum(s * v[i] for s, v in zip(shares, value, strict=True)) / sum(shares)
                    for i in range(at, at + size)
                ]
            made.append(row)
        return made

    tables = [weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")]
    states = [
        norm(
            [a + b + c for a, b, c in zip(tables[0][id_], tables[1][at], tables[2][0], strict=True)],
            "embeddings.LayerNorm",
        )
        for at, id_ in enumerate(ids)
    ]
    for number in range(model.bert.architecture.layers):
        layer = f"encoder.layer.{number}"
        seen = [linear(x, f"{layer}.attention.output.dense") for x in attend(states, f"{layer}.attention.self")]
        states = [
            norm([a + b for a, b in zip(x, y, strict=True)], f"{layer}.attention.output.LayerNorm")
            for x, y in zip(seen, states, strict=True)
        ]
        inner = [
            linear([gelu(v) for v in linear(x, f"{layer}.intermediate.dense")], f"{layer}.output.dense") for x in states
        ]
        states = [
            norm([a + b for a, b in zip(x, y, strict=True)], f"{layer}.output.LayerNorm")
            for x, y in zip(inner, states, strict=True)
        ]
    return states
