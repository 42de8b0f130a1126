"""Checks one grammar, and maybe a text against it, in a process of its own: run by `grammars.py`, imported by nobody.

A hostile grammar overflows the stack of the library, which ends the process (measured with llguidance 1.9.1: a chain
of 3,000 rules), or takes it minutes. Reads a JSON object with `syntax`, `definition` and maybe `text`; writes one with
`grammar` and `text`, what is wrong with each.
"""

import json
import resource
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 5


def main() -> None:
    """Answer the one question on standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.load(sys.stdin)
    # Up to 2 kB a lexer state: the default allows half a gigabyte of them.
    limits = LLParserLimits(max_lexer_states=50_000, precompute_large_lexemes=False, verbose_errors=False)
    make = LLMatcher.grammar_from_regex if asked["syntax"] == "regex" else LLMatcher.grammar_from_lark
    matcher = LLMatcher(LLTokenizer("byte"), make(asked["definition"]), log_level=0, limits=limits)
    if matcher.is_error():
        answer = {"grammar": matcher.get_error(), "text": ""}
    else:
        text = asked.get("text")
        answer = {"grammar": "", "text": "" if text is None else text_complaint(matcher, text)}
    json.dump(answer, sys.stdout)


def text_complaint(matcher: LLMatcher, text: str) -> str:
    """Why `text` does not match; empty if it does."""
    data = text.encode("utf-8", "replace")
    taken = matcher.try_consume_tokens(list(data))
    if matcher.is_error():
        return f"it could not be checked: {matcher.get_error()}"
    if taken < len(data):
        before = data[:taken].decode("utf-8", "ignore")
        rest = data[taken : taken + 60].decode("utf-8", "ignore")
        return f"after {before[-60:]!r}, {rest!r} is not allowed"
    return "" if matcher.is_accepting() else f"it ends too early, after {text[-60:]!r}"


if __name__ == "__main__":
    main()
