"""Free-text tools over upstreams that only know functions: wrapped as `{"input": "..."}`, unwrapped as it streams.

The text is decoded piece by piece as the JSON string grows, each character once: parsing the whole prefix again for
every delta costs the square of its length.
"""

import json
import re
from typing import Any, Final

import msgspec

from ..ports.model import FreeTextDeclaration

INPUT: Final = "input"

_OPENING = re.compile(r'\s{0,32}\{\s{0,32}"input"\s{0,32}:\s{0,32}"')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MEANING: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_STRING_END = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LONGEST_OPENING: Final = 256


def schema(tool: FreeTextDeclaration) -> dict[str, Any]:
    """The parameters of the function that stands for `tool`."""
    return {
        "type": "object",
        "properties": {INPUT: {"type": "string", "description": "The whole text for the tool."}},
        "required": [INPUT],
        "additionalProperties": False,
    }


def description(tool: FreeTextDeclaration) -> str:
    """What the function that stands for `tool` says about itself; the grammar is asked for in words."""
    text = tool.description
    if tool.format and tool.format.get("type") == "grammar":
        syntax, grammar = tool.format.get("syntax", ""), tool.format.get("definition", "")
        text += f"\n\nThe text in `input` must match this {syntax} grammar:\n{grammar}"
    return text.strip()


def wrap(text: str) -> str:
    """Arguments of that function for `text`."""
    return msgspec.json.encode({INPUT: text}).decode()


class Unwrapper:
    """The text of a wrapped call, out of its arguments as they arrive.

    Arguments of another form than the one asked for are held back to the end and read as well as they can be.
    """

    def __init__(self) -> None:
        self._held = ""
        self._in_string = False
        self._closed = False
        self._odd = False

    def feed(self, arguments: str) -> str:
        """The text that the next piece of `arguments` completes."""
        if self._closed:
            return ""
        self._held += arguments
        if not self._in_string and not self._odd:
            self._look_at_opening()
        return self._decode_ready() if self._in_string else ""

    def finish(self) -> str:
        """The rest of the text, when no more arguments come."""
        held, self._held = self._held, ""
        if self._closed:
            return ""
        return _decoded(held) if self._in_string else _text_of_odd(held)

    def _look_at_opening(self) -> None:
        if opening := _OPENING.match(self._held):
            self._held = self._held[opening.end() :]
            self._in_string = True
        elif len(self._held) > _LONGEST_OPENING:
            self._odd = True

    def _decode_ready(self) -> str:
        if end := _STRING_END.match(self._held):
            ready, self._held, self._closed = self._held[: end.end() - 1], "", True
            return _decoded(ready)
        cut = _safe_cut(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return _decoded(ready)


def _safe_cut(text: str) -> int:
    """How much of the inside of an unfinished JSON string can be decoded already."""
    tail = text[-12:]
    # A run of backslashes decides by its parity whether its last one begins an escape, so all of it must be seen.
    start = len(text) - len(tail)
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    position = start
    while position < len(text):
        if text[position] != "\\":
            position += 1
            continue
        length = 6 if text[position + 1 : position + 2] == "u" else 2
        if position + length > len(text):
            return position
        if length == 6 and re.fullmatch(r"\\u[dD][89abAB][0-9a-fA-F]{2}", text[position : position + 6]):
            following = text[position + 6 : position + 12]
            if len(following) < 6 and (not following or r"\u".startswith(following[:2])):
                return position
        position += length
    return len(text)


def _decoded(text: str) -> str:
    """The string that JSON text stands for; escapes that JSON does not know stay as they were said."""
    if "\\" not in text:
        return text
    decoded = _ESCAPE.sub(_unescaped, text)
    if _SURROGATE.search(decoded):
        return decoded.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return decoded


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return _MEANING.get(code, match[0])


def _text_of_odd(arguments: str) -> str:
    try:
        value = json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return arguments
    match value:
        case str():
            return value
        case {"input": str() as text}:
            return text
        case dict() if len(value) == 1 and isinstance(only := next(iter(value.values())), str):
            return only
        case dict() if not value:
            return ""
        case _:
            return arguments
