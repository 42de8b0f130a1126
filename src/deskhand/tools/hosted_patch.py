"""The `apply_patch` tool in a container that this server runs: any model edits files, no client is needed for it.

Deskhand's own: a request opts in with `{"type": "apply_patch", "environment": {"type": "container_auto"}}`. The items
are the API's (`apply_patch_call` and its output), whoever applies the edit.
"""

import asyncio
import posixpath
from collections.abc import AsyncIterator

import msgspec

from ..core.drafts import Closed, Opened
from ..core.errors import ToolFailure
from ..ports.model import FunctionDeclaration
from ..ports.sandbox import WORKDIR, Workspace, WorkspaceError
from ..ports.tool import NewId, Say, ToolContext
from ..wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    ContainerReference,
    CreateFile,
    DeleteFile,
    Item,
    PatchOperation,
    UpdateFile,
)
from . import v4a
from .apply_patch import ApplyPatchReader, ApplyPatchTool

MAX_FILE_BYTES = 4 << 20
"""Of a file that is changed, before and after."""

_WHERE = f" Paths are relative to {WORKDIR}. The edit is applied in your own Linux computer at once."


class HostedApplyPatchTool:
    """File edits in the container of this response, one after another in the order of their calls."""

    def __init__(self, container_id: str) -> None:
        self._container_id = container_id
        self._turn = asyncio.Lock()

    @property
    def hosted(self) -> bool:
        return True

    @property
    def declaration(self) -> FunctionDeclaration:
        told = ApplyPatchTool().declaration
        return FunctionDeclaration(told.name, told.description + _WHERE, told.parameters)

    def read(self, call_id: str, new_id: NewId) -> ApplyPatchReader:
        return ApplyPatchReader(call_id, new_id, ContainerReference(container_id=self._container_id))

    def runs(self, item: Item) -> bool:
        return isinstance(item, ApplyPatchCall) and isinstance(item.environment, ContainerReference)

    async def run(self, call: Item, context: ToolContext, say: Say) -> None:
        assert isinstance(call, ApplyPatchCall)
        item = ApplyPatchCallOutput(id=context.new_id("apco"), call_id=call.call_id)
        async with self._turn:
            await say(Opened(item))
            workspace = await context.workspace(self._container_id)
            try:
                words = await _apply(call.operation, workspace)
            except WorkspaceError as exc:
                raise ToolFailure(str(exc)) from exc
            await say(Closed(msgspec.structs.replace(item, output=words)))

    def refuse(self, call: Item, output_id: str, reason: str) -> Item:
        assert isinstance(call, ApplyPatchCall)
        return ApplyPatchCallOutput(id=output_id, call_id=call.call_id, status="failed", output=reason)


async def _apply(operation: PatchOperation, workspace: Workspace) -> str:
    """Do the edit and return what the model reads of it. Raises `ToolFailure`, `WorkspaceError`."""
    path = inside(operation.path)
    match operation:
        case CreateFile(diff=diff):
            if await workspace.stat(path) is not None:
                raise ToolFailure(f"{path} is there already: change it with update_file, or delete it first")
            await workspace.write(path, _chunks(await asyncio.to_thread(v4a.create, diff)))
            return f"Created {path}."
        case UpdateFile(diff=diff):
            text = await _text(path, workspace)
            await workspace.write(path, _chunks(await asyncio.to_thread(v4a.update, text, diff)))
            return f"Updated {path}."
        case DeleteFile():
            if not await workspace.delete(path):
                raise ToolFailure(f"there is no file {path}")
            return f"Deleted {path}."


def inside(path: str) -> str:
    """A path relative to the working directory, as a model may write it. Raises `ToolFailure` if it leads out."""
    cleaned = posixpath.normpath(posixpath.join(WORKDIR, path))
    if "\0" in path or not cleaned.startswith(WORKDIR + "/"):
        raise ToolFailure(
            f"{path[:200]!r} is not below {WORKDIR}, where edits are made; use the shell for other places"
        )
    return posixpath.relpath(cleaned, WORKDIR)


async def _text(path: str, workspace: Workspace) -> str:
    info = await workspace.stat(path)
    if info is None:
        raise ToolFailure(f"there is no file {path}; make it with create_file")
    if info.bytes > MAX_FILE_BYTES:
        raise ToolFailure(f"{path} has {info.bytes} bytes, and edits go up to {MAX_FILE_BYTES}; use the shell")
    data = bytearray()
    async for chunk in workspace.read(path):
        data += chunk
        if len(data) > MAX_FILE_BYTES:  # it grows while it is read
            raise ToolFailure(f"{path} has more than {MAX_FILE_BYTES} bytes; use the shell")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolFailure(f"{path} is not UTF-8 text; use the shell") from None


async def _chunks(text: str) -> AsyncIterator[bytes]:
    yield text.encode("utf-8", "replace")
