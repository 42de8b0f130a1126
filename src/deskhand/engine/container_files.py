"""Files of containers: what the API lists, adds, reads and deletes under the working directory.

A name that is taken is not replaced: the new file becomes `name-1.ext`, `name-2.ext`, … Names are otherwise kept as
they were uploaded. A caller who gives an exact `path` replaces what is there.
"""

import asyncio
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ..core.errors import ApiError, not_found
from ..ports.sandbox import WORKDIR, FileInfo, SandboxGone, Workspace, WorkspaceError
from ..ports.store import ContainerFileRecord, ContainerStore, FileRecord, Listing, Page
from ..wire.containers import ContainerFile
from .containers import Containers
from .files import Files
from .ids import new_id
from .pages import cut

MAX_LISTED = 10_000
MAX_NAME_BYTES = 255
MAX_WALKS = 2
"""Walks through containers' files at a time: others' reads and writes must not wait for them."""


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The files in containers, by id."""

    containers: Containers
    store: ContainerStore
    files: Files
    now: Callable[[], float] = time.time
    walks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_WALKS))

    async def add(
        self, owner: str, container_id: str, filename: str, chunks: AsyncIterator[bytes], path: str | None = None
    ) -> ContainerFile:
        """Put bytes in a container under their own name, or at `path`. Raises `ApiError`."""
        workspace = await self.containers.workspace(owner, container_id)
        target = clean_path(path) if path else await _free_name(workspace, clean_name(filename))
        try:
            info = await workspace.write(target, chunks)
        except WorkspaceError as exc:
            raise ApiError(f"The file could not be added: {exc}", param="file") from exc
        record = ContainerFileRecord(new_id("cfile"), container_id, info.path, "user", int(self.now()))
        return _view(await self.store.add_file(record), info)

    async def add_upload(self, owner: str, container_id: str, upload: FileRecord) -> ContainerFile:
        """Put an uploaded file in a container."""
        return await self.add(owner, container_id, upload.filename, self.files.content(upload))

    async def has(self, owner: str, container_id: str, name: str) -> bool:
        """Whether a container's working directory has a file of this name. Raises `ApiError`."""
        return await (await self.containers.workspace(owner, container_id)).stat(name) is not None

    async def list(self, owner: str, container_id: str, page: Page) -> Listing[ContainerFile]:
        """A page of the container's files, by the time they were first seen."""
        found = await self._scan(owner, container_id)
        files = sorted(found, key=lambda file: (file.created_at, file.path), reverse=page.order == "desc")
        return cut(files, page, "Container file")

    async def all(self, owner: str, container_id: str) -> Sequence[ContainerFile]:
        """Every file that is there now, up to `MAX_LISTED`. Raises `ApiError`."""
        return await self._scan(owner, container_id)

    async def get(self, owner: str, container_id: str, file_id: str) -> ContainerFile:
        """One file. Raises `ApiError` (404)."""
        return (await self._find(owner, container_id, file_id))[1]

    async def content(self, owner: str, container_id: str, file_id: str) -> tuple[ContainerFile, AsyncIterator[bytes]]:
        """One file and its bytes. Raises `ApiError` (404)."""
        workspace, file = await self._find(owner, container_id, file_id)
        return file, workspace.read(posixpath.relpath(file.path, WORKDIR))

    async def delete(self, owner: str, container_id: str, file_id: str) -> None:
        """Remove one file. Raises `ApiError` (404)."""
        workspace, file = await self._find(owner, container_id, file_id)
        await workspace.delete(posixpath.relpath(file.path, WORKDIR))
        await self.store.delete_file(container_id, file_id)

    async def _find(self, owner: str, container_id: str, file_id: str) -> tuple[Workspace, ContainerFile]:
        workspace = await self.containers.workspace(owner, container_id)
        record = await self.store.file(container_id, file_id)
        info = await workspace.stat(record.path) if record else None
        if record is None or info is None:
            raise not_found("Container file", file_id)
        return workspace, _view(record, info)

    async def _scan(self, owner: str, container_id: str) -> Sequence[ContainerFile]:
        """What is there now: files without an id get one, as the assistant's."""
        record = await self.containers.get(owner, container_id)
        if record.state == "reserved":
            await self.containers.alive(owner, container_id)
            return []
        workspace = await self.containers.workspace(owner, container_id)
        try:
            async with self.walks:
                found = await workspace.list(MAX_LISTED)
        except SandboxGone:
            return []
        known = {record.path: record for record in await self.store.files(container_id)}
        if len(known) > MAX_LISTED:
            await self._forget_vanished(container_id, known.values(), {info.path for info in found})
        fresh = [
            ContainerFileRecord(new_id("cfile"), container_id, info.path, "assistant", int(info.modified_at))
            for info in found
            if info.path not in known
        ]
        # Together, so that thousands of new files share their commits.
        for asked, kept in zip(fresh, await asyncio.gather(*map(self.store.add_file, fresh)), strict=True):
            known[asked.path] = kept
        return [_view(known[info.path], info) for info in found]

    async def _forget_vanished(
        self, container_id: str, known: Iterable[ContainerFileRecord], present: Collection[str]
    ) -> None:
        """Keep a container that makes and removes files without end from filling the database with their ids."""
        vanished = [record.id for record in known if record.path not in present]
        await asyncio.gather(*(self.store.delete_file(container_id, file_id) for file_id in vanished))


def clean_name(filename: str, *, param: str = "file") -> str:
    """The last component of an uploaded name, kept exactly. Raises `ApiError` if it names no file."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    if name in {"", ".", ".."} or "\0" in name or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise ApiError(f"{filename!r} is not a usable file name.", code="invalid_value", param=param)
    return name


def clean_path(path: str) -> str:
    """A path relative to the working directory. Raises `ApiError` if it leads out of it."""
    inside = path.removeprefix(WORKDIR + "/") if path.startswith("/") else path
    parts = inside.split("/")
    if inside.startswith("/") or not all(parts) or any(p in {".", ".."} or "\0" in p for p in parts):
        raise ApiError(f"{path!r} is not a path under {WORKDIR}.", code="invalid_value", param="path")
    return inside


async def _free_name(workspace: Workspace, name: str) -> str:
    if await workspace.stat(name) is None:
        return name
    stem, suffix = posixpath.splitext(name)
    for number in range(1, 1000):
        if await workspace.stat(candidate := f"{stem}-{number}{suffix}") is None:
            return candidate
    raise ApiError(f"{name!r} is there a thousand times already.", param="file")


def _view(record: ContainerFileRecord, info: FileInfo) -> ContainerFile:
    return ContainerFile(
        id=record.id,
        bytes=info.bytes,
        container_id=record.container_id,
        created_at=record.created_at,
        path=f"{WORKDIR}/{record.path}",
        source=record.source,
    )
