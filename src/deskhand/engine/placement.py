"""Which container a request's tools use: the one they name, the conversation's, or a new one for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ..core.errors import ApiError
from ..wire.items import ApplyPatchCall, ContainerReference, Item, ShellCall
from ..wire.tools import AllowlistNetwork, ApplyPatchTool, ContainerAuto, ShellTool, Tool
from .container_files import ContainerFiles
from .containers import Containers, Order
from .files import Files
from .not_yet import not_yet


@dataclass(frozen=True, slots=True)
class Placement:
    """Resolves the environments of tools."""

    containers: Containers
    files: Files
    container_files: ContainerFiles

    async def place(self, owner: str, tools: Sequence[Tool], context: Sequence[Item]) -> list[Tool]:
        """Tools with `container_auto` resolved to a `ContainerReference`.

        All of a request's tools that leave the choice share one container: the conversation's if it lives, else a new
        one, which is only reserved. `context` is the conversation so far, whether the server or the client kept it.
        Raises `ApiError`.
        """
        placed: list[Tool] = []
        shared: str | None = None
        for index, tool in enumerate(tools):
            where = f"tools[{index}].environment"
            match environment(tool):
                case None:
                    placed.append(tool)
                case ContainerReference(container_id=container_id):
                    self.containers.require_engine()
                    await self.containers.alive(owner, container_id, param=f"{where}.container_id")
                    placed.append(tool)
                case ContainerAuto() as auto:
                    self.containers.require_engine()
                    shared = await self._auto(owner, auto, shared or await self._earlier(owner, context), where)
                    placed.append(inside(tool, shared))
        return placed

    async def _auto(self, owner: str, auto: ContainerAuto, container_id: str | None, where: str) -> str:
        """The container that `auto` gets: `container_id`, or a new one."""
        if isinstance(auto.network_policy, AllowlistNetwork):
            raise not_yet("network_policy 'allowlist'", f"{where}.network_policy")
        if auto.skills:
            raise not_yet("skills", f"{where}.skills")
        uploads = [
            await self.files.get(owner, file_id, param=f"{where}.file_ids[{index}]")
            for index, file_id in enumerate(auto.file_ids or [])
        ]
        if container_id is None:
            record = await self.containers.reserve(owner, Order(memory_limit=auto.memory_limit), where=f"{where}.")
            container_id = record.id
        for upload in uploads:
            await self.container_files.add_upload(owner, container_id, upload)
        return container_id

    async def _earlier(self, owner: str, context: Sequence[Item]) -> str | None:
        """The live container of the newest call in `context` that ran in one."""
        container_id = next((used for item in reversed(context) if (used := ran_in(item)) is not None), None)
        if container_id is None:
            return None
        try:
            return (await self.containers.alive(owner, container_id)).id
        except ApiError:
            return None


def ran_in(item: Item) -> str | None:
    """The container in which this server ran a call."""
    match item:
        case ShellCall(environment=ContainerReference(container_id=container_id)):
            return container_id
        case ApplyPatchCall(environment=ContainerReference(container_id=container_id)):
            return container_id
        case _:
            return None


def environment(tool: Tool) -> ContainerAuto | ContainerReference | None:
    """Where this server shall run a tool's calls; None if it shall not."""
    match tool:
        case ShellTool(environment=ContainerAuto() | ContainerReference() as found):
            return found
        case ApplyPatchTool(environment=ContainerAuto() | ContainerReference() as found):
            return found
        case _:
            return None


def inside(tool: Tool, container_id: str) -> Tool:
    """The tool with its environment resolved."""
    reference = ContainerReference(container_id=container_id)
    match tool:
        case ShellTool() | ApplyPatchTool():
            return msgspec.structs.replace(tool, environment=reference)
        case _:
            raise AssertionError(f"{tool.type} has no environment")


def container_of(tools: Sequence[Tool]) -> str | None:
    """The container in which a request's tools run."""
    return next(
        (found.container_id for tool in tools if isinstance(found := environment(tool), ContainerReference)), None
    )
