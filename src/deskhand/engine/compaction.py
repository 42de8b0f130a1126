"""Compaction: a long context becomes a short one, inside a run or by itself.

The item that stands for the rest is sealed: a client keeps it, cannot read or change it, and no other project or
installation can open it.
"""

import asyncio
import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ..core.drafts import Closed, Opened, Progress
from ..core.errors import ApiError
from ..core.turn import Turn
from ..egress.sealing import Sealer, Unsealable
from ..ports.model import ModelRequest
from ..ports.runs import ModelCall
from ..ports.tool import NewId
from ..wire.codec import decode, decode_item, encode
from ..wire.items import Compaction, Item, OpaqueItem
from ..wire.request import CreateResponse
from ..wire.response import Usage
from .history import prompt
from .recorder import Recorder
from .summary import summarise
from .tokens import Meter
from .tools_in import storable
from .window import Size, Window, is_summary, is_trigger, latest, newest, opened, plan, read_back, room_in, window

MOST_OPENED: Final = 64 << 20
"""Bytes of what is in a compaction item."""

DEFAULT_TOKENS: Final = 80_000
"""The window that a context is made for if its request names no threshold."""

LEAST_TOKENS: Final = 8_000
"""What is smaller is kept as it is where it can be, if a request wants it compacted nevertheless."""

_COMPACTING: Final = "response.compaction.compacting"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Context:
    """What a request is about: the items before its own and its own, without what a compaction stands for.

    `window` is what the newest compaction stands for; with `forced`, the request asks for another one.
    """

    earlier: Sequence[Item]
    given: Sequence[Item]
    window: Window | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Compactions:
    """Makes and opens compaction items."""

    sealer: Sealer

    def sealed(self, owner: str, item_id: str, window: Window) -> Compaction:
        """The item that stands for `window`."""
        fields = {
            "format": _FORMAT,
            "items": [storable(item) for item in window.items],
            "summary": window.summary,
            "files": window.files,
            "covered": window.covered,
        }
        sealed = self.sealer.seal(zlib.compress(encode(fields)), _bound(owner))
        return Compaction(id=item_id, encrypted_content=base64.urlsafe_b64encode(sealed).decode())

    def open(self, owner: str, item: Compaction, where: str) -> Window:
        """What an item stands for. Raises `ApiError` that says `where` it came from."""
        packed = self._verified(owner, item, where)
        try:
            return _window(packed)
        except (ValueError, zlib.error, msgspec.DecodeError, msgspec.ValidationError):
            raise _unverified(where) from None

    def read(
        self, owner: str, earlier: Sequence[Item], given: Sequence[Item], source: str = "previous_response_id"
    ) -> Context:
        """The context of a request: what stands before the newest compaction is read as that compaction has it.

        `source` is the parameter that names the `earlier` items.

        Raises `ApiError` if any compaction of the request itself cannot be opened, or if a trigger is not its last
        item.
        """
        everything, own = [*earlier, *given], len(earlier)
        at = latest(everything)
        last = -1 if at is None else at - own
        for i, item in enumerate(given[: max(last, 0)]):
            # Not opened: many that are small as they came may be large together.
            if isinstance(item, Compaction) and item.encrypted_content:
                self._verified(owner, item, _place(i))
        _check_triggers(given, last)
        forced = bool(given) and is_trigger(given[-1])
        after = [item for item in given[max(last + 1, 0) :] if not is_trigger(item)]
        if at is None:
            return Context(earlier, after, None, forced)
        item = _compaction(everything, at)
        found = self.open(owner, item, source if last < 0 else _place(last))
        before = read_back(everything[:at], item, found)
        return Context([*before, *everything[at + 1 : own]], after, found, forced)

    def _verified(self, owner: str, item: Compaction, where: str) -> bytes:
        """What is sealed in an item, still compressed. Raises `ApiError` that says `where` it came from."""
        try:
            return self.sealer.open(_decoded(item.encrypted_content), _bound(owner))
        except (Unsealable, ValueError):
            raise _unverified(where) from None


@dataclass(slots=True)
class Compactor:
    """Compacts the context of one run: when it has `threshold` tokens, when it is too long, or because it was asked.

    `read` are the run's items, by id, as they came and as the model reads them: what is sealed is the former. `window`
    is what the newest compaction stands for.
    """

    compactions: Compactions
    owner: str
    meter: Meter
    new_id: NewId
    threshold: int | None
    forced: bool
    window: Window | None = None
    read: Mapping[str, tuple[Item, Item]] = field(default_factory=dict)
    _newest: str = field(default="", init=False)
    _kept: Sequence[Item] = field(default=(), init=False)

    def context(self, history: Sequence[Item], produced: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """What of a run's history, and then of its output, the model reads."""
        if (at := latest(produced)) is None:
            return history, produced
        item = _compaction(produced, at)
        if item.id != self._newest:  # asked at every turn
            self.window = self.compactions.open(self.owner, item, "output")
            self._newest, self._kept = item.id, [self._as_read(kept) for kept in opened(item, self.window)]
        return self._kept, produced[at + 1 :]

    async def due(self, request: ModelRequest, items: Sequence[Item]) -> bool:
        """Whether a prompt, which is made from `items`, is to be compacted first, and becomes shorter by that."""
        if self.threshold is None or self.meter.estimate(request) < self.threshold:
            return False
        return await asyncio.to_thread(self._freed, request, items, self.threshold) >= self.threshold // 8

    async def helps(self, request: ModelRequest, items: Sequence[Item]) -> bool:
        """Whether a prompt that is too long becomes shorter by compaction."""
        return await asyncio.to_thread(self._freed, request, items, self.tight_room(request)) > 0

    async def compact(self, request: ModelRequest, items: Sequence[Item], recorder: Recorder, tokens: int) -> Usage:
        """Compact `items` for a window of so many tokens, and record the item that stands for them.

        The model's summary is a call like its others. Raises `UpstreamError`.
        """
        item_id = self.new_id("cmp")
        await recorder.record([Opened(Compaction(id=item_id, encrypted_content="")), Progress(item_id, _COMPACTING)])
        unread = [self._as_given(item) for item in items]
        made, usage = await compacted(self.meter, request, unread, self.window, tokens)
        item = await asyncio.to_thread(self.compactions.sealed, self.owner, item_id, made)
        call = ModelCall(Turn(compacted=True), len(recorder.produced), usage)
        await recorder.record_turn([Closed(item)], call)
        return usage

    def room(self, request: ModelRequest) -> int:
        """The tokens of the window that a context is made for."""
        return self.threshold or default_room(self.meter.estimate(request))

    def tight_room(self, request: ModelRequest) -> int:
        """The tokens of the window that a context is made for which the upstream has found too long."""
        return min(self.threshold or DEFAULT_TOKENS, self.meter.estimate(request) // 2)

    def _freed(self, request: ModelRequest, items: Sequence[Item], tokens: int) -> int:
        """The tokens of what would be left out now for the first time."""
        size = _size(self.meter, request)
        gone = plan(items, room_in(tokens), size).left_out
        return sum(size(item) for item in gone if not is_summary(item))

    def _as_given(self, item: Item) -> Item:
        original, read = self.read.get(item.id, (item, item))
        return original if item == read else item

    def _as_read(self, item: Item) -> Item:
        original, read = self.read.get(item.id, (item, item))
        return read if item == original else item


def default_room(tokens: int) -> int:
    """The tokens of the window that a context of so many tokens is made for if nobody names a threshold."""
    return min(DEFAULT_TOKENS, max(LEAST_TOKENS, tokens))


def check_settled(items: Sequence[Item]) -> None:
    """Raise `ApiError` if settings change within a context, which cannot be compacted (API reference, "Compaction")."""
    if any(isinstance(item, OpaqueItem) and item.type == "configuration_update" for item in items):
        raise ApiError("A context with 'configuration_update' items cannot be compacted.", param="input")


def read_threshold(request: CreateResponse) -> int | None:
    """The tokens from which a request wants its context compacted; None if it names no number."""
    return next((entry.compact_threshold for entry in request.context_management or ()), None)


async def compacted(
    meter: Meter, request: ModelRequest, items: Sequence[Item], earlier: Window | None, tokens: int
) -> tuple[Window, Usage]:
    """What a context becomes in a window of so many tokens, and what the model used to summarise the rest of it.

    Raises `UpstreamError`.
    """
    # Tens of milliseconds for 10,000 items: in a thread, like every measuring of so many.
    planned = await asyncio.to_thread(plan, items, room_in(tokens), _size(meter, request))
    if not planned.left_out:
        return window(items, planned.kept, None, earlier), Usage()
    summary, usage = await summarise(meter, request, prompt(items))
    if not summary:
        planned = await asyncio.to_thread(newest, items, room_in(tokens), _size(meter, request))
    return window(items, planned.kept, summary, earlier), usage


def _size(meter: Meter, request: ModelRequest) -> Size:
    return lambda item: meter.tokens(request.model, prompt([item]))


def _check_triggers(given: Sequence[Item], last: int) -> None:
    for i, item in enumerate(given[:-1]):
        if is_trigger(item) and i > last:
            raise ApiError(
                "A 'compaction_trigger' must be the last item of the input.", code="invalid_value", param=f"input[{i}]"
            )


def _compaction(items: Sequence[Item], at: int) -> Compaction:
    item = items[at]
    assert isinstance(item, Compaction)
    return item


def _place(index: int) -> str:
    return f"input[{index}].encrypted_content"


def _unverified(where: str) -> ApiError:
    return ApiError(
        f"The encrypted content of '{where}' could not be verified. Compaction items must be sent back as they were "
        "received, to the server and the project that made them.",
        code="invalid_encrypted_content",
        param=where,
    )


def _bound(owner: str) -> tuple[str, str]:
    return ("compaction", owner)


def _decoded(text: str) -> bytes:
    """The bytes of base64 text. Raises `ValueError` for any spelling of them but the one."""
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from None
    if base64.urlsafe_b64encode(data).decode() != text:
        raise ValueError("not how this is spelled")
    return data


def _window(data: bytes) -> Window:
    unpacker = zlib.decompressobj()
    whole = unpacker.decompress(data, MOST_OPENED)
    if not unpacker.eof:
        raise ValueError("too large")
    fields: dict[str, Any] = decode(whole)
    if fields["format"] != _FORMAT:
        raise ValueError("of a later version")
    items = [decode_item(item) for item in fields["items"]]
    return Window(items, fields["summary"], fields["files"], fields["covered"])
