"""From what a model says to drafts: the one assembler behind every dialect. Pure but for the ids it is given.

It tracks what is open, so that the end of a turn, or its failure, closes it.
"""

from collections.abc import Collection, Sequence
from typing import Any, assert_never

import msgspec

from ..core.citations import Citable, Source, cite
from ..core.drafts import Closed, Draft, Opened, Progress
from ..ports.model import (
    CallDelta,
    CallEnd,
    Foreign,
    MessagePhase,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from ..ports.tool import CallReader, NewId, TurnEnding
from ..tools.registry import Toolbox
from ..wire.items import Message, Reasoning
from ..wire.parts import OutputText, ReasoningText, Refusal, SummaryText
from .sealed import seal

MAX_CALL_ID = 64
"""Characters of a `call_id` (OpenAPI snapshot, FunctionCallItemParam)."""


class Assembler:
    """Reads one model turn. `feed` every chunk, then `end` once.

    `taken` are the call ids of the conversation: a call that repeats one, as some model servers do every turn, gets a
    new id. `tool_calls_left` bounds the hosted calls of this turn (None: no bound); calls beyond it are ignored, as
    the API does, and counted in `ignored`. `show_logprobs` keeps log probabilities on the text. `seal` adds the sealed
    form to reasoning that the upstream has not sealed. `files` are cited by the messages that name them.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        new_id: NewId,
        taken: Collection[str] = (),
        *,
        tool_calls_left: int | None = None,
        show_logprobs: bool = False,
        seal: bool = False,
        files: Sequence[Citable | Source] = (),
    ) -> None:
        self._toolbox = toolbox
        self._new_id = new_id
        self._taken = set(taken)
        self._left = tool_calls_left
        self._show_logprobs = show_logprobs
        self._seal = seal
        self._files = files
        self._message: _OpenMessage | None = None
        self._reasoning: _OpenReasoning | None = None
        self._phase: str | None = None
        self._calls: dict[str, CallReader | None] = {}
        self.ignored = 0
        self.seen = False

    def feed(self, chunk: ModelChunk) -> Sequence[Draft]:
        """Drafts for one chunk."""
        self.seen = True
        match chunk:
            case TextDelta(text, logprobs):
                return [*self._close_reasoning(), *self._text(text, logprobs)]
            case CallDelta():
                return self._call(chunk)
            case ReasoningDelta(text, channel, index):
                return [*self._close_message("completed"), *self._think().add(text, channel, index)]
            case ReasoningSealed(blob):
                return [*self._close_message("completed"), *self._think().seal(blob)]
            case RefusalDelta(text):
                return [*self._close_reasoning(), *self._say().refuse(text)]
            case TextAnnotation(annotation):
                return self._say().annotate(dict(annotation))
            case MessagePhase(phase):
                self._phase = phase
                return self._close_message("completed")
            case CallEnd(key):
                reader = self._calls.get(key)
                self._calls[key] = None
                return reader.end("completed") if reader else []
            case Foreign(draft):
                return [*self._close_reasoning(), *self._close_message("completed"), draft]
            case ModelEnd():
                return []
            case _:
                assert_never(chunk)

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        """Drafts that close what is open: `incomplete` if the model was cut off."""
        drafts = [*self._close_reasoning(), *self._close_message(ending, last=not self._calls)]
        for reader in self._calls.values():
            if reader is not None:
                drafts += reader.end(ending)
        self._calls.clear()
        return drafts

    def _call(self, chunk: CallDelta) -> Sequence[Draft]:
        if chunk.key in self._calls:
            reader = self._calls[chunk.key]
            return reader.feed(chunk.arguments) if reader else []
        closing = [*self._close_reasoning(), *self._close_message("completed")]
        tool = self._toolbox.named(chunk.name)
        if tool.hosted and self._left is not None:
            if self._left <= 0:
                self.ignored += 1
                self._calls[chunk.key] = None
                return closing
            self._left -= 1
        reader = self._calls[chunk.key] = tool.read(self._call_id(chunk.call_id), self._new_id)
        return [*closing, *reader.feed(chunk.arguments)]

    def _call_id(self, asked: str) -> str:
        usable = 0 < len(asked) <= MAX_CALL_ID and asked not in self._taken
        call_id = asked if usable else self._new_id("call")
        self._taken.add(call_id)
        return call_id

    def _text(self, text: str, logprobs: Sequence[Any]) -> Sequence[Draft]:
        if not text:
            return []
        return self._say().add(text, [dict(entry) for entry in logprobs] if self._show_logprobs else [])

    def _say(self) -> "_OpenMessage":
        if self._message is None:
            self._message = _OpenMessage(self._new_id("msg"), self._phase, self._files)
            self._phase = None
        return self._message

    def _think(self) -> "_OpenReasoning":
        if self._reasoning is None:
            self._reasoning = _OpenReasoning(self._new_id("rs"), self._seal)
        return self._reasoning

    def _close_message(self, ending: TurnEnding, *, last: bool = False) -> Sequence[Draft]:
        message, self._message = self._message, None
        return message.close(ending, last=last) if message else []

    def _close_reasoning(self) -> Sequence[Draft]:
        reasoning, self._reasoning = self._reasoning, None
        return reasoning.close() if reasoning else []


class _OpenMessage:
    """An assistant message: text parts and refusals, in the order they came."""

    def __init__(self, item_id: str, phase: str | None, files: Sequence[Citable | Source]) -> None:
        self._files = files
        self._item = Message(
            id=item_id,
            role="assistant",
            content=(),
            status="in_progress",
            phase=phase if phase is not None else msgspec.UNSET,
        )
        self._opened = False
        self._parts: list[OutputText | Refusal] = []
        self._kind: type[OutputText | Refusal] | None = None
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> list[Draft]:
        drafts = self._part(OutputText)
        self._pieces.append(text)
        self._logprobs += logprobs
        drafts.append(self._event("response.output_text.delta", {"delta": text, "logprobs": logprobs}))
        return drafts

    def refuse(self, text: str) -> list[Draft]:
        drafts = self._part(Refusal)
        self._pieces.append(text)
        drafts.append(self._event("response.refusal.delta", {"delta": text}))
        return drafts

    def annotate(self, annotation: dict[str, Any]) -> list[Draft]:
        drafts = self._part(OutputText)
        where = {"annotation_index": len(self._annotations), "annotation": annotation}
        self._annotations.append(annotation)
        drafts.append(self._event("response.output_text.annotation.added", where))
        return drafts

    def close(self, ending: TurnEnding, *, last: bool) -> list[Draft]:
        drafts = self._open() + self._close_part(last=last)
        item = msgspec.structs.replace(self._item, content=tuple(self._parts), status=ending)
        return [*drafts, Closed(item)]

    def _open(self) -> list[Draft]:
        if self._opened:
            return []
        self._opened = True
        return [Opened(self._item)]

    def _part(self, kind: type[OutputText | Refusal]) -> list[Draft]:
        """Make sure that a part of `kind` is open."""
        if self._kind is kind:
            return []
        drafts = self._open() + self._close_part()
        self._kind = kind
        part = OutputText(text="") if kind is OutputText else Refusal(refusal="")
        drafts.append(self._event("response.content_part.added", {"part": part}))
        return drafts

    def _close_part(self, *, last: bool = False) -> list[Draft]:
        if self._kind is None:
            return []
        text = "".join(self._pieces)
        cited: list[Draft] = []
        part: OutputText | Refusal
        if self._kind is OutputText:
            for annotation in cite(text, self._files, final=last):
                cited += self.annotate(annotation)
            part = OutputText(text=text, annotations=tuple(self._annotations), logprobs=tuple(self._logprobs))
            done = self._event("response.output_text.done", {"text": text, "logprobs": list(self._logprobs)})
        else:
            part = Refusal(refusal=text)
            done = self._event("response.refusal.done", {"refusal": text})
        closed = self._event("response.content_part.done", {"part": part})
        self._parts.append(part)
        self._kind, self._pieces, self._logprobs, self._annotations = None, [], [], []
        return [*cited, done, closed]

    def _event(self, type_: str, fields: dict[str, Any]) -> Progress:
        return Progress(self._item.id, type_, {"content_index": len(self._parts), **fields})


class _OpenReasoning:
    """A reasoning item: summary parts, raw text, or only an upstream's blob."""

    def __init__(self, item_id: str, seal: bool) -> None:
        self._id = item_id
        self._seal = seal
        self._opened = False
        self._channel: str | None = None
        self._part_index = 0
        self._pieces: list[str] = []
        self._summary: list[SummaryText] = []
        self._content: list[ReasoningText] = []
        self._blob: str | None = None

    def add(self, text: str, channel: str, index: int) -> list[Draft]:
        drafts = self._open()
        if (channel, index) != (self._channel, self._part_index):
            drafts += self._close_part()
            self._channel, self._part_index = channel, index
            drafts.append(self._added())
        self._pieces.append(text)
        drafts.append(self._event(f"{self._stem()}_text.delta", {"delta": text}))
        return drafts

    def seal(self, blob: str) -> list[Draft]:
        self._blob = blob
        return self._open()

    def close(self) -> list[Draft]:
        drafts = self._open() + self._close_part()
        if self._blob is None and self._seal and (said := self._content or self._summary):
            self._blob = seal("".join(part.text for part in said))
        return [
            *drafts,
            Closed(
                Reasoning(
                    id=self._id,
                    summary=tuple(self._summary),
                    content=tuple(self._content) or msgspec.UNSET,
                    encrypted_content=self._blob if self._blob is not None else msgspec.UNSET,
                )
            ),
        ]

    def _open(self) -> list[Draft]:
        if self._opened:
            return []
        self._opened = True
        return [Opened(Reasoning(id=self._id))]

    def _added(self) -> Progress:
        if self._channel == "summary":
            return self._event("response.reasoning_summary_part.added", {"part": SummaryText(text="")})
        return self._event("response.content_part.added", {"part": ReasoningText(text="")})

    def _close_part(self) -> list[Draft]:
        if self._channel is None:
            return []
        text = "".join(self._pieces)
        done = self._event(f"{self._stem()}_text.done", {"text": text})
        if self._channel == "summary":
            summary = SummaryText(text=text)
            closed = self._event("response.reasoning_summary_part.done", {"part": summary})
            self._summary.append(summary)
        else:
            content = ReasoningText(text=text)
            closed = self._event("response.content_part.done", {"part": content})
            self._content.append(content)
        self._channel, self._pieces = None, []
        return [done, closed]

    def _stem(self) -> str:
        return "response.reasoning_summary" if self._channel == "summary" else "response.reasoning"

    def _event(self, type_: str, fields: dict[str, Any]) -> Progress:
        where = (
            {"summary_index": len(self._summary)}
            if self._channel == "summary"
            else {"content_index": len(self._content)}
        )
        return Progress(self._id, type_, {**where, **fields})
