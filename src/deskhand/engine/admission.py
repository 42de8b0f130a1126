"""Admission: from a request to a run that can start, or a clear refusal. Nothing is stored before the last check."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from ..core.errors import ApiError, conversation_locked, missing
from ..egress.door import Use
from ..egress.sealing import Sealer
from ..ports.grammars import Grammars
from ..ports.mcp import RemoteServers
from ..ports.model import ForeignChoice, PromptMessage, ToolChoice
from ..ports.runs import Interrupted
from ..ports.tool import ToolContext
from ..ports.upstreams import Resolved, Upstreams
from ..tools.commands import CommandLimits
from ..tools.registry import EMULATED, Toolbox, check_names, offer
from ..wire.codec import plain
from ..wire.items import Item, ItemReference
from ..wire.request import CreateResponse
from ..wire.response import Response
from ..wire.tools import Tool
from .asked import begun, model_request
from .attachments import Attachments
from .citable import CitableFiles
from .compaction import Compactions, Compactor, Context, check_settled, read_threshold
from .container_files import ContainerFiles
from .container_skills import briefing, parsed
from .containers import Containers
from .continuation import Continuations, Continued, Recent
from .enforcing import Enforcing
from .grammars_in import check_grammars
from .ids import new_id
from .items_in import check_pairs, name_calls, read_input, with_own_ids
from .kept_request import kept, opened
from .network_policy import summary
from .news import messages
from .not_yet import not_yet
from .placement import Placement, container_of, shown
from .remote_tools import REMOTE, Remote, as_foreign, described, permitted, read_remote, read_remote_choice
from .run import Ceilings, Run
from .searches import Searches
from .tokens import Meter, TokenScale
from .tools_in import (
    added_tools,
    allowed_names,
    normalised,
    read_choice,
    read_text_format,
    read_tools,
    storable,
)
from .warm_up import generates, warm_up
from .window import TRIGGER, is_trigger

_NONE: Recent = {}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run, what of its input is new and will be stored, the request as it may be stored, and what comes before.

    `revision` is that of the conversation as it was read.
    """

    run: Run
    given: Sequence[Item]
    request: CreateResponse
    earlier: Sequence[Item]
    revision: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about: what it continues from, its own items, and the context that they come to."""

    continued: Continued
    given: Sequence[Item]
    context: Context

    @property
    def earlier(self) -> Sequence[Item]:
        """The items before the request's own."""
        return self.continued.items


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tools that a request has, those that its items add, and what the model shall do with them; all checked."""

    resolved: Resolved
    tools: Sequence[Tool]
    added: Sequence[Tool]
    choice: ToolChoice
    remote: Remote | None
    text_format: Mapping[str, Any]

    @property
    def everything(self) -> Sequence[Tool]:
        """The request's own tools, then the added ones."""
        return [*self.tools, *self.added]


@dataclass(frozen=True, slots=True)
class Admission:
    """Checks requests. Its collaborators are the stores and rooms that a request can name things in.

    `remote_hosts` are those that MCP servers may have; any if there are none.
    """

    continuations: Continuations
    upstreams: Upstreams
    containers: Containers
    placement: Placement
    attachments: Attachments
    container_files: ContainerFiles
    command_limits: CommandLimits
    ceilings: Ceilings
    compactions: Compactions
    scale: TokenScale
    sealer: Sealer
    grammars: Grammars
    searches: Searches
    remote_servers: RemoteServers
    remote_hosts: Collection[str]

    async def admit(self, owner: str, request: CreateResponse, recent: Recent = _NONE) -> Admitted:
        """Raise `ApiError` on the first thing that is wrong; else reserve what the run needs and return it.

        `recent` are responses that only this connection knows.
        """
        _check_fields(request)
        asked = await self.read(owner, request, recent)
        if asked.continued.locked:
            raise conversation_locked()
        if generates(request) and not asked.earlier and not asked.given:
            raise missing("input")
        if request.context_management:
            check_settled([*asked.earlier, *asked.given])
        if not asked.context.forced:
            window = asked.context.window
            check_pairs(asked.context.earlier, asked.context.given, window.items if window else ())
        wanted = await self._wanted(request, asked.context)
        await self.searches.check(owner, wanted.everything)
        run, tools = await self._run(owner, request, asked.context, wanted)
        given = [storable(item) for item in asked.given if not is_trigger(item)]
        stored = kept(request, tools, self.sealer, (owner, run.response.id))
        if asked.context.forced:  # a wish, and no item that is stored
            stored = msgspec.structs.replace(stored, input=[{"type": TRIGGER}])
        return Admitted(run, given, stored, asked.earlier, asked.continued.revision)

    async def read(self, owner: str, request: CreateResponse, recent: Recent = _NONE) -> Asked:
        """What a request is about. Raises `ApiError` for what cannot be read, or is not there."""
        continued = await self.continuations.read(owner, request, recent)
        earlier = continued.items
        known = {item.id for item in earlier}
        given = await self._resolve(owner, read_input(request.input, new_id), known)
        given = name_calls(earlier, given)
        if request.conversation is not None:
            given = with_own_ids(given, known, new_id)
        source = "previous_response_id" if request.conversation is None else "conversation"
        context = self.compactions.read(owner, earlier, given, source)
        await self.attachments.check(owner, given)
        return Asked(continued, given, context)

    async def readmit(self, owner: str, request: CreateResponse, interrupted: Interrupted) -> Run:
        """The run of a response that is stored, to go on from what its output and its model calls have come to.

        If its container is gone, it gets a new one and is told so. Raises `ApiError` if it cannot go on: its model may
        not be there any more.
        """
        request = opened(request, self.sealer, (owner, interrupted.response.id))
        earlier = await self._earlier(owner, request)
        given = [*interrupted.given, *read_input(request.input, new_id)]
        context = self.compactions.read(owner, earlier, given)
        tools = await self.placement.unplace(owner, read_tools(request.tools))
        request = msgspec.structs.replace(request, tools=[plain(tool) for tool in tools])
        run, _ = await self._run(owner, request, context, await self._wanted(request, context), interrupted.response)
        return replace(run, spent=interrupted.calls)

    async def _earlier(self, owner: str, request: CreateResponse) -> Sequence[Item]:
        """What a stored response goes on from, also if the one before it was deleted since: it holds on to that."""
        if request.previous_response_id is not None:
            return await self.continuations.responses.context(owner, request.previous_response_id)
        return (await self.continuations.read(owner, request, _NONE)).items

    async def _wanted(self, request: CreateResponse, context: Context) -> Wanted:
        """The tools and the form of a request. Raises `ApiError` for what is wrong in them."""
        assert request.model is not None
        resolved = await self.upstreams.resolve(request.model)
        tools = read_tools(request.tools)
        added = added_tools([*context.earlier, *context.given], new_from=len(context.earlier))
        choice = read_choice(request.tool_choice, [*tools, *added])
        remote = None if resolved.calls_mcp_servers else self._remote(request, [*tools, *added], choice)
        foreign = isinstance(choice, ForeignChoice) and choice.fields["type"] not in EMULATED
        if foreign and not resolved.foreign_tools and (remote is None or remote.choice is None):
            raise not_yet(f"Tool choice {request.tool_choice}", "tool_choice")
        text_format = read_text_format(request)
        check_names(tools)
        await check_grammars(self.grammars, tools, "tools")
        await check_grammars(self.grammars, added, "input")
        return Wanted(resolved, tools, added, choice, remote, text_format)

    async def _run(
        self, owner: str, request: CreateResponse, context: Context, wanted: Wanted, stored: Response | None = None
    ) -> tuple[Run, Sequence[Tool]]:
        """The run, and the request's tools with their containers. `stored` is the response if there is one already."""
        if not generates(request):
            bare = [normalised(tool) for tool in wanted.tools]
            return warm_up(stored or begun(request, bare, wanted.text_format)), bare
        everything, new_from = [*context.earlier, *context.given], len(context.earlier)
        said = [] if stored is None else stored.output
        placed = await self.placement.place(owner, wanted.everything, [*everything, *said])
        tools, container_id = placed[: len(wanted.tools)], container_of(placed)
        history = await self.attachments.read(
            owner, everything, container_id, new_from=new_from, reads_files=wanted.resolved.reads_files
        )
        if wanted.resolved.calls_mcp_servers:
            history = [as_foreign(item) for item in history]
        toolbox = await self._toolbox(owner, request, wanted, placed)
        response = stored or begun(
            request,
            [normalised(shown(asked, tool)) for asked, tool in zip(wanted.tools, tools, strict=True)],
            wanted.text_format,
        )
        call = model_request(request, wanted.resolved.upstream_name, toolbox, wanted.text_format)
        meter = Meter(wanted.resolved.generator(), self.scale)
        by_id = {item.id: (item, read) for item, read in zip(everything, history, strict=True)}
        run = Run(
            response,
            history,
            toolbox,
            Enforcing(meter, self.grammars, wanted.resolved.keeps_schemas),
            replace(call, tool_choice=toolbox.chosen(wanted.choice)),
            self._at_work(owner, response.id),
            self.ceilings,
            [*await self._briefing(owner, container_id), *described(wanted.remote)],
            CitableFiles(self.container_files, owner, container_id).list,
            compactor=self._compactor(owner, request, context, meter, by_id),
            remote=wanted.remote,
            # Last, as what was read once is not there again.
            news=await self._news(container_id),
        )
        return run, tools

    async def _toolbox(self, owner: str, request: CreateResponse, wanted: Wanted, placed: Sequence[Tool]) -> Toolbox:
        """What the model is offered, of tools that are `placed` in containers."""
        toolbox = offer(
            placed[: len(wanted.tools)],
            self.command_limits,
            in_order=request.parallel_tool_calls is False,
            added=placed[len(wanted.tools) :],
            networks=await self._networks(owner, placed),
            native=wanted.resolved.foreign_tools,
        )
        if wanted.remote is not None:
            toolbox = toolbox.without_foreign(REMOTE)
        return toolbox.only(allowed_names(request.tool_choice)).revealing(wanted.choice)

    def _at_work(self, owner: str, response_id: str) -> ToolContext:
        """What the tools of a response may use."""

        async def sandbox(container_id: str, /, *, call_id: str = "") -> Any:
            return await self.containers.sandbox(owner, container_id, Use(response_id, call_id))

        async def workspace(container_id: str) -> Any:
            return await self.containers.workspace(owner, container_id)

        return ToolContext(sandbox, workspace, new_id, search=partial(self.searches.search, owner))

    def _remote(self, request: CreateResponse, tools: Sequence[Tool], choice: ToolChoice) -> Remote | None:
        """The MCP servers of a request; None if it has none. Raises `ApiError`."""
        if not (specs := read_remote(tools, self.remote_hosts)):
            return None
        chosen = read_remote_choice(choice) if isinstance(choice, ForeignChoice) else None
        return Remote(specs, self.remote_servers, chosen, permitted(request.tool_choice))

    def _compactor(
        self,
        owner: str,
        request: CreateResponse,
        context: Context,
        meter: Meter,
        read: Mapping[str, tuple[Item, Item]],
    ) -> Compactor | None:
        """What keeps the context short, if the request wants that."""
        if not request.context_management and not context.forced:
            return None
        threshold = read_threshold(request)
        return Compactor(self.compactions, owner, meter, new_id, threshold, context.forced, context.window, read)

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
                stored = await self.continuations.item(owner, item.id)
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


def _check_fields(request: CreateResponse) -> None:
    if not request.model:
        raise missing("model")
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
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            "'stream_options' is only allowed when 'stream' is true.", code="invalid_value", param="stream_options"
        )
    if generates(request) and request.input is None and request.conversation is None:
        raise missing("input")
