"""Chunks: nothing of a text is lost or said twice, and none is larger than it may be."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.chunking import BYTES_PER_TOKEN, ChunkSizes, chunks, estimated_tokens
from deskhand.core.queries import MAX_TERM_CHARACTERS, MAX_TERMS, rewritten, spelled, terms

sizes = st.integers(100, 200).flatmap(
    lambda tokens: st.integers(0, tokens // 2).map(lambda overlap: ChunkSizes(tokens, overlap))
)
texts = st.lists(st.sampled_from(["word ", "a. ", "\n\n", "äöü ", "漢字", "🙂", "x" * 50]), max_size=400).map("".join)


@given(texts, sizes)
def test_chunks_make_the_text_again(text: str, sizes: ChunkSizes) -> None:
    found = list(chunks(text, sizes))
    assert "".join(chunk.text[chunk.repeated :] for chunk in found) == text
    for before, chunk in zip(found, found[1:], strict=False):
        assert chunk.repeated <= sizes.overlap * BYTES_PER_TOKEN
        assert chunk.repeated == 0 or before.text.endswith(chunk.text[: chunk.repeated])
    for chunk in found:
        assert len(chunk.text) > chunk.repeated, "every chunk brings something new"
        assert len(chunk.text.encode()) <= sizes.tokens * BYTES_PER_TOKEN


def test_a_long_text_overlaps_as_it_should() -> None:
    text = " ".join(f"word{n}" for n in range(20_000))
    found = list(chunks(text, ChunkSizes(800, 400)))
    assert all(1000 < chunk.repeated <= 1600 for chunk in found[1:])
    assert all(not chunk.text.startswith(" ") for chunk in found), "chunks begin at words"


@pytest.mark.parametrize("sentence", ["One two three four five six seven. ", "我住在北京市，天气很好。"])
def test_a_chunk_ends_with_a_sentence_if_it_can(sentence: str) -> None:
    found = list(chunks(sentence * 100, ChunkSizes(100, 0)))
    assert all(chunk.text.rstrip().endswith(sentence.rstrip()[-1]) for chunk in found)


def test_text_that_never_pauses_is_cut_all_the_same() -> None:
    assert [len(chunk.text) for chunk in chunks("x" * 1000, ChunkSizes(100, 0))] == [400, 400, 200]


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("漢", 1), ("\ud800", 1)])
def test_tokens_are_estimated_by_bytes(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_the_words_of_a_question() -> None:
    assert terms("What is the Zebra's code, zebra's CODE?") == ["zebra's", "code"]
    assert terms("what is the") == ["what", "is", "the"], "common words if there are no others"
    assert terms('" OR * (') == ["or"]
    assert terms("äöü a_b 'İstanbul'") == ["äöü", "b", "i̇stanbul"]
    assert terms("❤️ ' ’ ── 😀") == []
    assert len(terms(" ".join(map(str, range(1000))))) == MAX_TERMS


def test_scripts_without_spaces_are_looked_for_by_pairs() -> None:
    assert terms("漢 東京都 iPhone15手机") == ["漢", "東 京", "京 都", "iphone15", "手 机"]
    assert spelled("在iPhone15，東京 ÄRGER") == "在 iPhone15, 東 京 äRGER"
    assert spelled("plain text -- it's") == "plain text -- it's"
    assert spelled("Mu\u0308ller e\ufb03cient") == "Müller efficient"


@given(st.text(st.characters(min_codepoint=0x3040, max_codepoint=0x30FF), max_size=30), st.text("aB c.", max_size=20))
def test_a_spelled_text_says_what_the_text_does(text: str, more: str) -> None:
    whole = text + more
    assert "".join(spelled(whole).split()) == "".join(unicodedata.normalize("NFKC", whole).split())
    assert spelled(spelled(whole)) == spelled(whole)


def test_a_question_is_rewritten_as_what_it_asks_for() -> None:
    assert rewritten("Can you tell me what the zebra code is?") == "zebra code"
    assert rewritten("zebra code") == "zebra code"
    assert rewritten("what is it?") == "what is it?"


@given(st.text(max_size=200))
def test_any_query_has_bounded_words(query: str) -> None:
    assert all(0 < len(term) <= MAX_TERM_CHARACTERS and '"' not in term for term in terms(query))
    assert bool(terms(rewritten(query))) == bool(terms(query))
