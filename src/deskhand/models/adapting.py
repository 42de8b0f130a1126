"""Requests that adapt: what an upstream refuses by name is left out (or renamed) and remembered for that model."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from .failures import Refused

T = TypeVar("T")

MOST_MODELS: Final = 256

_REJECTION = re.compile(
    r"un(?:supported|known|recogni[sz]ed|expected)|(?:not|n't) (?:be )?(?:supported|support|permitted|allowed|accepted)"
    r"|extra|forbidden|additional propert|no such|cannot be (?:set|used)|only allowed",
    re.IGNORECASE,
)
# A refused value is the client's mistake to read, though it names the parameter as well.
_VALUE = re.compile(r"(?:unsupported|invalid)[ _]value", re.IGNORECASE)


class Adaptation:
    """What the models of one upstream would not take, learned from their refusals.

    `optional` maps each parameter that may be left out to a pattern by which refusals name it. Only parameters that
    change nothing a client can rely on belong there; any other refusal is the client's to read.
    """

    def __init__(self, optional: Mapping[str, str]) -> None:
        self._optional = optional
        self._refused: dict[str, frozenset[str]] = {}

    async def send(self, model: str, attempt: Callable[[frozenset[str]], tuple[frozenset[str], Awaitable[T]]]) -> T:
        """The result of `attempt(refused)`, tried again without what the upstream refuses.

        `attempt` returns the optional parameters that it sends, and the sending. Raises `Refused`, among others.
        """
        for _ in range(len(self._optional)):
            refused = self._refused.get(model, frozenset())
            sent, sending = attempt(refused)
            try:
                return await sending
            except Refused as exc:
                named = named_in(exc, {name: self._optional[name] for name in sent})
                if named is None:
                    raise
                if len(self._refused) >= MOST_MODELS:
                    self._refused.clear()
                self._refused[model] = refused | {named}
        return await attempt(self._refused.get(model, frozenset()))[1]


def named_in(refusal: Refused, optional: Mapping[str, str]) -> str | None:
    """The parameter of `optional` that the upstream refused to know, if that is what it said."""
    said = refusal.said
    if _VALUE.search(said) or not (_REJECTION.search(said) or "stream_options" in said):
        return None
    if refusal.param is not None and refusal.param in optional:
        return refusal.param
    places = [(match.start(), name) for name, how in optional.items() if (match := re.search(how, said))]
    return min(places)[1] if places else None
