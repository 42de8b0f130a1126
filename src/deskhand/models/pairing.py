"""Calls and their answers, made to match: model servers refuse a call without an answer, or an answer alone."""

from collections import Counter
from collections.abc import Sequence

from ..ports.model import PromptCall, PromptEntry, PromptOutput

UNANSWERED = "[This call was not run: the conversation went on without its output.]"


def paired(prompt: Sequence[PromptEntry]) -> list[PromptEntry]:
    """`prompt` in which every call has exactly one later answer and every answer an earlier call.

    Answers nobody asked for are dropped. A call nobody answered is followed by a short stand-in.
    """
    kept: list[PromptEntry] = []
    open_calls: Counter[str] = Counter()
    for entry in prompt:
        match entry:
            case PromptCall(call_id=call_id):
                open_calls[call_id] += 1
            case PromptOutput(call_id=call_id):
                if not open_calls[call_id]:
                    continue
                open_calls[call_id] -= 1
            case _:
                pass
        kept.append(entry)
    return _answered(kept, open_calls)


def _answered(entries: list[PromptEntry], open_calls: Counter[str]) -> list[PromptEntry]:
    """Backwards, so that of several calls with one id the last ones count as unanswered."""
    backwards: list[PromptEntry] = []
    for entry in reversed(entries):
        if isinstance(entry, PromptCall) and open_calls[entry.call_id]:
            open_calls[entry.call_id] -= 1
            backwards.append(PromptOutput(entry.call_id, UNANSWERED, free_text=entry.free_text))
        backwards.append(entry)
    return _answers_after_their_turn(backwards[::-1])


def _answers_after_their_turn(entries: list[PromptEntry]) -> list[PromptEntry]:
    """Stand-ins behind the last call of their turn, so that parallel calls stay one turn."""
    placed: list[PromptEntry] = []
    waiting: list[PromptEntry] = []
    for entry in entries:
        if isinstance(entry, PromptOutput) and entry.output == UNANSWERED:
            waiting.append(entry)
            continue
        if waiting and not isinstance(entry, PromptCall):
            placed += waiting
            waiting = []
        placed.append(entry)
    return placed + waiting
