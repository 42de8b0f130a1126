"""What stays of a conversation when it is compacted, and how that is read back. Pure.

A compaction stands for everything before it: items that are kept as they were, or shortened, in their order, and the
summary of the rest, which the model reads after them as words of the user.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import msgspec

from ..core.turn import unanswered
from ..wire.codec import encode
from ..wire.items import (
    Call,
    CallOutput,
    Compaction,
    Item,
    McpApprovalRequest,
    McpApprovalResponse,
    McpListTools,
    Message,
    OpaqueItem,
    WholeCall,
    answers,
)
from ..wire.parts import InputAudio, InputFile, InputImage, InputText, OutputText, Part
from .placement import last_used, ran_in
from .shortening import LEFT_OUT, shortened
from .tools_in import ADDED

TRIGGER: Final = "compaction_trigger"
"""The input item that asks for a compaction now."""

MOST_COVERED: Final = 10_000
"""Messages of which a compaction knows that it stands for them."""

MOST_FILES: Final = 50
"""Cited files that are remembered."""

MOST_HEAVY_BYTES: Final = 8 << 20
"""Bytes of images and files that stay in messages."""

MOST_STANDING_BYTES: Final = 512 << 10
"""Bytes of what is kept whatever the room: instructions that came first, and items that bring tools."""

MOST_TOKENS: Final = 4_000_000
"""The largest window that a context is made for, whatever threshold a request names: what is kept must be opened."""

_CHARACTERS_PER_TOKEN: Final = 4
_PREFIX: Final = "cmp_"
_STANDING: Final = frozenset({ADDED, "mcp_list_tools"})

Size = Callable[[Item], int]
"""The tokens of an item."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a compaction stands for: what is kept, the `summary` of the rest (None: there is no rest; "": nothing is
    known of it), and facts that no summary may lose: the `files` that were cited, and digests of the messages that are
    `covered`.
    """

    items: Sequence[Item]
    summary: str | None = None
    files: Sequence[str] = ()
    covered: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens for what is kept: messages of the user; and, for each of them, instructions, the last answer, calls."""

    users: int
    others: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a compaction keeps, in order, and what it leaves out or shortens."""

    kept: Sequence[Item]
    left_out: Sequence[Item]


def room_in(tokens: int) -> Room:
    """The room that a window of so many tokens has: five eighths of it at most."""
    tokens = min(tokens, MOST_TOKENS)
    return Room(tokens // 4, tokens // 8)


def latest(items: Sequence[Item]) -> int | None:
    """Where the newest compaction stands."""
    found = (i for i in reversed(range(len(items))) if isinstance(item := items[i], Compaction) and _is_whole(item))
    return next(found, None)


def is_summary(item: Item) -> bool:
    """Whether a message is the summary of an earlier compaction."""
    return isinstance(item, Message) and item.id.startswith(_PREFIX)


def is_trigger(item: Item) -> bool:
    """Whether an item asks for a compaction."""
    return isinstance(item, OpaqueItem) and item.type == TRIGGER


def opened(compaction: Compaction, window: Window) -> list[Item]:
    """The items that a compaction stands for."""
    if window.summary is None:
        return list(window.items)
    text = InputText(text=_handover(window))
    return [*window.items, Message(id=_PREFIX + compaction.id, role="user", content=(text,))]


def read_back(before: Sequence[Item], compaction: Compaction, window: Window) -> list[Item]:
    """The items that a compaction stands for, with what a client has put before it since, or has changed there: its
    messages first, its tools last, as the later of two tools with one name counts.
    """
    messages, added = uncovered(before, window), _added(before)
    new: list[Item] = [*messages, *added.values()]
    renewed = {(item.type, item.id) for item in new}
    kept = [
        item
        for item in opened(compaction, window)
        if (item.type, item.id) not in renewed and not (isinstance(item, OpaqueItem) and _nameless(item) in added)
    ]
    return [*messages, *kept, *added.values()]


def uncovered(before: Sequence[Item], window: Window) -> list[Message]:
    """Messages before a compaction that it does not stand for."""
    covered = set(window.covered)
    return [item for item in _told(before) if digest(item) not in covered]


def plan(items: Sequence[Item], room: Room, size: Size) -> Plan:
    """What to keep of `items`: instructions from before the model said anything; other instructions and messages of the
    user, the newest that fit, and the newest message of the user in any case; the last answer; calls that wait for the
    client; the newest calls with their answers, and the last one that ran in a container in any case; items that bring
    tools.
    """
    return _planned(items, _chosen(items, room, size))


def newest(items: Sequence[Item], room: Room, size: Size) -> Plan:
    """What to keep if nothing can be summarised: what `plan` keeps, and the newest of the rest that fits."""
    chosen = _chosen(items, room, size)
    left = room.users
    for unit in reversed(_units(items)):
        rest = {i: shortened(items[i], room.users * _CHARACTERS_PER_TOKEN) for i in unit if i not in chosen}
        left -= sum(size(item) for item in rest.values())
        if left < 0:
            break
        chosen |= rest
    return _planned(items, chosen)


def window(items: Sequence[Item], kept: Sequence[Item], summary: str | None, earlier: Window | None) -> Window:
    """The window of a compaction of `items`, of which `kept` stay; `earlier` is the one that it stands for as well."""
    before = earlier or Window(())
    covered = dict.fromkeys([*before.covered, *(digest(message) for message in _told(items))])
    files = dict.fromkeys([*before.files, *_cited(items)])
    return Window(_lightened(kept, MOST_HEAVY_BYTES), summary, list(files)[-MOST_FILES:], list(covered)[-MOST_COVERED:])


def digest(message: Message) -> str:
    """What a message is known by: clients send it again with another id, or none."""
    return hashlib.blake2b(encode([message.role, message.content]), digest_size=8).hexdigest()


def _is_whole(compaction: Compaction) -> bool:
    return compaction.encrypted_content != ""


def _handover(window: Window) -> str:
    if window.summary:
        said = ["[All up to here was compacted to this summary. The rest of it cannot be seen any more.]"]
        said.append(window.summary)
    else:
        said = ["[The conversation up to here was compacted: what is not above was left out, without a summary.]"]
    if (container_id := last_used(window.items)) is not None:
        said.append(f"[Your computer is still the same, with its files: container {container_id}.]")
    if window.files:
        said.append("[Files cited so far: " + "; ".join(window.files) + "]")
    said.append("[Go on from here.]")
    return "\n".join(said)


def _added(items: Iterable[Item]) -> dict[bytes, OpaqueItem]:
    """Items with tools, by what is in them: each once, where it was last."""
    found: dict[bytes, OpaqueItem] = {}
    for item in items:
        if isinstance(item, OpaqueItem) and item.type == ADDED:
            found.pop(_nameless(item), None)
            found[_nameless(item)] = item
    return found


def _nameless(item: OpaqueItem) -> bytes:
    return encode({name: value for name, value in item.fields.items() if name != "id"})


def _told(items: Iterable[Item]) -> list[Message]:
    """What others than the model have said."""
    return [item for item in items if _is_told(item)]


def _is_told(item: Item) -> TypeGuard[Message]:
    return isinstance(item, Message) and item.role != "assistant" and not is_summary(item)


def _instructs(item: Item) -> bool:
    return isinstance(item, Message) and item.role in {"system", "developer"}


def _brings_tools(item: Item) -> bool:
    return isinstance(item, OpaqueItem | McpListTools) and item.type in _STANDING


def _chosen(items: Sequence[Item], room: Room, size: Size) -> dict[int, Item]:
    kept = _instructions(items, room, size) | _users(items, room, size) | _last_answer(items, room, size)
    return kept | _pending(items) | _work(items, room, size) | _standing(items)


def _instructions(items: Sequence[Item], room: Room, size: Size) -> dict[int, Item]:
    return _fitting(items, [i for i, item in enumerate(items) if _instructs(item)], room.others, size)


def _users(items: Sequence[Item], room: Room, size: Size) -> dict[int, Item]:
    others = {"system", "developer", "assistant"}
    found = [
        i
        for i, item in enumerate(items)
        if isinstance(item, Message) and item.role not in others and not is_summary(item)
    ]
    if not found:
        return {}
    last = items[found[-1]]
    if size(last) > room.users:  # half of the room is for what was said before
        last = shortened(last, room.users * _CHARACTERS_PER_TOKEN // 2)
    return {**_fitting(items, found[:-1], room.users - size(last), size), found[-1]: last}


def _last_answer(items: Sequence[Item], room: Room, size: Size) -> dict[int, Item]:
    found = [
        i
        for i, item in enumerate(items)
        if isinstance(item, Message) and item.role == "assistant" and item.status == "completed"
    ][-1:]
    kept = _fitting(items, found, room.others, size)
    return kept or {i: shortened(items[i], room.others * _CHARACTERS_PER_TOKEN) for i in found}


def _fitting(items: Sequence[Item], indexes: Sequence[int], room: int, size: Size) -> dict[int, Item]:
    """Those of `indexes` that fit, tried from the newest."""
    kept: dict[int, Item] = {}
    for i in reversed(indexes):
        if (tokens := size(items[i])) <= room:
            kept[i] = items[i]
            room -= tokens
    return kept


def _pending(items: Sequence[Item]) -> dict[int, Item]:
    """Calls that the client may still answer."""
    waiting = {id(call) for call in unanswered(items) if call.status == "completed" and ran_in(call) is None}
    decided = {item.approval_request_id for item in items if isinstance(item, McpApprovalResponse)}
    waiting |= {id(item) for item in items if isinstance(item, McpApprovalRequest) and item.id not in decided}
    return {i: item for i, item in enumerate(items) if id(item) in waiting}


def _work(items: Sequence[Item], room: Room, size: Size) -> dict[int, Item]:
    units = [unit for unit in _units(items) if isinstance(items[unit[0]], Call | WholeCall)]
    anchor = next((unit for unit in reversed(units) if ran_in(items[unit[0]]) is not None), None)
    kept: dict[int, Item] = {}
    left = room.others
    for unit in reversed(units):
        if isinstance(items[unit[0]], Call) and len(unit) == 1 and unit is not anchor:
            continue
        short = {i: shortened(items[i], room.others * _CHARACTERS_PER_TOKEN // 4) for i in unit}
        tokens = sum(size(item) for item in short.values())
        if unit is anchor or tokens <= left:
            kept |= short
            left -= tokens
    return kept


def _standing(items: Sequence[Item]) -> dict[int, Item]:
    # What clients such as Codex say first is to them what `instructions` is to others, and no less long.
    first = next((i for i, item in enumerate(items) if not (_is_told(item) or _brings_tools(item))), len(items))
    found = [i for i, item in enumerate(items) if _brings_tools(item) or (i < first and _instructs(item))]
    return _fitting(items, found, MOST_STANDING_BYTES, lambda item: len(encode(item)))


def _units(items: Sequence[Item]) -> list[tuple[int, ...]]:
    """The indexes of what must stay together: a call with its answers; anything else by itself. In order."""
    calls: dict[str, int] = {}
    units: dict[int, list[int]] = {}
    for i, item in enumerate(items):
        if isinstance(item, CallOutput) and answers(item) in calls:
            units[calls[answers(item)]].append(i)
            continue
        units[i] = [i]
        if isinstance(item, Call):
            calls[item.call_id or ""] = i
    return [tuple(unit) for unit in units.values() if not isinstance(items[unit[0]], CallOutput)]


def _planned(items: Sequence[Item], kept: Mapping[int, Item]) -> Plan:
    left_out = [item for i, item in enumerate(items) if kept.get(i) != item]
    return Plan([kept[i] for i in sorted(kept)], left_out)


def _cited(items: Sequence[Item]) -> list[str]:
    """The files that the model has cited, as a line each."""
    found = []
    for item in items:
        for part in item.content if isinstance(item, Message) else ():
            for annotation in part.annotations if isinstance(part, OutputText) else ():
                if annotation.get("file_id"):
                    found.append(_line(annotation))
    return found


def _line(annotation: Mapping[str, Any]) -> str:
    where = f" in {annotation['container_id']}" if annotation.get("container_id") else ""
    return f"{annotation.get('filename') or 'a file'} ({annotation['file_id']}{where})"[:300]


def _lightened(items: Sequence[Item], most_bytes: int) -> list[Item]:
    """Items whose images and files, the newest that fit, have at most so many bytes; notes stand for the others."""
    light: list[Item] = []
    for item in reversed(items):
        if not isinstance(item, Message):
            light.append(item)
            continue
        parts: list[Part] = []
        for part in item.content:
            heavy = len(encode(part)) if isinstance(part, InputImage | InputFile | InputAudio) else 0
            fits = heavy <= most_bytes
            parts.append(part if fits else LEFT_OUT)
            most_bytes -= heavy if fits else 0
        light.append(item if parts == list(item.content) else msgspec.structs.replace(item, content=tuple(parts)))
    return light[::-1]
