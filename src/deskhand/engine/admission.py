"""Admission: from a request to a run that can start, or a clear refusal. Nothing is stored before the last check."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..core.errors import ApiError, missing
from ..egress.door import Use
from ..ports.model import ForeignChoice, PromptMessage
from ..ports.runs import Interrupted
from ..ports.store import ResponseStore
from ..ports.tool import ToolContext
from ..ports.upstreams import Upstreams
from ..tools.commands import CommandLimits
from ..tools.registry import check_names, offer
from ..wire.codec import plain
from ..wire.items import Item, ItemReference
from ..wire.request import CreateResponse
from ..wire.response import Response
from ..wire.tools import Tool
from .asked import begun, model_request
from .attachments import Attachments
from .citable import CitableFiles
from .container_files import ContainerFiles
from .container_skills import briefing, parsed
from .containers import Containers
from .continuation import Continuations, Recent
from .ids import new_id
from .items_in import check_pairs, name_calls, read_input
from .network_policy import summary
from .news import messages
from .not_yet import not_yet
from .placement import Placement, container_of, shown
from .run import Ceilings, Run
from .tools_in import (
    added_tools,
    allowed_names,
    check_served,
    normalised,
    read_choice,
    read_text_format,
    read_tools,
    storable,
)
from .warm_up import generates, warm_up

_NONE: Recent = {}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run, what of its input is new and will be stored, the request as it may be stored, and what comes before."""

    run: Run
    given: Sequence[Item]
    request: CreateResponse
    earlier: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Admission:
    """Checks requests. Its collaborators are the stores and rooms that a request can name things in."""

    responses: ResponseStore
    continuations: Continuations
    upstreams: Upstreams
    containers: Containers
    placement: Placement
    attachments: Attachments
    container_files: ContainerFiles
    command_limits: CommandLimits
    ceilings: Ceilings

    async def admit(self, owner: str, request: CreateResponse, recent: Recent = _NONE) -> Admitted:
        """Raise `ApiError` on the first thing that is wrong; else reserve what the run needs and return it.

        `recent` are responses that only this connection knows.
        """
        _check_fields(request)
        assert request.model is not None
        continued = await self.continuations.read(owner, request, recent)
        earlier = continued.items
        given = await self._resolve(owner, read_input(request.input, new_id), {item.id for item in earlier})
        given = name_calls(earlier, given)
        check_pairs(earlier, given)
        run, tools = await self._run(owner, request, earlier, given)
        return Admitted(run, [storable(item) for item in given], _kept(request, tools), earlier)

    async def readmit(self, owner: str, request: CreateResponse, interrupted: Interrupted) -> Run:
        """The run of a response that is stored, to go on from what its output and its model calls have come to.

        Raises `ApiError` if it cannot: its model or its container may be gone.
        """
        earlier = await self.continuations.read(owner, request, _NONE)
        run, _ = await self._run(owner, request, earlier.items, interrupted.given, interrupted.response)
        return replace(run, spent=interrupted.calls)

    async def _run(
        self,
        owner: str,
        request: CreateResponse,
        earlier: Sequence[Item],
        given: Sequence[Item],
        stored: Response | None = None,
    ) -> tuple[Run, Sequence[Tool]]:
        """The run, and the request's tools with their containers. `stored` is the response if there is one already."""
        assert request.model is not None
        resolved = await self.upstreams.resolve(request.model)
        everything, new_from = [*earlier, *given], len(earlier)
        tools = read_tools(request.tools)
        added = added_tools(everything, new_from=new_from)
        check_served([*tools, *added], foreign=resolved.foreign_tools)
        choice = read_choice(request.tool_choice, [*tools, *added])
        if isinstance(choice, ForeignChoice) and not resolved.foreign_tools:
            raise not_yet(f"Tool choice '{choice.fields['type']}'", "tool_choice")
        text_format = read_text_format(request)
        check_names(tools)
        if stored is None:
            await self.attachments.check(owner, given)
        if not generates(request):
            bare = [normalised(tool) for tool in tools]
            return warm_up(stored or begun(request, bare, text_format)), bare
        placed = await self.placement.place(owner, [*tools, *added], everything)
        echoed = [normalised(shown(asked, tool)) for asked, tool in zip(tools, placed, strict=False)]
        tools, added = placed[: len(tools)], placed[len(tools) :]
        history = await self.attachments.read(owner, everything, container_of(placed), new_from=new_from)
        in_order = request.parallel_tool_calls is False
        networks = await self._networks(owner, placed)
        toolbox = offer(tools, self.command_limits, in_order=in_order, added=added, networks=networks)
        toolbox = toolbox.only(allowed_names(request.tool_choice))
        response = stored or begun(request, echoed, text_format)
        call = model_request(request, resolved.upstream_name, toolbox, text_format)
        call = replace(call, tool_choice=toolbox.chosen(choice))

        async def sandbox(container_id: str, /, *, call_id: str = "") -> Any:
            return await self.containers.sandbox(owner, container_id, Use(response.id, call_id))

        async def workspace(container_id: str) -> Any:
            return await self.containers.workspace(owner, container_id)

        citable = CitableFiles(self.container_files, owner, container_of(placed))
        context = ToolContext(sandbox, workspace, new_id)
        told = await self._briefing(owner, container_of(placed))
        run = Run(response, history, toolbox, resolved.model, call, context, self.ceilings, told, citable.list)
        return replace(run, news=await self._news(container_of(placed))), tools

    async def _networks(self, owner: str, tools: Sequence[Tool]) -> Mapping[str, str]:
        """What the model is told of the network of each container."""
        found = {container_id for tool in tools if (container_id := container_of([tool])) is not None}
        return {id_: summary((await self.containers.get(owner, id_)).network) for id_ in found}

    async def _briefing(self, owner: str, container_id: str | None) -> Sequence[PromptMessage]:
        """What the model is told of its computer, also of one that an earlier request has made."""
        if container_id is None:
            return []
        return briefing(parsed((await self.containers.get(owner, container_id)).skills))

    async def _news(self, container_id: str | None) -> Sequence[PromptMessage]:
        """What the model is told of what has become of its computer, once."""
        return [] if container_id is None else messages(await self.containers.news(container_id))

    async def _resolve(self, owner: str, items: Sequence[Item], known: Collection[str]) -> list[Item]:
        """Items with every reference replaced by the stored item it names, or left out if that is `known` already."""
        found = []
        for index, item in enumerate(items):
            if isinstance(item, ItemReference):
                if item.id in known:
                    continue
                stored = await self.responses.item(owner, item.id)
                if stored is None:
                    raise ApiError(
                        f"Item with id '{item.id}' not found. Items are not persisted when `store` is set to false. "
                        "Try again with `store` set to true, or remove this item from your input.",
                        status=404,
                        param=f"input[{index}].id",
                    )
                item = stored
            found.append(item)
        return found


def _kept(request: CreateResponse, tools: Sequence[Tool]) -> CreateResponse:
    """The request as it may be stored for a run to be taken up again: its input is stored as items, and with tools in
    their containers there are no secrets in it.
    """
    return msgspec.structs.replace(request, input=None, tools=[plain(tool) for tool in tools])


def _check_fields(request: CreateResponse) -> None:
    if not request.model:
        raise missing("model")
    if request.previous_response_id is not None and request.conversation is not None:
        raise ApiError(
            "Mutually exclusive parameters: give 'previous_response_id' or 'conversation', not both.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    if request.conversation is not None:
        raise not_yet("'conversation'", "conversation")
    if request.background and request.store is False:
        raise ApiError(
            "'background' requires 'store': what runs without a connection must be stored to be found again.",
            code="invalid_value",
            param="background",
        )
    if request.prompt is not None:
        raise not_yet("'prompt'", "prompt")
    if request.moderation is not None:
        raise not_yet("'moderation'", "moderation")
    if request.context_management:
        raise not_yet("'context_management'", "context_management")
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            "'stream_options' is only allowed when 'stream' is true.", code="invalid_value", param="stream_options"
        )
    if generates(request) and (request.input is None or (request.input == [] and request.previous_response_id is None)):
        raise missing("input")
