"""What stays of a conversation when it is compacted, for any conversation."""

import base64
from collections.abc import Sequence
from itertools import takewhile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.errors import ApiError
from deskhand.core.turn import unanswered
from deskhand.egress.sealing import Sealer
from deskhand.engine.compaction import Compactions
from deskhand.engine.history import prompt
from deskhand.engine.placement import last_used
from deskhand.engine.shortening import clipped, shortened
from deskhand.engine.tokens import TokenScale, weigh_entries
from deskhand.engine.window import (
    MOST_TOKENS,
    Plan,
    Room,
    Window,
    is_summary,
    latest,
    newest,
    opened,
    plan,
    room_in,
    uncovered,
    window,
)
from deskhand.models.pairing import UNANSWERED, paired
from deskhand.ports.model import PromptOutput
from deskhand.wire.items import (
    Call,
    CallOutput,
    CodeInterpreterCall,
    Compaction,
    ContainerReference,
    ExitOutcome,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Logs,
    Message,
    OpaqueItem,
    Reasoning,
    ShellAction,
    ShellCall,
    ShellCallOutput,
    ShellOutput,
    answers,
)
from deskhand.wire.parts import InputImage, InputText, OutputText

SCALE = TokenScale()
KEY, OTHER = "k" * 32, "o" * 32


def size(item: Item) -> int:
    return SCALE.tokens("m", weigh_entries(prompt([item])))


def message(role: str, text: str, id_: str = "m") -> Message:
    part = OutputText(text=text) if role == "assistant" else InputText(text=text)
    return Message(id=id_, role=role, content=(part,))  # type: ignore[arg-type]


def shell(call_id: str, text: str, container_id: str = "cntr_1") -> list[Item]:
    where = ContainerReference(container_id=container_id)
    printed = ShellOutput(stdout=text, stderr="", outcome=ExitOutcome(exit_code=0))
    return [
        ShellCall(id=f"sh_{call_id}", call_id=call_id, action=ShellAction(commands=(text,)), environment=where),
        ShellCallOutput(id=f"sho_{call_id}", call_id=call_id, output=(printed,)),
    ]


def function(call_id: str, text: str) -> list[Item]:
    call = FunctionCall(id=f"fc_{call_id}", call_id=call_id, name="f", arguments=f'{{"x": "{text}"}}')
    return [call, FunctionCallOutput(id=f"fco_{call_id}", call_id=call_id, output=text)]


TEXTS = st.integers(0, 3000).map(lambda n: "word " * (n // 5))


@st.composite
def units(draw: st.DrawFn) -> list[Item]:
    """Something that a conversation may hold: a message, a call with its answer, or a call that waits."""
    text = draw(TEXTS)
    match draw(
        st.sampled_from(["user", "assistant", "developer", "shell", "function", "waiting", "python", "thought"])
    ):
        case "user" | "assistant" | "developer" as role:
            return [message(role, text)]
        case "shell":
            return shell("", text, draw(st.sampled_from(["cntr_1", "cntr_2"])))
        case "function":
            return function("", text)
        case "waiting":
            return function("", text)[:1]
        case "python":
            return [CodeInterpreterCall(id="ci", code=text, container_id="cntr_3", outputs=(Logs(logs=text),))]
        case _:
            return [Reasoning(id="rs")]


def numbered(found: Sequence[Sequence[Item]]) -> list[Item]:
    """Units as one conversation, with ids of their own."""
    items: list[Item] = []
    for n, unit in enumerate(found):
        for item in unit:
            fields = {"id": f"{item.id}_{n}"}
            if isinstance(item, Call | CallOutput):
                fields["call_id"] = f"call_{n}"
            items.append(msgspec.structs.replace(item, **fields))  # type: ignore[type-var]
    return items


CONVERSATIONS = st.lists(units(), max_size=25).map(numbered)
ROOMS = st.integers(1000, 20_000).map(room_in)


def check_kept(items: Sequence[Item], found: Plan) -> None:
    """What holds of everything that is kept, however it was chosen."""
    order = {item.id: i for i, item in enumerate(items)}
    kept = [order[item.id] for item in found.kept]
    assert kept == sorted(set(kept))
    # Nothing is answered that was not asked; nothing that was answered is asked without its answer.
    calls = {item.call_id for item in found.kept if isinstance(item, Call)}
    assert {answers(item) for item in found.kept if isinstance(item, CallOutput)} <= calls
    waiting = {call.call_id for call in unanswered(items)}
    assert {call.call_id for call in unanswered(found.kept)} <= waiting
    # Every item is either kept as it was or known to be missing.
    gone = {item.id for item in found.left_out}
    unchanged = {item.id for item in found.kept if item == items[order[item.id]]}
    assert gone | unchanged == set(order)
    assert not gone & unchanged
    assert last_used(found.kept) == last_used(items)


@given(items=CONVERSATIONS, room=ROOMS)
def test_what_is_kept_of_any_conversation(items: list[Item], room: Room) -> None:
    for found in (plan(items, room, size), newest(items, room, size)):
        check_kept(items, found)
        entries = prompt(found.kept)
        assert [e for e in paired(entries) if not _stands_in(e)] == [e for e in entries if not _stands_in(e)]
    found = plan(items, room, size)
    waiting = {call.call_id for call in unanswered(items) if isinstance(call, FunctionCall)}
    assert waiting <= {call.call_id for call in unanswered(found.kept)}
    asked = [item for item in items if isinstance(item, Message) and item.role == "user"]
    assert not asked or any(item.id == asked[-1].id for item in found.kept)


def _stands_in(entry: object) -> bool:
    return isinstance(entry, PromptOutput) and entry.output == UNANSWERED


@given(items=CONVERSATIONS, room=ROOMS)
def test_what_is_kept_fits(items: list[Item], room: Room) -> None:
    found = plan(items, room, size)
    waiting = {call.call_id for call in unanswered(found.kept)}
    # What waits for the client, the last call that ran in a container, and the first instructions, are kept at any
    # size; texts that are cut are cut by characters, and with words about them.
    last = last_used(items)
    first = takewhile(lambda item: isinstance(item, Message) and item.role != "assistant", items)
    instructions = {item.id for item in first if isinstance(item, Message) and item.role == "developer"}
    sizes = [
        size(item)
        for item in found.kept
        if item.id not in instructions
        and not (isinstance(item, Call) and item.call_id in waiting)
        and not (isinstance(item, CallOutput | Call | CodeInterpreterCall) and last)
    ]
    assert sum(sizes) <= room.users + 2 * room.others + 200


@given(items=CONVERSATIONS, room=ROOMS, again=CONVERSATIONS, earlier=CONVERSATIONS)
def test_a_compaction_reads_back_what_it_stands_for(
    items: list[Item], room: Room, again: list[Item], earlier: list[Item]
) -> None:
    compactions = Compactions(Sealer([KEY]))
    found = plan(items, room, size)
    made = window(items, found.kept, "the rest" if found.left_out else None, None)
    item = compactions.sealed("p", "cmp_1", made)
    context = compactions.read("p", [], [*items, item, *again])
    assert context.earlier == opened(item, made)
    assert context.given == again
    assert sum(map(is_summary, context.earlier)) == bool(found.left_out)
    # A client that dropped what came before, and one whose chain the server keeps, come to the same.
    assert compactions.read("p", [], [item, *again]).earlier == context.earlier
    chained = compactions.read("p", [*items, item], again)
    assert ([*chained.earlier], chained.given) == (context.earlier, again)
    # The second covers the first, and knows its messages.
    second = window(again, plan(again, room, size).kept, "all", made)
    sealed = compactions.sealed("p", "cmp_2", second)
    whole = compactions.read("p", [], [*items, item, *again, sealed])
    assert whole.earlier == opened(sealed, second)
    assert uncovered([*items, *again], second) == []
    new = [message("user", "never said before", f"new_{n}") for n, _ in enumerate(earlier)]
    assert uncovered([*items, *new], made) == new


def test_an_empty_compaction_was_cut_off_and_stands_for_nothing() -> None:
    items: list[Item] = [message("user", "x"), Compaction(id="cmp_1", encrypted_content="")]
    context = Compactions(Sealer([KEY])).read("p", [], items)
    assert (latest(items), context.window) == (None, None)
    assert len(prompt(context.given)) == 1


def test_only_its_owner_can_open_it_and_only_unchanged() -> None:
    compactions = Compactions(Sealer([KEY]))
    item = compactions.sealed("p", "cmp_1", Window([message("user", "hello")], "s", ["f"], ["d"]))
    assert compactions.open("p", item, "x") == Window([message("user", "hello")], "s", ["f"], ["d"])
    assert Compactions(Sealer([OTHER, KEY])).open("p", item, "x").summary == "s"
    with pytest.raises(ApiError):
        compactions.open("q", item, "x")
    with pytest.raises(ApiError):
        Compactions(Sealer([OTHER])).open("p", item, "x")
    text = item.encrypted_content
    for at in range(len(text)):
        for other in "Ab_=":
            if other != text[at]:
                changed = Compaction(id="cmp_1", encrypted_content=text[:at] + other + text[at + 1 :])
                with pytest.raises(ApiError) as caught:
                    compactions.open("p", changed, "input[0].encrypted_content")
                assert caught.value.param == "input[0].encrypted_content"


def test_of_many_compactions_the_newest_alone_is_opened() -> None:
    """A sealed text may be a thousand times as large as it came, so many of them must not be opened for one request."""
    sealer = Sealer([KEY])
    compactions = Compactions(sealer)
    unopened = base64.urlsafe_b64encode(sealer.seal(b"cannot be decompressed", ("compaction", "p"))).decode()
    older = Compaction(id="cmp_1", encrypted_content=unopened)
    newest = compactions.sealed("p", "cmp_2", Window([message("user", "hello")]))
    assert compactions.read("p", [], [older, newest]).earlier == [message("user", "hello")]
    with pytest.raises(ApiError):
        compactions.read("p", [], [newest, older])
    # Verified they are all the same.
    forged = Compaction(id="cmp_1", encrypted_content=compactions.sealed("q", "cmp_1", Window(())).encrypted_content)
    with pytest.raises(ApiError) as caught:
        compactions.read("p", [message("user", "x")], [forged, newest])
    assert caught.value.param == "input[0].encrypted_content"


def test_no_threshold_keeps_more_than_can_be_opened() -> None:
    text = "x" * (3 * 4 * MOST_TOKENS // 4)
    items = [message("user", text, f"m{n}") for n in range(8)]
    kept = plan(items, room_in(10**9), size).kept
    assert sum(map(size, kept)) < MOST_TOKENS
    made = window(items, kept, "the rest", None)
    compactions = Compactions(Sealer([KEY]))
    assert compactions.open("p", compactions.sealed("p", "cmp_1", made), "x") == made


def test_the_first_instructions_are_kept_whatever_their_length() -> None:
    rules = message("developer", "rule " * 9000, "rules")
    before = [message("user", "hello", "hello"), rules]
    later = [message("assistant", "yes", "yes"), message("developer", "later " * 9000, "later"), *function("c", "x")]
    kept = plan([*before, *later, message("user", "and?", "and")], room_in(2000), size).kept
    assert rules in kept
    assert "later" not in {item.id for item in kept}


def test_a_newest_message_that_is_too_long_leaves_room_for_those_before() -> None:
    room = room_in(2000)
    items = [message("user", "word " * 100, f"m{n}") for n in range(8)]
    kept = plan([*items, message("user", "word " * 9000, "last")], room, size).kept
    assert kept[-1].id == "last"
    assert len(kept) > 1
    assert sum(map(size, kept)) <= room.users + 50


def test_files_that_were_cited_and_the_container_are_told() -> None:
    cited = {"type": "container_file_citation", "file_id": "cfile_1", "container_id": "cntr_1", "filename": "a.csv"}
    answer = Message(id="m", role="assistant", content=(OutputText(text="x " * 4000, annotations=(cited,)),))
    items = [message("user", "u"), *shell("c", "ls"), answer]
    first = window(items, plan(items, room_in(1000), size).kept, "so far", None)
    second = window([message("user", "v")], [message("user", "v")], "later", first)
    for made in (first, second):
        summary = opened(Compaction(id="c", encrypted_content="x"), made)[-1]
        assert "a.csv (cfile_1 in cntr_1)" in str(summary)
    assert "container cntr_1" in str(opened(Compaction(id="c", encrypted_content="x"), first)[-1])


def test_tools_that_came_as_items_stay() -> None:
    tools = OpaqueItem({"type": "additional_tools", "id": "t", "tools": []})
    items: list[Item] = [tools, message("assistant", "x " * 9000), message("user", "u")]
    assert tools in plan(items, room_in(1000), size).kept


def test_images_that_are_too_much_are_replaced_by_a_note() -> None:
    image = InputImage(image_url="data:image/png;base64," + "A" * (5 << 20))
    items = [Message(id=f"m{n}", role="user", content=(image,)) for n in range(2)]
    made = window(items, items, None, None)
    assert [isinstance(item.content[0], InputImage) for item in made.items if isinstance(item, Message)] == [
        False,
        True,
    ]


@given(items=CONVERSATIONS, characters=st.integers(0, 500))
def test_what_is_cut_stays_what_it_was(items: list[Item], characters: int) -> None:
    for item in items:
        short = shortened(item, characters)
        assert (type(short), short.id) == (type(item), item.id)
        assert size(short) <= max(size(item), 4 * (characters + 500))


@given(text=st.text(), characters=st.integers(0, 400))
def test_a_clipped_text_keeps_both_ends(text: str, characters: int) -> None:
    short = clipped(text, characters)
    assert short == text or (len(short) < max(characters, 200) + 60 and text[:50] == short[:50])
