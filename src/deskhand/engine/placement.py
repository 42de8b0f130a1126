"""Which container a request's tools use: the one they name, the conversation's, or a new one for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ..core.errors import ApiError
from ..ports.sandbox import SandboxError
from ..ports.store import ContainerRecord
from ..wire.items import ApplyPatchCall, CodeInterpreterCall, ContainerReference, Item, ShellCall
from ..wire.tools import (
    ApplyPatchTool,
    CodeInterpreterAuto,
    CodeInterpreterTool,
    ContainerAuto,
    ShellTool,
    Tool,
)
from .container_files import ContainerFiles
from .container_order import Order
from .container_skills import dumped
from .containers import Containers
from .egress import Egress
from .files import Files
from .hosts import Elsewhere
from .network_policy import NetworkPlan
from .news import EMPTY
from .skills import Skills

OTHER_KIND = (
    "This request asks for another network policy, or for better isolation, than the earlier ones of the conversation, "
    "so your computer is a new one: files and processes of the earlier one are not in it."
)


@dataclass(frozen=True, slots=True)
class Placement:
    """Resolves the environments of tools."""

    containers: Containers
    files: Files
    container_files: ContainerFiles
    skills: Skills
    egress: Egress

    async def place(self, owner: str, tools: Sequence[Tool], context: Sequence[Item]) -> list[Tool]:
        """Tools with `container_auto` resolved to a `ContainerReference`.

        All of a request's tools that leave the choice share one container: the one that another tool names, else the
        conversation's if it lives, else a new one, which is only reserved. `context` is the conversation so far,
        whether the server or the client kept it. Raises `ApiError`.
        """
        placed: list[Tool] = []
        shared = container_of(tools)
        for index, tool in enumerate(tools):
            where = f"tools[{index}].{'container' if isinstance(tool, CodeInterpreterTool) else 'environment'}"
            if isinstance(tool, CodeInterpreterTool):
                self.containers.expect_python()
            match environment(tool):
                case None:
                    placed.append(tool)
                case ContainerReference(container_id=container_id):
                    self.containers.require_engine()
                    param = where if isinstance(tool, CodeInterpreterTool) else f"{where}.container_id"
                    await self.containers.alive(owner, container_id, param=param)
                    placed.append(tool)
                case ContainerAuto() as auto:
                    self.containers.require_engine()
                    shared = await self._auto(owner, auto, shared, context, where)
                    placed.append(inside(tool, ContainerReference(container_id=shared)))
        return placed

    async def unplace(self, owner: str, tools: Sequence[Tool]) -> list[Tool]:
        """Tools whose containers were chosen before, left to choose again where those cannot be used any more."""
        return [
            inside(tool, ContainerAuto()) if await self._is_gone(owner, environment(tool)) else tool for tool in tools
        ]

    async def _is_gone(self, owner: str, place: ContainerAuto | ContainerReference | None) -> bool:
        if not isinstance(place, ContainerReference):
            return False
        try:
            await self.containers.alive(owner, place.container_id)
        except Elsewhere:
            raise
        except (ApiError, SandboxError):
            return True
        return False

    async def _auto(
        self, owner: str, auto: ContainerAuto, shared: str | None, context: Sequence[Item], where: str
    ) -> str:
        """The container that `auto` gets: `shared` with another tool, the conversation's, or a new one.

        A container keeps its network policy and its isolation for life, so the conversation's counts only if they are
        as is asked for; then the values of secrets are those of this request.
        """
        network = self.egress.plan(auto.network_policy, f"{where}.network_policy")
        if shared is not None:
            found: ContainerRecord | None = await self._shareable(owner, shared, auto, network, where)
        else:
            found = await self._earlier(owner, context)
        replaced = found is not None and shared is None and not self._suits(found, auto, network)
        container_id = None if found is None or replaced else found.id
        uploads = [
            await self.files.get(owner, file_id, param=f"{where}.file_ids[{index}]")
            for index, file_id in enumerate(auto.file_ids or [])
        ]
        skills = await self.skills.resolve(owner, auto.skills or [], f"{where}.skills")
        if container_id is None:
            order = Order(
                memory_limit=auto.memory_limit,
                on_expired=auto.on_expired,
                network=network.stored,
                skills=dumped(skills),
                isolation=auto.isolation,
                secrets=network.secrets,
            )
            container_id = (await self.containers.reserve(owner, order, where=f"{where}.")).id
            if replaced:
                await self.containers.tell(container_id, OTHER_KIND)
            elif last_used(context) is not None:
                await self.containers.tell(container_id, EMPTY)
        else:
            assert found is not None
            await self.egress.keep(found, network.secrets)
            if skills:
                await self.containers.equip(owner, container_id, skills)
        for upload in uploads:
            await self.container_files.add_upload(owner, container_id, upload)
        return container_id

    async def _shareable(
        self, owner: str, container_id: str, auto: ContainerAuto, network: NetworkPlan, where: str
    ) -> ContainerRecord:
        """The container that another tool of the request has, unless this one asks for another kind."""
        found = await self.containers.get(owner, container_id)
        if auto.network_policy is not None and found.network != network.stored:
            raise ApiError(
                "Tools of one request share one container, whose network policy is another one.",
                code="invalid_value",
                param=f"{where}.network_policy",
            )
        if not self.containers.isolates(found, auto.isolation):
            raise ApiError(
                f"Tools of one request share one container, which is not isolated as '{auto.isolation}' is.",
                code="invalid_value",
                param=f"{where}.isolation",
            )
        return found

    def _suits(self, record: ContainerRecord, auto: ContainerAuto, network: NetworkPlan) -> bool:
        return record.network == network.stored and self.containers.isolates(record, auto.isolation)

    async def _earlier(self, owner: str, context: Sequence[Item]) -> ContainerRecord | None:
        """The container of the newest call in `context` that ran in one, if it can be used.

        A conversation does not end because its computer did.
        """
        container_id = last_used(context)
        if container_id is None:
            return None
        try:
            return await self.containers.alive(owner, container_id)
        except Elsewhere:
            raise
        except (ApiError, SandboxError):
            return None


def last_used(context: Sequence[Item]) -> str | None:
    """The container of the newest call in `context` that ran in one."""
    return next((used for item in reversed(context) if (used := ran_in(item)) is not None), None)


def ran_in(item: Item) -> str | None:
    """The container in which this server ran a call."""
    match item:
        case ShellCall(environment=ContainerReference(container_id=container_id)):
            return container_id
        case ApplyPatchCall(environment=ContainerReference(container_id=container_id)):
            return container_id
        case CodeInterpreterCall(container_id=container_id):
            return container_id or None
        case _:
            return None


def environment(tool: Tool) -> ContainerAuto | ContainerReference | None:
    """Where this server shall run a tool's calls; None if it shall not."""
    match tool:
        case ShellTool(environment=ContainerAuto() | ContainerReference() as found):
            return found
        case ApplyPatchTool(environment=ContainerAuto() | ContainerReference() as found):
            return found
        case CodeInterpreterTool(container=str(container_id)):
            return ContainerReference(container_id=container_id)
        case CodeInterpreterTool(container=CodeInterpreterAuto() as auto):
            return ContainerAuto(**msgspec.structs.asdict(auto))
        case _:
            return None


def inside(tool: Tool, place: ContainerAuto | ContainerReference) -> Tool:
    """The tool with another environment."""
    match tool, place:
        case ((ShellTool() | ApplyPatchTool()), _):
            return msgspec.structs.replace(tool, environment=place)
        case CodeInterpreterTool(), ContainerReference(container_id=container_id):
            return msgspec.structs.replace(tool, container=container_id)
        case CodeInterpreterTool(), ContainerAuto():
            return msgspec.structs.replace(tool, container=CodeInterpreterAuto())
        case _:
            raise AssertionError(f"{tool.type} has no environment")


def shown(asked: Tool, placed: Tool) -> Tool:
    """The tool as the response echoes it: resolved, but for `code_interpreter`, which stays as asked (recorded)."""
    return asked if isinstance(asked, CodeInterpreterTool) else placed


def container_of(tools: Sequence[Tool]) -> str | None:
    """The container in which a request's tools run."""
    return next(
        (found.container_id for tool in tools if isinstance(found := environment(tool), ContainerReference)), None
    )
