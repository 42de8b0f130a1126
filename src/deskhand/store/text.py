"""What text may be stored.

Two things that a Python string can hold have no place in a database: lone surrogates are not UTF-8 (a file name from
the disk may have one), and PostgreSQL takes no NUL. JSON bodies spell NUL as an escape, so there it is kept; everything
else that cannot be kept becomes U+FFFD. Ids are treated the same when stored and when looked up.
"""

import re
from typing import Any

from ..wire.codec import encode, plain

_UNFIT = re.compile(r"[\x00\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def column(value: str) -> str:
    """`value` as a text column can hold it."""
    return _UNFIT.sub(_REPLACEMENT, value)


def body(value: object) -> str:
    """`value` as JSON for a text column. Takes what `wire.codec.encode` takes."""
    try:
        return encode(value).decode()
    except UnicodeEncodeError:
        return encode(_fit(plain(value))).decode()


def _fit(value: Any) -> Any:
    match value:
        case str():
            return _SURROGATE.sub(_REPLACEMENT, value)
        case dict():
            return {_fit(key): _fit(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_fit(entry) for entry in value]
        case _:
            return value
