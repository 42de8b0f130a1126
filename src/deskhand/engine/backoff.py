"""When a webhook is tried again: pauses that triple, spread at random, up to three days in all. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_PAUSE_S: Final = 5
GROWTH: Final = 3
LONGEST_PAUSE_S: Final = 6 * 3600
SPREAD: Final = 0.2
"""A pause is up to this part shorter or longer, so that those who failed together do not come back together."""
LONGEST_RETRY_AFTER_S: Final = 24 * 3600
GIVEN_UP_AFTER_S: Final = 72 * 3600
"""From the event (API reference, "Webhooks"); the last attempt is at its end."""

_LARGEST_EXPONENT: Final = 16


def pause(attempts: int, random: float) -> float:
    """Seconds to wait after so many failed attempts (from 1); `random` is from 0 to 1."""
    growth: int = GROWTH ** min(attempts - 1, _LARGEST_EXPONENT)
    return min(FIRST_PAUSE_S * growth, LONGEST_PAUSE_S) * (1 + SPREAD * (2 * random - 1))


def next_attempt(created_at: int, attempts: int, now: int, random: float, retry_after: int = 0) -> int | None:
    """When (unix seconds) to try again what has failed so often; None if it is given up.

    `retry_after` is what the receiver asked for, in seconds; 0 for nothing.
    """
    end = created_at + GIVEN_UP_AFTER_S
    if now >= end:
        return None
    wait = max(pause(attempts, random), min(retry_after, LONGEST_RETRY_AFTER_S))
    return min(now + max(1, round(wait)), end)


def retry_after_seconds(header: str, now: int) -> int:
    """What a Retry-After header asks for (RFC 9110, 10.2.3): seconds or a date; 0 for what cannot be read."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, min(int(moment.timestamp()) - now, LONGEST_RETRY_AFTER_S))
