"""The words of a question, and of the texts that it is looked for in. Pure.

Databases take a run of letters for one word, and what is written without spaces (Chinese, Japanese, Thai) is one run
from a comma to the next; Korean has particles at its words. So texts are indexed with such characters one by one, and
looked for by pairs of neighbours.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

MAX_TERMS: Final = 48
MAX_TERM_CHARACTERS: Final = 256

UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Blocks of the Unicode Standard, for a pattern: Thai and Lao, Myanmar, Khmer, kana, Hangul, and ideographs."""
_GAPS: Final = re.compile(rf"(?<=\S)(?=[{UNSPACED}])|(?<=[{UNSPACED}])(?=\S)")
_RUNS: Final = re.compile(rf"[{UNSPACED}]+|[^{UNSPACED}]+")
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_COMMON: Final = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it "
    "its me my of on or our she should so some than that the their them then there these they this those to too us "
    "was we were what when where which while who whom whose why will with would you your about please tell show find "
    "give explain describe any".split()
)
"""Words of English questions that say nothing of what is asked for."""


def spelled(text: str) -> str:
    """A text as words are looked for in it: in one of its spellings (NFKC), with spaces where a script has none.

    Letters beyond ASCII are small: a PostgreSQL whose locale is C knows no capitals among them.
    """
    if text.isascii():
        return text
    small = _BEYOND_ASCII.sub(lambda run: run[0].lower(), unicodedata.normalize("NFKC", text))
    return _GAPS.sub(" ", small)


def terms(query: str) -> list[str]:
    """What to look for in a `spelled` text, each once, in order; common words only if there are no others.

    A term of several words stands for them next to each other.
    """
    words = _words(query)
    telling = [word for word in words if word not in _COMMON] or words
    found = [term[:MAX_TERM_CHARACTERS] for word in telling for term in _parts(word)]
    return list(dict.fromkeys(found))[:MAX_TERMS]


def rewritten(query: str) -> str:
    """A question as words to search for: without what only makes it a question. It stays if nothing would remain."""
    kept = [word for word in query.split() if "".join(_words(word)) not in _COMMON]
    words = " ".join(kept).rstrip("?!. ")
    return words if terms(words) else query


def _words(text: str) -> list[str]:
    """The runs of letters and digits, with their accents and vowel signs, and with apostrophes inside."""
    kept = (one if _is_of_word(one) else " " for one in unicodedata.normalize("NFKC", text).replace("’", "'"))
    words = (word.strip("'").lower() for word in "".join(kept).split())
    return [word for word in words if any(map(str.isalnum, word))]


def _is_of_word(one: str) -> bool:
    return one.isalnum() or one == "'" or unicodedata.category(one).startswith("M")


def _parts(word: str) -> Iterator[str]:
    for run in _RUNS.findall(word):
        if _GAPS.search(run):
            yield from (f"{one} {next_}" for one, next_ in pairwise(run))
        else:
            yield run
