"""The files under /mnt/data, reached from the host without trusting anything that the container has put there."""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from deskhand.ports.sandbox import FileInfo, SandboxGone, WorkspaceError

from . import beneath
from .threads import finish, own_thread

CHUNK: Final = 256 << 10
CHECKED_EVERY: Final = 16 << 20
"""How many bytes of an upload may pass between two looks at a quota that the file system does not keep."""
MAX_DEPTH: Final = 64
MAX_SCANNED: Final = 1_000_000
DRAFT_PREFIX: Final = ".deskhand-upload-"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
LATEST: Final = 253_402_300_799.0
"""The end of the year 9999: some file systems let a file be of any time that 64 bits can tell."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """A workspace on the host. `owner` is the uid that written files get, None to leave them to the server's user."""

    path: Path
    owner: int | None


class DirectoryWorkspace:
    """A `Workspace` over a directory.

    `locate` returns it, mounted, or raises `SandboxGone`; `full` says why nothing more may be written when
    a quota is used up that the file system does not keep by itself, else "". Both are called in a worker thread.

    Whoever changes anything has a thread of its own: a disk can hold it up for seconds, as while it is frozen.
    """

    def __init__(self, locate: Callable[[], Site], full: Callable[[], str]) -> None:
        self._locate = locate
        self._full = full

    async def list(self, limit: int) -> Sequence[FileInfo]:
        return await asyncio.to_thread(self._list, limit)

    async def stat(self, path: str) -> FileInfo | None:
        return await asyncio.to_thread(self._stat, path)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        fd = await finish(lambda: self._open(path), os.close)
        try:
            while chunk := await finish(lambda: _refusing(path, lambda: os.read(fd, CHUNK))):
                yield chunk
        finally:
            os.close(fd)

    async def write(self, path: str, chunks: AsyncIterator[bytes]) -> FileInfo:
        with own_thread() as thread:
            draft = await finish(lambda: self._begin(path), Draft.close, thread)
            unchecked = 0
            try:
                async for chunk in chunks:
                    await finish(partial(draft.append, chunk), thread=thread)
                    unchecked += len(chunk)
                    if unchecked >= CHECKED_EVERY:
                        await asyncio.to_thread(self._check_room, path)
                        unchecked = 0
                return await finish(draft.publish, thread=thread)
            finally:
                await finish(draft.close, thread=thread)

    async def delete(self, path: str) -> bool:
        with own_thread() as thread:
            return await finish(lambda: self._delete(path), thread=thread)

    def _root(self) -> int:
        return self._open_site(self._locate())

    def _open_site(self, site: Site) -> int:
        try:
            return os.open(site.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:  # it is not there, or its disk was shut down
            raise SandboxGone("the container has no workspace any more") from exc

    def _list(self, limit: int) -> Sequence[FileInfo]:
        root = self._root()
        try:
            found: list[FileInfo] = []
            for info in _walk(root):
                if len(found) >= limit:
                    break
                found.append(info)
            return found
        except OSError as exc:
            raise SandboxGone("the container ended while its files were listed") from exc
        finally:
            os.close(root)

    def _stat(self, path: str) -> FileInfo | None:
        try:
            check(path)
        except WorkspaceError:
            return None
        root = self._root()
        try:
            return _regular(root, path)
        finally:
            os.close(root)

    def _open(self, path: str) -> int:
        check(path)
        root = self._root()
        try:
            return _refusing(path, lambda: beneath.open_file(root, path))
        finally:
            os.close(root)

    def _begin(self, path: str) -> "Draft":
        parts = check(path)
        self._check_room(path)
        site = self._locate()
        root = self._open_site(site)
        try:
            folder = _refusing(path, lambda: _make_folders(root, parts[:-1], site.owner))
        finally:
            os.close(root)
        try:
            return _refusing(path, lambda: Draft(folder, path, parts[-1], site.owner))
        except BaseException:
            os.close(folder)
            raise

    def _check_room(self, path: str) -> None:
        words = self._full()
        if words:
            raise WorkspaceError(f"no room for {path!r}: {words}")

    def _delete(self, path: str) -> bool:
        try:
            parts = check(path)
        except WorkspaceError:
            return False
        root = self._root()
        try:
            folder = beneath.open_folder(root, "/".join(parts[:-1]) or ".", follow=True)
        except OSError:
            return False
        finally:
            os.close(root)
        try:
            return _refusing(path, lambda: _remove(folder, parts[-1]))
        finally:
            os.close(folder)


class Draft:
    """A file being written under another name in its own folder, published by a rename or removed."""

    def __init__(self, folder: int, path: str, name: str, owner: int | None) -> None:
        self._folder = folder
        self._path = path
        self._name = name
        self._draft: str | None = DRAFT_PREFIX + secrets.token_hex(8)
        self._fd = beneath.create_file(folder, self._draft, 0o644)
        try:
            os.fchmod(self._fd, 0o644)
            if owner is not None:
                os.fchown(self._fd, owner, owner)
        except OSError:  # the container ends
            os.close(self._fd)
            raise

    def append(self, chunk: bytes) -> None:
        """Raises `WorkspaceError` when there is no room."""
        view = memoryview(chunk)
        while view:
            written = _refusing(self._path, lambda rest=view: os.write(self._fd, rest))  # type: ignore[misc]
            view = view[written:]

    def publish(self) -> FileInfo:
        """Give the file its name, replacing what had it. Raises `WorkspaceError` if that is a folder."""
        draft, info = self._draft, _describe(self._path, os.fstat(self._fd))
        if draft is None:
            raise WorkspaceError(f"{self._path!r} was written already")
        self._keep_mode()
        _refusing(self._path, lambda: os.rename(draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder))
        self._draft = None
        return info

    def _keep_mode(self) -> None:
        """A script that is replaced stays executable."""
        with suppress(OSError):
            replaced = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(replaced):
                os.fchmod(self._fd, replaced & 0o777)

    def close(self) -> None:
        """Forget what was not published."""
        os.close(self._fd)
        if self._draft is not None:
            with suppress(OSError):  # the container has moved it, or is gone
                os.unlink(self._draft, dir_fd=self._folder)
        os.close(self._folder)


def check(path: str) -> Sequence[str]:
    """Split a path as the API wrote it. Raises `WorkspaceError` for what cannot name a file below the workspace."""
    parts = path.split("/")
    try:
        encoded = path.encode()
    except UnicodeEncodeError as exc:
        raise WorkspaceError(f"{path!r} is not a file name in UTF-8") from exc
    if not path or "\0" in path or len(encoded) > 4000 or len(parts) > MAX_DEPTH:
        raise WorkspaceError(f"{path[:200]!r} is not the path of a file in the workspace")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise WorkspaceError(f"{path[:200]!r} is not a path relative to the workspace")
    return parts


def _describe(path: str, status: os.stat_result) -> FileInfo:
    return FileInfo(path, status.st_size, min(max(status.st_mtime, 0.0), LATEST))


def _refusing(path: str, action: Callable[[], T]) -> T:
    """Translate the kernel's refusal into one that names the path and says why."""
    try:
        return action()
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise WorkspaceError(f"no room for {path!r}: the container's disk is full") from exc
        if exc.errno == errno.EIO:  # its disk was shut down
            raise SandboxGone(f"the container ended while {path!r} was being read or written") from exc
        if isinstance(exc, FileNotFoundError):
            raise WorkspaceError(f"there is no file {path!r}") from exc
        if exc.errno in (errno.EXDEV, errno.ELOOP):
            raise WorkspaceError(f"{path!r} is a link that leads out of the workspace") from exc
        raise WorkspaceError(f"{path!r} is not a regular file") from exc


def _remove(folder: int, name: str) -> bool:
    """Remove a regular file; False if there is none of this name. Raises `OSError`."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=folder)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    return True


def _make_folders(root: int, parts: Sequence[str], owner: int | None) -> int:
    """Open the folder at `parts`, making what is missing. Raises `OSError`."""
    here = os.dup(root)
    done: list[str] = []
    for part in parts:
        done.append(part)
        try:
            os.mkdir(part, 0o755, dir_fd=here)
            made = True
        except FileExistsError:
            made = False
        except OSError:
            os.close(here)
            raise
        try:
            below = beneath.open_folder(root, "/".join(done), follow=not made)
        finally:
            os.close(here)
        here = below
        if made and owner is not None:
            try:
                os.fchown(below, owner, owner)
            except OSError:
                os.close(below)
                raise
    return here


def _walk(root: int) -> Iterator[FileInfo]:
    """Yield regular files in the order of their paths, bounded in depth and in the number of entries looked at."""
    budget = MAX_SCANNED
    waiting: list[str] = [""]
    while waiting and budget > 0:
        path = waiting.pop()
        if path and not path.endswith("/"):
            info = _regular(root, path)
            if info is not None:
                yield info
            continue
        children = _children(root, path)
        budget -= len(children)
        waiting.extend(reversed(children))


def _children(root: int, folder: str) -> Sequence[str]:
    """The files and folders in `folder` by path, folders with a slash at the end, which is also how they sort."""
    if folder.count("/") > MAX_DEPTH:
        return []
    try:
        fd = beneath.open_folder(root, folder or ".", follow=False)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            found = [_label(folder, entry) for entry in entries]
    finally:
        os.close(fd)
    return sorted(path for path in found if path)


def _label(folder: str, entry: os.DirEntry[str]) -> str:
    """The path of an entry, or "" for what is not listed: links, devices, drafts, names that are not UTF-8."""
    if not _encodable(entry.name) or entry.name.startswith(DRAFT_PREFIX):
        return ""
    if entry.is_dir(follow_symlinks=False):
        return f"{folder}{entry.name}/"
    return folder + entry.name if entry.is_file(follow_symlinks=False) else ""


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _regular(root: int, path: str) -> FileInfo | None:
    try:
        return _describe(path, beneath.describe(root, path))
    except OSError:
        return None
