"""A server with an embedding model of its own: vectors through the real SDK, and what the model is not for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from ..conftest import Server, launched
from ..minilm import minilm


@pytest.fixture(scope="module")
def local(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("local") / "data"
    settings = {"embedding_model": "minilm", "embedding_model_path": str(minilm())}
    with launched(data, upstream_url, engine="none", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def sdk(local: Server) -> OpenAI:
    return local.client()


def test_vectors_are_made_in_the_server(sdk: OpenAI) -> None:
    texts = ["The new movie is awesome", "The new movie is so great", "The cat sits outside"]
    found = sdk.embeddings.create(model="minilm", input=texts)
    awesome, great, cat = (one.embedding for one in found.data)
    assert len(awesome) == 384
    assert sum(a * b for a, b in zip(awesome, great, strict=True)) == pytest.approx(0.8939, abs=1e-4)
    assert sum(a * b for a, b in zip(awesome, cat, strict=True)) < 0.3
    assert found.usage.prompt_tokens > 10


def test_the_model_is_listed_and_other_names_still_go_to_the_upstream(sdk: OpenAI) -> None:
    assert "minilm" in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve("minilm").id == "minilm"
    assert len(sdk.embeddings.create(model="other", input="a").data[0].embedding) == 64


def test_words_are_not_made_by_it(sdk: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="only makes embeddings") as chat:
        sdk.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(NotFoundError, match="only makes embeddings") as response:
        sdk.responses.create(model="minilm", input="hi")
    with pytest.raises(NotFoundError, match="only makes embeddings"):
        sdk.responses.create(model="minilm", input="hi", background=True)
    assert chat.value.code == response.value.code == "model_not_found"
    assert sdk.responses.create(model="other", input="hi").status == "completed"


def test_what_it_cannot_make_is_the_clients_mistake(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="384 dimensions only"):
        sdk.embeddings.create(model="minilm", input="a", dimensions=100)
    with pytest.raises(BadRequestError, match="texts, not token ids"):
        sdk.embeddings.create(model="minilm", input=[1, 2, 3])


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_broken_directory_is_told_at_the_start(tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "gpt2"}')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DESKHAND_")}
    environ |= {
        "DESKHAND_DATA_DIR": str(tmp_path / "data"),
        "DESKHAND_PORT": "0",
        "DESKHAND_ENGINE": "none",
        "DESKHAND_EMBEDDING_MODEL_PATH": str(broken),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deskhand", command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "only models of type 'bert' can be used" in said
    assert str(broken / "config.json") in said
    assert "Traceback" not in said


def test_the_doctor_says_what_the_model_makes(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DESKHAND_")}
    environ |= {"DESKHAND_DATA_DIR": str(tmp_path), "DESKHAND_EMBEDDING_MODEL_PATH": str(minilm())}
    environ["DESKHAND_ENGINE"] = "none"
    done = subprocess.run(
        [sys.executable, "-m", "deskhand", "doctor"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "model makes 384 dimensions of at most 256 tokens" in done.stdout
