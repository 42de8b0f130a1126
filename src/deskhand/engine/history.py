"""From stored items to a prompt: what the model reads of the past. Pure."""

from collections.abc import Sequence

import msgspec

from ..core.turn import unanswered
from ..ports.model import PromptCall, PromptEntry, PromptMessage, PromptOpaque, PromptOutput, PromptReasoning
from ..tools import mcp
from ..tools.registry import OUTCOMES, PROMPTS
from ..wire.items import (
    Compaction,
    Item,
    ItemReference,
    McpApprovalRequest,
    McpApprovalResponse,
    McpListTools,
    Message,
    OpaqueItem,
    Reasoning,
    ToolSearchCall,
    ToolSearchOutput,
)
from ..wire.parts import InputText, text_of
from .sealed import unseal

NOT_APPROVED = "The user has not approved this call, so it was not made."
UNDECIDED = "This call waits for the user's approval, and was not made."

INTERRUPTED = "(interrupted: this call did not finish, and its effects are unknown)"


def prompt(items: Sequence[Item]) -> list[PromptEntry]:
    """The prompt entries of `items`, oldest first.

    Half-written assistant messages and calls are left out, and every other call that nothing answers gets an answer
    that says so: upstreams refuse a prompt with a dangling call.
    """
    items = _numbered(items)
    dangling = {id(item) for item in unanswered(items)}
    entries: list[PromptEntry] = []
    for item in items:
        match item:
            case Message():
                if item.role == "assistant" and item.status != "completed":
                    continue
                entries.append(_message(item))
            case Reasoning():
                entries.append(_reasoning(item))
            case (
                Compaction()
                | OpaqueItem(type="compaction_trigger" | "additional_tools")
                | McpListTools()
                | McpApprovalResponse()
            ):
                # What stands for something has been opened, tools are offered with those of the request, and what was
                # approved is a call of its own.
                continue
            case McpApprovalRequest():
                entries += _unmade(item, items)
            case OpaqueItem():
                entries.append(_opaque(item))
            case ItemReference():
                raise AssertionError("item references are resolved before a prompt is made")
            case _ if id(item) in dangling and getattr(item, "status", None) == "incomplete":
                # Its arguments were never whole, so nobody ran it.
                continue
            case _:
                entries.append(entry := PROMPTS[type(item)](item))
                if id(item) in dangling:
                    free_text = getattr(entry, "free_text", False)
                    entries.append(PromptOutput(entry.call_id, INTERRUPTED, free_text=free_text))
                if type(item) in OUTCOMES:
                    entries.append(OUTCOMES[type(item)](item))
    return entries


def _opaque(item: OpaqueItem) -> PromptMessage | PromptOpaque:
    """What one agent of a client tells another is said as the user: Codex gives tasks so, and hands back results.

    OpenAI seals some of it while it is an argument of a call. Here nobody has, and it is the text itself.
    """
    content = item.fields.get("content") if item.type == "agent_message" else None
    said = []
    for part in content if isinstance(content, list) else ():
        match part:
            case {"text": str(text)} | {"encrypted_content": str(text)}:
                said.append(text)
            case _:
                pass
    text = "".join(said)
    return PromptMessage("user", (InputText(text=text),), native=item) if text else PromptOpaque(item)


def _unmade(request: McpApprovalRequest, items: Sequence[Item]) -> Sequence[PromptEntry]:
    """A call that its user has not approved, with the reason; nothing for one that is approved."""
    answers = [i for i in items if isinstance(i, McpApprovalResponse) and i.approval_request_id == request.id]
    if not answers:
        return mcp.prompt_request(request, UNDECIDED)
    if answers[-1].approve:
        return []
    reason = answers[-1].reason
    return mcp.prompt_request(request, f"{NOT_APPROVED} {reason}" if isinstance(reason, str) else NOT_APPROVED)


def _numbered(items: Sequence[Item]) -> list[Item]:
    """`items` with the id of its call on every tool search that this server made: on the wire they have none."""
    numbered: list[Item] = []
    last = ""
    for item in items:
        match item:
            case ToolSearchCall(call_id=None):
                last = item.id
                numbered.append(msgspec.structs.replace(item, call_id=last))
            case ToolSearchOutput(call_id=None):
                numbered.append(msgspec.structs.replace(item, call_id=last or item.id))
            case _:
                numbered.append(item)
    return numbered


def without_oldest(entries: Sequence[PromptEntry]) -> list[PromptEntry] | None:
    """The prompt without its oldest part, for `truncation: auto`; None if nothing can be left out.

    Whole turns go first, a turn being a user's message and all that follows it; of the last turn, its oldest calls
    with their answers. Instructions of the system, the developer and this server stay.
    """
    told = [entry for entry in entries if _is_instruction(entry)]
    rest = [entry for entry in entries if not _is_instruction(entry)]
    starts = [i for i, entry in enumerate(rest) if isinstance(entry, PromptMessage) and entry.role == "user"]
    if later := [start for start in starts if start > 0]:
        return [*told, *rest[later[0] :]]
    call = next((i for i, entry in enumerate(rest) if isinstance(entry, PromptCall)), None)
    if call is None:
        return None
    dropped = rest[call]
    assert isinstance(dropped, PromptCall)
    kept = [
        entry
        for i, entry in enumerate(rest)
        if i != call and not (isinstance(entry, PromptOutput) and entry.call_id == dropped.call_id)
    ]
    return [*told, *kept]


def _is_instruction(entry: PromptEntry) -> bool:
    return isinstance(entry, PromptMessage) and (entry.standing or entry.role in {"system", "developer"})


def _message(item: Message) -> PromptMessage:
    phase = item.phase if isinstance(item.phase, str) else None
    match item.role:
        case "system" | "developer" | "assistant" as role:
            return PromptMessage(role, item.content, phase)
        case _:
            return PromptMessage("user", item.content, phase)


def _reasoning(item: Reasoning) -> PromptReasoning:
    content = item.content if isinstance(item.content, tuple) else ()
    blob = item.encrypted_content if isinstance(item.encrypted_content, str) else None
    unsealed = unseal(blob) if blob else None
    # What a chat server thought is its summary as well, if one was asked for.
    text = text_of(content) or unsealed or ("" if blob else text_of(item.summary))
    return PromptReasoning(item.id, text, [part.text for part in item.summary], None if unsealed is not None else blob)
