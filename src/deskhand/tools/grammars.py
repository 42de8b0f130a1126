"""Grammars of custom tools, checked with llguidance, whose dialects of Lark and regex are those that OpenAI documents.

Each check is a process of its own, bounded in time, memory and number: see `grammar_program.py` for why.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

MAX_DEFINITION: Final = 65_536
"""Characters of a grammar."""
MAX_TEXT: Final = 2_097_152
"""Characters of a text that is checked."""
GRAMMAR_SECONDS: Final = 3.0
TEXT_SECONDS: Final = 10.0
AT_ONCE: Final = 2
KNOWN: Final = 256
_SYNTAXES: Final = ("lark", "regex")
_QUOTED: Final = 400
_PROGRAM: Final = Path(__file__).with_name("grammar_program.py")


class LlGuidance:
    """The `Grammars` of this server. Remembers which grammars are valid, as clients send theirs with every turn."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._valid: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def grammar_complaint(self, form: Mapping[str, Any]) -> str:
        """See `Grammars`."""
        syntax, definition = form.get("syntax"), form.get("definition")
        if syntax not in _SYNTAXES:
            return "'syntax' must be 'lark' or 'regex'"
        if not isinstance(definition, str) or not definition:
            return "'definition' must be a text that is not empty"
        if len(definition) > MAX_DEFINITION:
            return f"'definition' has {len(definition)} characters; at most {MAX_DEFINITION}"
        if (syntax, definition) in self._valid:
            self._valid.move_to_end((syntax, definition))
            return ""
        said = await self._asked({"syntax": syntax, "definition": definition}, GRAMMAR_SECONDS)
        complaint = "it is too complex" if said is None else said["grammar"]
        if not complaint:
            self._remember(syntax, definition)
        return _short(complaint)

    async def text_complaint(self, form: Mapping[str, Any], text: str) -> str:
        """See `Grammars`."""
        if len(text) > MAX_TEXT:
            return f"it has {len(text)} characters, of which at most {MAX_TEXT} can be checked"
        said = await self._asked(
            {"syntax": form.get("syntax"), "definition": form.get("definition"), "text": text}, TEXT_SECONDS
        )
        return (
            "it could not be checked: that takes too long" if said is None else _short(said["grammar"] or said["text"])
        )

    def _remember(self, syntax: str, definition: str) -> None:
        self._valid[syntax, definition] = None
        if len(self._valid) > KNOWN:
            self._valid.popitem(last=False)

    async def _asked(self, question: Mapping[str, Any], seconds: float) -> dict[str, str] | None:
        """The program's answer; None if it took too long or died."""
        async with self._slots:
            # Nothing of this server's environment is for a program that reads hostile input.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(_PROGRAM), stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, env={}
            )
            try:
                async with asyncio.timeout(seconds):
                    answer, _ = await process.communicate(msgspec.json.encode(question))
            except TimeoutError:
                return None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode != 0:
            return None
        return msgspec.json.decode(answer, type=dict[str, str])


def _short(complaint: str) -> str:
    return complaint if len(complaint) <= _QUOTED else complaint[:_QUOTED] + "…"
