"""Admission: from a request to a run that can start, or a clear refusal. Nothing is stored before the last check."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..core.errors import ApiError
from ..ports.model import ModelRequest
from ..ports.sandbox import WORKDIR
from ..ports.store import FileRecord, ResponseStore
from ..ports.tool import ToolContext
from ..ports.upstreams import Upstreams
from ..tools.commands import CommandLimits
from ..tools.registry import Toolbox, offer
from ..wire.codec import plain
from ..wire.items import ContainerReference, Item, ItemReference, Message, ShellCall
from ..wire.parts import InputFile, InputImage, InputText, Part
from ..wire.request import CreateResponse
from ..wire.response import Response
from ..wire.tools import AllowlistNetwork, ContainerAuto, ShellTool, Tool
from .container_files import ContainerFiles, clean_name
from .containers import Containers
from .files import MAX_INLINE_BYTES, Files, decode_data_url
from .ids import new_id
from .items_in import check_pairs, read_input
from .run import Ceilings, Run
from .tools_in import allowed_names, normalised, read_choice, read_text_format, read_tools


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
    files: Files
    container_files: ContainerFiles
    command_limits: CommandLimits
    ceilings: Ceilings

    async def admit(self, owner: str, request: CreateResponse) -> Admitted:
        """Raise `ApiError` on the first thing that is wrong; else reserve what the run needs and return it."""
        _check_fields(request)
        assert request.model is not None
        resolved = await self.upstreams.resolve(request.model)
        given = await self._resolve(owner, read_input(request.input, new_id))
        context = await self._context(owner, request.previous_response_id)
        check_pairs(context, given)
        tools = read_tools(request.tools)
        choice = read_choice(request.tool_choice, tools)
        text_format = read_text_format(request)
        tools = await self._place_containers(owner, tools, context)
        history = await self._read_files(owner, [*context, *given], _container_of(tools), new_from=len(context))
        in_order = request.parallel_tool_calls is False
        toolbox = _allowed(offer(tools, self.command_limits, in_order=in_order), allowed_names(request.tool_choice))
        response = _response(request, [normalised(tool) for tool in tools], text_format)
        call = _model_request(request, resolved.upstream_name, toolbox, text_format)
        named = getattr(choice, "name", None)
        call = replace(call, tool_choice="auto" if named is not None and named not in toolbox.tools else choice)

        async def sandbox(container_id: str) -> Any:
            return await self.containers.sandbox(owner, container_id)

        run = Run(response, history, toolbox, resolved.model, call, ToolContext(sandbox, new_id), self.ceilings)
        return Admitted(run, given)

    async def _resolve(self, owner: str, items: Sequence[Item]) -> list[Item]:
        """Items with every reference replaced by the stored item it names."""
        found = []
        for index, item in enumerate(items):
            if isinstance(item, ItemReference):
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

    async def _place_containers(self, owner: str, tools: Sequence[Tool], context: Sequence[Item]) -> list[Tool]:
        """Tools with `container_auto` resolved: the conversation's container if it lives, else a reserved one."""
        placed: list[Tool] = []
        for index, tool in enumerate(tools):
            where = f"tools[{index}].environment"
            match tool:
                case ShellTool(environment=ContainerReference(container_id=container_id)):
                    self.containers.require_engine()
                    await self.containers.alive(owner, container_id, param=f"{where}.container_id")
                    placed.append(tool)
                case ShellTool(environment=ContainerAuto() as auto):
                    self.containers.require_engine()
                    container_id = await self._auto(owner, auto, context, where)
                    reference = ContainerReference(container_id=container_id)
                    placed.append(msgspec.structs.replace(tool, environment=reference))
                case _:
                    placed.append(tool)
        return placed

    async def _auto(self, owner: str, auto: ContainerAuto, context: Sequence[Item], where: str) -> str:
        if isinstance(auto.network_policy, AllowlistNetwork):
            raise _not_yet("network_policy 'allowlist'", f"{where}.network_policy")
        if auto.skills:
            raise _not_yet("skills", f"{where}.skills")
        uploads = [
            await self.files.get(owner, file_id, param=f"{where}.file_ids[{index}]")
            for index, file_id in enumerate(auto.file_ids or [])
        ]
        container_id = await self._earlier(owner, context)
        if container_id is None:
            record = await self.containers.reserve(owner, auto.memory_limit, param=f"{where}.memory_limit")
            container_id = record.id
        for upload in uploads:
            await self.container_files.add_upload(owner, container_id, upload)
        return container_id

    async def _earlier(self, owner: str, context: Sequence[Item]) -> str | None:
        """The live container of the newest hosted shell call in `context`."""
        for item in reversed(context):
            if isinstance(item, ShellCall) and isinstance(item.environment, ContainerReference):
                try:
                    record = await self.containers.alive(owner, item.environment.container_id)
                except ApiError:
                    return None
                return record.id
        return None

    async def _read_files(
        self, owner: str, items: Sequence[Item], container_id: str | None, *, new_from: int
    ) -> list[Item]:
        """Items as the model reads them: files by id become data, or files in the container with a note."""
        read: list[Item] = []
        for index, item in enumerate(items):
            if not isinstance(item, Message):
                read.append(item)
                continue
            # Files of earlier turns were put in the container then.
            target = container_id if index >= new_from else None
            where = f"input[{index - new_from}].content" if index >= new_from else "previous_response_id"
            parts = [
                await self._read_part(owner, part, container_id, target, f"{where}[{n}]")
                for n, part in enumerate(item.content)
            ]
            read.append(msgspec.structs.replace(item, content=tuple(parts)))
        return read

    async def _read_part(
        self, owner: str, part: Part, container_id: str | None, target: str | None, where: str
    ) -> Part:
        match part:
            case InputImage(file_id=str(file_id)):
                record = await self.files.get(owner, file_id, param=f"{where}.file_id")
                url = await self.files.data_url(record, param=f"{where}.file_id")
                return msgspec.structs.replace(part, image_url=url, file_id=None)
            case InputFile(file_id=str(file_id)):
                record = await self.files.get(owner, file_id, param=f"{where}.file_id")
                if container_id is not None:
                    return await self._stage_upload(owner, record, target)
                url = await self.files.data_url(record, param=f"{where}.file_id")
                return InputFile(file_data=url, filename=record.filename)
            case InputFile(file_data=str(data)):
                content = decode_data_url(data, param=f"{where}.file_data")
                name = part.filename if isinstance(part.filename, str) else "file"
                if len(content) > MAX_INLINE_BYTES:
                    raise ApiError(f"'{name}' has {len(content)} bytes; at most {MAX_INLINE_BYTES}.", param=where)
                if container_id is not None:
                    return await self._stage_bytes(owner, clean_name(name), content, target)
                return part
            case InputFile(file_url=str()):
                raise _not_yet("input_file by URL", f"{where}.file_url")
            case _:
                return part

    async def _stage_upload(self, owner: str, record: FileRecord, target: str | None) -> Part:
        if target is None:
            return _note(f"{WORKDIR}/{clean_name(record.filename)}")
        return _note((await self.container_files.add_upload(owner, target, record)).path)

    async def _stage_bytes(self, owner: str, name: str, content: bytes, target: str | None) -> Part:
        async def chunks() -> Any:
            yield content

        if target is None:
            return _note(f"{WORKDIR}/{name}")
        return _note((await self.container_files.add(owner, target, name, chunks())).path)


def _note(path: str) -> InputText:
    return InputText(text=f"[The user's file is in your computer at {path}]")


def _not_yet(what: str, param: str) -> ApiError:
    return ApiError(
        f"Unsupported parameter: {what} is not available in this version of Deskhand.",
        code="unsupported_parameter",
        param=param,
    )


def _check_fields(request: CreateResponse) -> None:
    if not request.model:
        raise ApiError("Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
    if request.previous_response_id is not None and request.conversation is not None:
        raise ApiError(
            "Mutually exclusive parameters: give 'previous_response_id' or 'conversation', not both.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    if request.conversation is not None:
        raise _not_yet("'conversation'", "conversation")
    if request.background:
        raise _not_yet("'background'", "background")
    if request.prompt is not None:
        raise _not_yet("'prompt'", "prompt")
    if request.context_management:
        raise _not_yet("'context_management'", "context_management")
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            "'stream_options' is only allowed when 'stream' is true.", code="invalid_value", param="stream_options"
        )
    if request.input is None or (request.input == [] and request.previous_response_id is None):
        raise ApiError("Missing required parameter: 'input'.", code="missing_required_parameter", param="input")


def _container_of(tools: Sequence[Tool]) -> str | None:
    for tool in tools:
        if isinstance(tool, ShellTool) and isinstance(tool.environment, ContainerReference):
            return tool.environment.container_id
    return None


def _allowed(toolbox: Toolbox, names: frozenset[str] | None) -> Toolbox:
    if names is None:
        return toolbox
    tools = {name: tool for name, tool in toolbox.tools.items() if name in names}
    foreign = [fields for fields in toolbox.foreign if fields.get("type") in names]
    return Toolbox(tools, foreign)


def _response(request: CreateResponse, tools: Sequence[Tool], text_format: Mapping[str, Any]) -> Response:
    """The response as it begins: every setting echoed, defaults included."""
    assert request.model is not None
    verbosity = request.text.verbosity if request.text else None
    reasoning = request.reasoning
    return Response(
        id=new_id("resp"),
        created_at=int(time.time()),
        model=request.model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        prompt_cache_retention=request.prompt_cache_retention,
        reasoning={
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        safety_identifier=request.safety_identifier,
        service_tier=request.service_tier or "auto",
        store=request.store is not False,
        temperature=1.0 if request.temperature is None else request.temperature,
        text={"format": dict(text_format), "verbosity": verbosity or "medium"},
        tool_choice=request.tool_choice if request.tool_choice is not None else "auto",
        tools=list(tools),
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
    )


def _model_request(
    request: CreateResponse, upstream_name: str, toolbox: Toolbox, text_format: Mapping[str, Any]
) -> ModelRequest:
    reasoning = {key: value for key, value in plain(request.reasoning).items() if value} if request.reasoning else {}
    return ModelRequest(
        model=upstream_name,
        prompt=(),
        instructions=request.instructions,
        tools=[tool.declaration for tool in toolbox.tools.values()],
        foreign_tools=toolbox.foreign,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        logprobs="message.output_text.logprobs" in (request.include or []),
        text_format=text_format,
        verbosity=request.text.verbosity if request.text else None,
        reasoning=reasoning,
        truncation=request.truncation or "disabled",
        prompt_cache_key=request.prompt_cache_key,
        user=request.user,
    )
