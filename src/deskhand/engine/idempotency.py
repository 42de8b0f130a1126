"""Requests that are done once: what was answered under an idempotency key is answered again for a day.

A claim is a lease that the process renews, so that a killed one locks a key for seconds. What is kept is sealed: it may
be what the installation keeps nowhere else in the clear, such as a new secret. A stored response is not kept a second
time: its id is, and its deletion is final. Streams, and answers of which nothing may stay on disk, are kept in memory
only; once they are lost there, the same request is refused rather than done again.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from ..core.errors import ApiError, StoreUnavailable, not_found
from ..core.fingerprint import Fingerprint
from ..egress.sealing import Sealer, Unsealable
from ..ports.idempotency import IdempotencyStore, KeyRecord
from ..ports.store import ResponseStore
from .background import beside, repeatedly

log = structlog.get_logger()

DAY_SECONDS: Final = 86_400
LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
"""A third of the lease: one renewal may fail."""
EXPIRY_SECONDS: Final = 60.0
EXPIRED_AT_ONCE: Final = 500
MOST_KEYS: Final = 10_000
"""Keys of one project; of more, the oldest are forgotten before their day is over."""
LARGEST_KEPT: Final = 256 << 10
"""Bytes of an answer that is kept on disk."""
LARGEST_REMEMBERED: Final = 8 << 20
"""Bytes of an answer that is kept in memory."""
MOST_REMEMBERED: Final = 64 << 20
"""Bytes of all answers in memory, and of those that are still being recorded."""
IN_PROGRESS_RETRY_SECONDS: Final = 2
_CUT_OFF: Final = frozenset({"queued", "in_progress", "cancelled"})


class Answer(msgspec.Struct, frozen=True):
    """What a client was told."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a client is told it again: a stored response, read with this query string."""

    response_id: str
    query: str


class _Kept(msgspec.Struct, frozen=True):
    """What is sealed of a request that has ended. `query` is None if its response cannot be read for an answer."""

    fingerprint: bytes
    answer: Answer | None = None
    query: str | None = None


@dataclass(slots=True, eq=False)
class KeyClaim:
    """A key that a request holds while it is done. `lasting` work goes on without its client."""

    owner: str
    key: str
    token: str
    fingerprint: Fingerprint
    response_id: str = ""
    query: str | None = None
    on_disk: bool = True
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """A key under which a request has ended."""

    record: KeyRecord
    kept: _Kept | None = field(repr=False)


class Idempotency:
    """The keys of every project. Use as `async with idempotency.serving()`."""

    def __init__(
        self,
        store: IdempotencyStore,
        responses: ResponseStore,
        sealer: Sealer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._responses = responses
        self._sealer = sealer
        self._now = now
        self._held: set[str] = set()
        self._recent = Recent()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Idempotency"]:
        """Renew the leases of requests under way, and forget old keys, until the block ends."""
        tidying = repeatedly("idempotency.expiry", self._expire, EXPIRY_SECONDS)
        async with beside(self._renew_forever()), beside(tidying):
            yield self

    def recording(self) -> "Recording":
        """Room for an answer that is being given."""
        return Recording(self._recent)

    async def claim(self, owner: str, key: str, fingerprint: Fingerprint) -> KeyClaim | Used:
        """Take the key, or find what was done under it. Raises `ApiError` (409) if that is still under way."""
        now, token = int(self._now()), secrets.token_hex(16)
        wanted = KeyRecord(owner, key, token, False, now + LEASE_SECONDS, now + DAY_SECONDS)
        # Before the row is there: a lease that ends while its write waits for the disk would be taken by a second one.
        self._held.add(token)
        found: KeyRecord | None = None
        try:
            found = await self._store.claim(wanted, now, MOST_KEYS)
        finally:
            if found is None or found.token != token:
                self._held.discard(token)
        if found.token == token:
            return KeyClaim(owner, key, token, fingerprint)
        if found.ended or found.lease_until <= now:
            return Used(found, self._open(found))
        raise ApiError(
            "A request with this Idempotency-Key is still being answered. Try again in a moment.",
            status=409,
            code="idempotency_in_progress",
            retry_after=IN_PROGRESS_RETRY_SECONDS,
        )

    async def name(self, claim: KeyClaim, response_id: str, query: str | None, *, lasting: bool) -> None:
        """Note the response that a request is about to store, so that a crash leads to it and not to a second one.

        `query` is how to read it for an answer, None if it cannot be.
        """
        claim.response_id, claim.query, claim.lasting = response_id, query, lasting
        kept = _Kept(claim.fingerprint.value(), query=query)
        await self._store.name(claim.token, response_id, self._seal(claim, kept))

    async def settle(self, claim: KeyClaim, answer: Answer | None) -> None:
        """Keep the answer of a request; None if it is too large. The client has not been told its end yet."""
        fingerprint = claim.fingerprint.value()
        kept = _Kept(fingerprint, query=claim.query)
        if claim.query is None and answer is not None:
            if claim.on_disk and not claim.response_id and len(answer.body) <= LARGEST_KEPT:
                kept = _Kept(fingerprint, answer)
            else:
                self._recent.put(claim.token, answer, self._now() + DAY_SECONDS)
        try:
            await self._store.settle(claim.token, self._seal(claim, kept))
        finally:
            self._held.discard(claim.token)

    async def release(self, claim: KeyClaim) -> None:
        """Give the key back: nothing was done, or it is to be done again."""
        self._held.discard(claim.token)
        with suppress(StoreUnavailable):  # then its lease ends
            await self._store.release(claim.token)

    async def left(self, claim: KeyClaim) -> None:
        """The client went away: the key is free again, unless its response had ended before."""
        with suppress(StoreUnavailable):  # then its lease ends, and leads to the response
            response = await self._responses.get(claim.owner, claim.response_id) if claim.response_id else None
            if response is not None and response.status not in _CUT_OFF:
                return await self.settle(claim, None)
        await self.release(claim)

    def abandon(self, claim: KeyClaim) -> None:
        """Leave a claim whose work may go on: who asks again finds its response, or has the key if there is none."""
        self._held.discard(claim.token)

    async def again(self, used: Used, fingerprint: bytes) -> Answer | Stored:
        """What to tell a client that sends the request again.

        Raises `ApiError`: 422 if it is another request, 409 if what was answered is not there any more, 404 if its
        response was deleted.
        """
        kept, record = used.kept, used.record
        if kept is not None and kept.fingerprint != fingerprint:
            raise ApiError(
                "This Idempotency-Key was used for another request. Use a new key for each request, and the same one "
                "only to send a request again.",
                status=422,
                code="idempotency_key_reused",
            )
        if kept is not None and kept.query is not None:
            return Stored(record.response_id, kept.query)
        if record.response_id and await self._responses.get(record.owner, record.response_id) is None:
            raise not_found("Response", record.response_id)
        answer = (kept and kept.answer) or self._recent.get(record.token)
        if answer is None:
            raise _lost(record.response_id)
        return answer

    def _seal(self, claim: KeyClaim, kept: _Kept) -> bytes:
        return self._sealer.seal(msgspec.msgpack.encode(kept), _context(claim.owner, claim.key))

    def _open(self, record: KeyRecord) -> _Kept | None:
        """What was kept; None if it cannot be read any more, as the installation's key was changed."""
        try:
            return msgspec.msgpack.decode(
                self._sealer.open(record.sealed, _context(record.owner, record.key)), type=_Kept
            )
        except (Unsealable, msgspec.DecodeError):
            return None

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._store.renew([*self._held], int(self._now()) + LEASE_SECONDS)
            except Exception:
                log.exception("idempotency.renewal_failed")

    async def _expire(self) -> None:
        self._recent.forget(self._now())
        while await self._store.forget_expired(int(self._now()), EXPIRED_AT_ONCE) == EXPIRED_AT_ONCE:
            pass


class Recent:
    """Answers in memory, bounded together; the oldest go first."""

    def __init__(self, most_bytes: int = MOST_REMEMBERED) -> None:
        self._most = most_bytes
        self._answers: OrderedDict[str, tuple[float, Answer]] = OrderedDict()
        self._bytes = 0
        self._taken = 0

    def put(self, token: str, answer: Answer, until: float) -> None:
        """Keep an answer until a time (unix seconds), or until there is no room."""
        self._answers[token] = (until, answer)
        self._bytes += len(answer.body)
        while self._bytes > self._most:
            self._drop_oldest()

    def get(self, token: str) -> Answer | None:
        """The answer, if it is still there."""
        _, answer = self._answers.get(token, (0.0, None))
        return answer

    def forget(self, now: float) -> None:
        """Forget the answers whose time is over."""
        while self._answers and next(iter(self._answers.values()))[0] <= now:
            self._drop_oldest()

    def take(self, size: int) -> bool:
        """Take room for an answer that is being given; False if there is none."""
        if self._taken + size > self._most:
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        """Give that room back."""
        self._taken -= size

    def _drop_oldest(self) -> None:
        _, (_, answer) = self._answers.popitem(last=False)
        self._bytes -= len(answer.body)


class Recording:
    """An answer as it is given. What is too large is given all the same, and not kept."""

    def __init__(self, recent: Recent) -> None:
        self._recent = recent
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = True

    def add(self, data: bytes) -> None:
        """Add the next bytes."""
        if not self._whole:
            return
        if self._size + len(data) > LARGEST_REMEMBERED or not self._recent.take(len(data)):
            self._whole = False
            self.close()
            return
        self._size += len(data)
        self._pieces.append(data)

    def body(self) -> bytes | None:
        """All of it; None if it was too large."""
        return b"".join(self._pieces) if self._whole else None

    def close(self) -> None:
        """Give the room back. Idempotent."""
        self._recent.give_back(self._size)
        self._size = 0
        self._pieces.clear()


def _context(owner: str, key: str) -> tuple[str, ...]:
    return ("idempotency", owner, key)


def _lost(response_id: str) -> ApiError:
    told = (
        f"it made the response '{response_id}', which GET /v1/responses/{response_id} tells"
        if response_id
        else "its answer was not kept on disk"
    )
    return ApiError(
        f"The request with this Idempotency-Key was answered before, and it is not done again: {told}. Use a new key "
        "to have it done again.",
        status=409,
        code="idempotency_answer_not_kept",
    )
