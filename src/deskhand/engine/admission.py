"""Admission: from a request to a run that can start, or a clear refusal. Nothing is stored before the last check."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import ApiError, missing
from ..egress.door import Use
from ..ports.model import ForeignChoice, PromptMessage
from ..ports.store import ResponseStore
from ..ports.tool import ToolContext
from ..ports.upstreams import Upstreams
from ..tools.commands import CommandLimits
from ..tools.registry import check_names, offer
from ..wire.items import Item, ItemReference
from ..wire.request import CreateResponse
from ..wire.tools import Tool
from .asked import begun, model_request
from .attachments import Attachments
from .citable import CitableFiles
from .container_files import ContainerFiles
from .container_skills import briefing, parsed
from .containers import Containers
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


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run, and what of its input is new and will be stored."""

    run: Run
    given: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Admission:
    """Checks requests. Its collaborators are the stores and rooms that a request can name things in."""

    responses: ResponseStore
    upstreams: Upstreams
    containers: Containers
    placement: Placement
    attachments: Attachments
    container_files: ContainerFiles
    command_limits: CommandLimits
    ceilings: Ceilings

    async def admit(self, owner: str, request: CreateResponse) -> Admitted:
        """Raise `ApiError` on the first thing that is wrong; else reserve what the run needs and return it."""
        _check_fields(request)
        assert request.model is not None
        resolved = await self.upstreams.resolve(request.model)
        earlier = await self._context(owner, request.previous_response_id)
        given = await self._resolve(owner, read_input(request.input, new_id), {item.id for item in earlier})
        given = name_calls(earlier, given)
        check_pairs(earlier, given)
        everything, new_from = [*earlier, *given], len(earlier)
        tools = read_tools(request.tools)
        added = added_tools(everything, new_from=new_from)
        check_served([*tools, *added], foreign=resolved.foreign_tools)
        choice = read_choice(request.tool_choice, [*tools, *added])
        if isinstance(choice, ForeignChoice) and not resolved.foreign_tools:
            raise not_yet(f"Tool choice '{choice.fields['type']}'", "tool_choice")
        text_format = read_text_format(request)
        check_names(tools)
        await self.attachments.check(owner, given)
        placed = await self.placement.place(owner, [*tools, *added], everything)
        echoed = [normalised(shown(asked, tool)) for asked, tool in zip(tools, placed, strict=False)]
        tools, added = placed[: len(tools)], placed[len(tools) :]
        history = await self.attachments.read(owner, everything, container_of(placed), new_from=new_from)
        in_order = request.parallel_tool_calls is False
        networks = await self._networks(owner, placed)
        toolbox = offer(tools, self.command_limits, in_order=in_order, added=added, networks=networks)
        toolbox = toolbox.only(allowed_names(request.tool_choice))
        response = begun(request, echoed, text_format)
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
        run = replace(run, news=await self._news(container_of(placed)))
        return Admitted(run, [storable(item) for item in given])

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

    async def _context(self, owner: str, previous_response_id: str | None) -> Sequence[Item]:
        if previous_response_id is None:
            return []
        previous = await self.responses.get(owner, previous_response_id)
        if previous is None:
            raise ApiError(
                f"Previous response with id '{previous_response_id}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if previous.status in {"queued", "in_progress"}:
            raise ApiError(
                f"Previous response '{previous_response_id}' is still {previous.status}. Wait until it has ended.",
                param="previous_response_id",
            )
        return await self.responses.context(owner, previous_response_id)


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
    if request.background:
        raise not_yet("'background'", "background")
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
    if request.input is None or (request.input == [] and request.previous_response_id is None):
        raise missing("input")
