"""Forms that a request asks for, kept to by models that cannot be held to them: checked, asked for again once.

What must have a form is held back until it is whole: the final text under a `text.format`, the arguments of a strict
function, the text of a custom tool with a grammar. A client therefore never sees a wrong draft: it would parse it, or
run it. A second draft that is wrong as well ends the response with an error that says what was wrong.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from ..ports.grammars import Grammars
from ..ports.model import (
    CallDelta,
    CallEnd,
    Declaration,
    FreeTextDeclaration,
    FunctionDeclaration,
    Model,
    ModelChunk,
    ModelEnd,
    ModelRequest,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOutput,
    PromptReasoning,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from ..wire.parts import InputText, OutputText
from ..wire.response import Usage
from .text_format import arguments_complaint, is_form, text_complaint

_QUOTED = 300
CHUNKS_AT_ONCE = 100
ONGOING = "(This call is right and is being carried out; its output follows later. Do not make it again.)"


@dataclass(frozen=True, slots=True)
class Enforcing:
    """A `Model` that keeps to the forms which its requests ask for.

    The server of one that `keeps_schemas` sees to text formats and strict functions, so those are shown as they are
    said; grammars are checked there as well, as few of them know those.
    """

    model: Model
    grammars: Grammars
    keeps_schemas: bool

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """See `Model.stream`."""
        draft = _Draft(request, self.keeps_schemas)
        return self._enforced(request, draft) if draft.binds else self.model.stream(request)

    async def _enforced(self, request: ModelRequest, draft: "_Draft") -> AsyncGenerator[ModelChunk, None]:
        async with aclosing(self._told(request, draft)) as chunks:
            async for chunk in chunks:
                yield chunk
        mistakes = await self._mistakes(draft)
        async for chunk in _paced(draft.rest(mistakes)):
            yield chunk
        if not mistakes:
            yield draft.end
            return
        used = draft.end.usage or Usage()
        again = _again(request, draft, mistakes, used)
        if again is None:
            yield replace(draft.end, wrong=_told_in_vain(mistakes, asked=1))
            return
        second = _Draft(again, self.keeps_schemas, attempt=1)
        async with aclosing(self._told(again, second)) as chunks:
            async for chunk in chunks:
                yield chunk
        mistakes = await self._mistakes(second)
        async for chunk in _paced(second.rest(mistakes)):
            yield chunk
        wrong = _told_in_vain(mistakes, asked=2) if mistakes else ""
        yield replace(second.end, usage=used + (second.end.usage or Usage()), wrong=wrong)

    async def _told(self, request: ModelRequest, draft: "_Draft") -> AsyncGenerator[ModelChunk, None]:
        async with aclosing(self.model.stream(request)) as chunks:
            async for chunk in chunks:
                for shown in draft.take(chunk):
                    yield shown

    async def _mistakes(self, draft: "_Draft") -> Sequence["_Mistake"]:
        """What is wrong with a draft that the model has ended by itself."""
        if draft.end.reason != "stop":
            return []
        found = []
        for call in draft.held:
            if said := await self._call_complaint(call):
                found.append(_Mistake(said, call))
        if draft.text and not draft.calls and not draft.refused:
            if said := await asyncio.to_thread(text_complaint, draft.request.text_format, draft.text):
                found.append(_Mistake(said, None, draft.text))
        return found

    async def _call_complaint(self, call: "_Call") -> str:
        match call.tool:
            case FunctionDeclaration(parameters=parameters):
                if said := await asyncio.to_thread(arguments_complaint, parameters, call.arguments):
                    return f"The arguments of the model's call of '{call.name}': its JSON {said}."
            case FreeTextDeclaration(format=form):
                if said := await self.grammars.text_complaint(form or {}, call.arguments):
                    return f"The text of the model's call of '{call.name}' does not match the tool's grammar: {said}."
            case None:
                pass
        return ""


async def _paced(chunks: Iterator[ModelChunk]) -> AsyncGenerator[ModelChunk, None]:
    """What was held back is here all at once: others get their turn in between."""
    for n, chunk in enumerate(chunks, 1):
        yield chunk
        if n % CHUNKS_AT_ONCE == 0:
            await asyncio.sleep(0)


@dataclass(slots=True)
class _Call:
    """A call of a draft; `tool` is what it must keep to, if anything."""

    name: str
    call_id: str
    tool: Declaration | None
    chunks: list[ModelChunk] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(chunk.arguments for chunk in self.chunks if isinstance(chunk, CallDelta))


@dataclass(frozen=True, slots=True)
class _Mistake:
    """What is wrong with one call of a draft, or else with its `text`."""

    complaint: str
    call: _Call | None
    text: str = ""


class _Draft:
    """What a model says in one turn. Lets through what needs no check, holds back the rest."""

    def __init__(self, request: ModelRequest, keeps_schemas: bool, attempt: int = 0) -> None:
        self.request = request
        self.calls: dict[str, _Call] = {}
        self.refused = False
        self.end = ModelEnd("stop")
        self._attempt = attempt
        self._form = is_form(request.text_format) and not keeps_schemas
        self._bound = {tool.name: tool for tool in request.tools if _is_bound(tool, keeps_schemas)}
        self._text: list[TextDelta | TextAnnotation] = []
        self._thoughts: list[str] = []
        self._blob: str | None = None

    @property
    def binds(self) -> bool:
        """Whether anything must have a form."""
        return self._form or bool(self._bound)

    @property
    def held(self) -> list[_Call]:
        """The calls that wait to be checked."""
        return [call for call in self.calls.values() if call.tool is not None]

    @property
    def reasoning(self) -> list[PromptEntry]:
        """What the model thought, which some servers ask for again with its calls."""
        if not self._thoughts and self._blob is None:
            return []
        return [PromptReasoning("rs_draft", "".join(self._thoughts), encrypted_content=self._blob)]

    @property
    def text(self) -> str:
        """The text that waits to be checked."""
        return "".join(chunk.text for chunk in self._text if isinstance(chunk, TextDelta))

    def take(self, chunk: ModelChunk) -> Iterator[ModelChunk]:
        """What of `chunk` can be shown now."""
        match chunk:
            case TextDelta() | TextAnnotation() if self._form:
                self._text.append(chunk)
            case CallDelta():
                yield from self._remark()
                yield from self._piece(self._own(chunk))
            case CallEnd(key):
                yield from self._piece(CallEnd(self._key(key)))
            case ModelEnd():
                self.end = chunk
            case _:
                self._note(chunk)
                yield chunk

    def rest(self, mistakes: Sequence[_Mistake]) -> Iterator[ModelChunk]:
        """What was held back and is no mistake."""
        wrong = [mistake.call for mistake in mistakes]
        if self.calls:
            yield from self._remark()
        elif None not in wrong:
            yield from self._text
        for call in self.held:
            if not any(call is bad for bad in wrong):
                yield from call.chunks

    def _note(self, chunk: ModelChunk) -> None:
        match chunk:
            case RefusalDelta():
                self.refused = True
            case ReasoningDelta(text=text):
                self._thoughts.append(text)
            case ReasoningSealed(encrypted_content=blob):
                self._blob = blob
            case _:
                pass

    def _remark(self) -> Iterator[ModelChunk]:
        """What was said beside a call. It is no answer: without the form it would only be in the way of a parser."""
        said, self._text = self._text, []
        if said and not text_complaint(self.request.text_format, _joined(said)):
            yield from said

    def _piece(self, chunk: CallDelta | CallEnd) -> Iterator[ModelChunk]:
        call = self.calls.get(chunk.key)
        if call is None and isinstance(chunk, CallDelta):
            call = self.calls[chunk.key] = _Call(chunk.name, chunk.call_id, self._bound.get(chunk.name))
        if call is None or call.tool is None:
            yield chunk
        if call is not None:
            call.chunks.append(chunk)

    def _own(self, chunk: CallDelta) -> CallDelta:
        return replace(chunk, key=self._key(chunk.key))

    def _key(self, key: str) -> str:
        # A second draft's calls are others than the first's.
        return f"{self._attempt}/{key}" if self._attempt else key


def _is_bound(tool: Declaration, keeps_schemas: bool) -> bool:
    match tool:
        case FunctionDeclaration(checked=checked):
            return checked and not keeps_schemas
        case FreeTextDeclaration(format=form):
            return (form or {}).get("type") == "grammar"


def _joined(chunks: Sequence[ModelChunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def _again(request: ModelRequest, draft: _Draft, mistakes: Sequence[_Mistake], used: Usage) -> ModelRequest | None:
    """The request that has the mistakes corrected; None if no tokens are left for it."""
    left = request.max_output_tokens
    if left is not None:
        left -= used.output_tokens
        if left <= 0:
            return None
    return replace(request, prompt=[*request.prompt, *_corrections(draft, mistakes)], max_output_tokens=left)


def _corrections(draft: _Draft, mistakes: Sequence[_Mistake]) -> list[PromptEntry]:
    """What the model said, with what is wrong about it."""
    entries = draft.reasoning
    said = {id(mistake.call): mistake.complaint for mistake in mistakes if mistake.call is not None}
    answers: list[PromptEntry] = []
    for n, call in enumerate(draft.calls.values()):
        free_text = isinstance(call.tool, FreeTextDeclaration)
        call_id = call.call_id or f"call_{n}"
        answer = f"Not run: {said[id(call)]} Make the call again, corrected." if id(call) in said else ONGOING
        entries.append(PromptCall(call_id, call.name, call.arguments, free_text))
        answers.append(PromptOutput(call_id, answer, free_text))
    entries += answers
    for mistake in mistakes:
        if mistake.call is None:
            correction = f"{mistake.complaint} Give the whole answer again, corrected, and nothing else."
            entries.append(PromptMessage("assistant", [OutputText(text=mistake.text)]))
            entries.append(PromptMessage("user", [InputText(text=correction)], standing=True))
    return entries


def _told_in_vain(mistakes: Sequence[_Mistake], *, asked: int) -> str:
    """The error of a turn that cannot stand."""
    mistake = mistakes[0]
    said = mistake.text if mistake.call is None else mistake.call.arguments
    said = said if len(said) <= _QUOTED else said[:_QUOTED] + "…"
    times = "It was asked again once" if asked > 1 else "No output tokens were left to ask again"
    return f"{mistake.complaint} {times}. It said: {said}"
