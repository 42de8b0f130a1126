"""Grammars of custom tools: is one valid, and does a text have its form?"""

from collections.abc import Mapping
from typing import Any, Protocol


class Grammars(Protocol):
    """Checks against a custom tool's `format` of type `grammar`: its `syntax` (lark or regex) and its `definition`."""

    async def grammar_complaint(self, form: Mapping[str, Any]) -> str:
        """What is wrong with a grammar; empty if nothing is."""
        ...

    async def text_complaint(self, form: Mapping[str, Any], text: str) -> str:
        """Why `text` does not match a grammar, or cannot be checked; empty if it matches."""
        ...
