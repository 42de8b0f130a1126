"""The words of a question. Pure."""

import re
import unicodedata
from typing import Final

MAX_TERMS: Final = 48
MAX_TERM_CHARACTERS: Final = 64

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_COMMON: Final = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it "
    "its me my of on or our she should so some than that the their them then there these they this those to too us "
    "was we were what when where which while who whom whose why will with would you your about please tell show find "
    "give explain describe any".split()
)
"""Words of English questions that say nothing of what is asked for."""


def terms(query: str) -> list[str]:
    """The words to look for, each once, in order; common ones only if there are no others."""
    words = [word[:MAX_TERM_CHARACTERS] for word in _WORD.findall(unicodedata.normalize("NFC", query).lower())]
    telling = [word for word in words if word not in _COMMON] or words
    return list(dict.fromkeys(telling))[:MAX_TERMS]


def rewritten(query: str) -> str:
    """A question as words to search for: without what only makes it a question. It stays if nothing would remain."""
    kept = [word for word in query.split() if "".join(_WORD.findall(word.lower())) not in _COMMON]
    words = " ".join(kept).rstrip("?!. ")
    return words if terms(words) else query
