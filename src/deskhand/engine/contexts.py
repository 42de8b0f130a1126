"""What can be done with a context without a response: compact it, count its tokens. Nothing is stored or reserved."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import UpstreamError, missing
from ..ports.model import ModelRequest
from ..ports.upstreams import Upstreams
from ..tools.commands import CommandLimits
from ..tools.registry import offer
from ..wire.context import CompactContext, CompactedContext, CountTokens, InputTokens
from ..wire.items import ContainerReference, Item, Message
from ..wire.request import CreateResponse
from ..wire.tools import ContainerAuto, Tool
from .admission import Admission, Asked
from .asked import model_request
from .attachments import Attachments
from .compaction import Compactions, check_settled, compacted, default_room
from .history import prompt
from .ids import new_id
from .placement import environment, inside
from .slots import Slots
from .tokens import Meter, TokenScale, weigh
from .tools_in import added_tools, read_choice, read_text_format, read_tools
from .window import digest, is_summary

_NO_CONTAINER = "cntr_none"
"""Stands for a container that a request would get."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Contexts of requests that make no response.

    A compaction takes one of its project's `slots`, for at most `max_seconds`.
    """

    admission: Admission
    upstreams: Upstreams
    attachments: Attachments
    compactions: Compactions
    scale: TokenScale
    command_limits: CommandLimits
    slots: Slots
    max_seconds: float

    async def compact(self, owner: str, body: CompactContext) -> CompactedContext:
        """The next window of a context, to be sent as it is. Raises `ApiError`, `UpstreamError`."""
        with self.slots.taken(owner):
            try:
                async with asyncio.timeout(self.max_seconds):
                    return await self._compact(owner, body)
            except TimeoutError:
                raise UpstreamError(
                    f"The compaction reached this server's limit of {self.max_seconds:g} s (max_run_seconds)."
                ) from None

    async def _compact(self, owner: str, body: CompactContext) -> CompactedContext:
        if not body.model:
            raise missing("model")
        if body.input is None and body.previous_response_id is None:
            raise missing("input")
        request = CreateResponse(
            model=body.model,
            input=body.input,
            instructions=body.instructions,
            previous_response_id=body.previous_response_id,
        )
        asked = await self.admission.read(owner, request)
        check_settled([*asked.earlier, *asked.given])
        resolved = await self.upstreams.resolve(body.model)
        items = [*asked.context.earlier, *asked.context.given]
        meter = Meter(resolved.generator(), self.scale)
        call = ModelRequest(resolved.upstream_name, prompt(items), instructions=body.instructions)
        room = default_room(meter.estimate(call))
        window, usage = await compacted(meter, call, items, asked.context.window, room)
        item = await asyncio.to_thread(self.compactions.sealed, owner, new_id("cmp"), window)
        output = [*_users(asked, items), item]
        return CompactedContext(id=new_id("resp"), created_at=int(time.time()), output=output, usage=usage)

    async def count(self, owner: str, body: CountTokens) -> InputTokens:
        """The tokens of a request's prompt, estimated as its model counts. Raises `ApiError`."""
        fields = {name: getattr(body, name) for name in body.__struct_fields__ if name != "personality"}
        request = CreateResponse(**fields)
        asked = await self.admission.read(owner, request)
        resolved = await self.upstreams.resolve(body.model) if body.model else None
        name, reads_files = (resolved.upstream_name, resolved.reads_files) if resolved is not None else ("", True)
        items, new_from = [*asked.context.earlier, *asked.context.given], len(asked.context.earlier)
        tools, added = read_tools(body.tools), added_tools(items, new_from=new_from)
        read_choice(body.tool_choice, [*tools, *added])
        toolbox = offer(_placed(tools), self.command_limits, in_order=False, added=_placed(added))
        call = model_request(request, name, toolbox, read_text_format(request))
        history = await self.attachments.read(owner, items, None, new_from=new_from, reads_files=reads_files)
        said = [toolbox.addressed(entry) for entry in prompt(history)]
        call = ModelRequest(name, said, call.instructions, call.tools, call.foreign_tools, text_format=call.text_format)
        return InputTokens(input_tokens=self.scale.tokens(name, weigh(call)))


def _placed(tools: Sequence[Tool]) -> list[Tool]:
    nowhere = ContainerReference(container_id=_NO_CONTAINER)
    return [inside(tool, nowhere) if isinstance(environment(tool), ContainerAuto) else tool for tool in tools]


def _users(asked: Asked, items: Sequence[Item]) -> list[Item]:
    """Every message of the user, once, in order: what was sent or chained, after what only a compaction holds."""
    sent = _said_by_user([*asked.earlier, *asked.given])
    known = {digest(message) for message in sent}
    return [*(message for message in _said_by_user(items) if digest(message) not in known), *sent]


def _said_by_user(items: Sequence[Item]) -> list[Message]:
    return [item for item in items if isinstance(item, Message) and item.role == "user" and not is_summary(item)]
