"""Images and files that a request names: made into data that the model reads, or into files in its computer."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urldefrag, urlsplit

import msgspec

from ..core.errors import ApiError, missing
from ..egress.fetch import Fetcher, FetchFailed
from ..egress.urls import parse_url
from ..ports.sandbox import WORKDIR
from ..ports.store import FileRecord
from ..wire.items import (
    ComputerCallOutput,
    ComputerScreenshot,
    CustomToolCallOutput,
    FunctionCallOutput,
    Item,
    Message,
)
from ..wire.parts import InputFile, InputImage, InputText, Part
from .container_files import ContainerFiles, clean_name
from .files import MAX_INLINE_BYTES, Files, data_url, decode_data_url
from .placement import ran_in
from .readable_files import ReadableFiles

MOST_SAID: Final = 128 << 20
"""Characters that all files and images which a prompt names come to: of its new items, and of the earlier ones."""
MOST_SECONDS: Final = 300.0
"""In which the files at URLs come, of the new items and of the earlier ones."""
MAX_NAME_CHARACTERS: Final = 60
"""Of a name that is taken from a URL: in UTF-8 they are fewer bytes than a file's name may have."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """Reads what messages and tool outputs carry besides text."""

    files: Files
    container_files: ContainerFiles
    fetcher: Fetcher
    readable: ReadableFiles

    async def check(self, owner: str, given: Sequence[Item], param: str = "input") -> None:
        """Raise `ApiError` for the first thing in new items that cannot be read, before anything is put anywhere."""
        for index, item in enumerate(given):
            match item:
                case Message(content=parts):
                    where = f"{param}[{index}].content"
                case FunctionCallOutput(output=tuple(parts)) | CustomToolCallOutput(output=tuple(parts)):
                    where = f"{param}[{index}].output"
                case ComputerCallOutput(output=ComputerScreenshot(file_id=str(file_id))):
                    await self.files.get(owner, file_id, param=f"{param}[{index}].output.file_id")
                    continue
                case _:
                    continue
            for n, part in enumerate(parts):
                await self._check_part(part, owner, f"{where}[{n}]")

    async def read(
        self, owner: str, items: Sequence[Item], container_id: str | None, *, new_from: int, reads_files: bool
    ) -> Sequence[Item]:
        """Items as the model reads them. Those before `new_from` are of earlier turns.

        Images become data URLs. Files of messages are put in the container, if there is one and they are not in it
        yet, with a note that says where; else, and in tool outputs, they become data for an upstream that
        `reads_files`, and text and pictures for others. What cannot be read is an `ApiError` in new items, and a note
        in earlier ones.
        """
        rooms = {True: _Room(), False: _Room()}
        used = _last_use(items, container_id)
        read: list[Item] = []
        for index, item in enumerate(items):
            new, where = index >= new_from, f"input[{index - new_from}]"
            room = rooms[new]
            match item:
                case Message(content=parts):
                    # What was said before the container was last used was put there then. What came later is of this
                    # request or was added to the conversation, or is there and was not looked at.
                    place = _Place(owner, container_id, new, reads_files, room, add=index > used)
                    content = await self._parts(parts, place, f"{where}.content")
                    read.append(msgspec.structs.replace(item, content=content))
                case FunctionCallOutput(output=tuple(parts)) | CustomToolCallOutput(output=tuple(parts)):
                    output = await self._parts(parts, _Place(owner, None, new, reads_files, room), f"{where}.output")
                    read.append(msgspec.structs.replace(item, output=output))
                case ComputerCallOutput(output=shot):
                    seen = await self._screenshot(shot, _Place(owner, None, new, reads_files, room), f"{where}.output")
                    read.append(msgspec.structs.replace(item, output=seen))
                case _:
                    read.append(item)
        return read

    async def _screenshot(self, shot: ComputerScreenshot, place: "_Place", where: str) -> ComputerScreenshot:
        if not isinstance(shot.file_id, str):
            return shot
        match await self._readable(InputImage(file_id=shot.file_id), place, where):
            case (InputImage(image_url=str(url)),):
                return msgspec.structs.replace(shot, image_url=url, file_id=msgspec.UNSET)
            case _:
                return msgspec.structs.replace(shot, file_id=msgspec.UNSET)

    async def _parts(self, parts: Sequence[Part], place: "_Place", where: str) -> tuple[Part, ...]:
        read = [await self._readable(part, place, f"{where}[{index}]") for index, part in enumerate(parts)]
        return tuple(itertools.chain.from_iterable(read))

    async def _readable(self, part: Part, place: "_Place", where: str) -> Sequence[Part]:
        try:
            read = await self._part(part, place, where)
            if all(one is not part for one in read):
                place.room.say(read, where)
            return read
        except ApiError:
            if place.new:
                raise
            # A file that was deleted since must not end a conversation that mentions it.
            return (InputText(text="[a file or image that is no longer there, or too large beside the others]"),)

    async def _check_part(self, part: Part, owner: str, where: str) -> None:
        match part:
            case InputImage(file_id=str(file_id)):
                await self.files.get(owner, file_id, param=f"{where}.file_id")
            case InputFile():
                await self._source(part, owner, where)

    async def _part(self, part: Part, place: "_Place", where: str) -> Sequence[Part]:
        match part:
            case InputImage(file_id=str(file_id)):
                place.room.check(where)
                record = await self.files.get(place.owner, file_id, param=f"{where}.file_id")
                url = await self.files.data_url(record, param=f"{where}.file_id")
                return (msgspec.structs.replace(part, image_url=url, file_id=None),)
            case InputFile():
                place.room.check(where)
                source = await self._source(part, place.owner, where)
                if place.container_id is not None:
                    return (await self._staged(source, place, where),)
                return await self._said(part, source, place, where)
            case _:
                return (part,)

    async def _source(self, part: InputFile, owner: str, where: str) -> "_Source":
        """Where a file's bytes are, and its name. Raises `ApiError`."""
        named = part.filename if isinstance(part.filename, str) and part.filename else None
        match part:
            case InputFile(file_id=str(file_id)):
                record = await self.files.get(owner, file_id, param=f"{where}.file_id")
                return _Source(clean_name(record.filename), record)
            case InputFile(file_data=str(data)):
                content = decode_data_url(data, param=f"{where}.file_data")
                if len(content) > MAX_INLINE_BYTES:
                    message = f"'{named or 'file'}' has {len(content)} bytes; at most {MAX_INLINE_BYTES}."
                    raise ApiError(message, param=where)
                return _Source(clean_name(named or "file", param=f"{where}.filename"), content)
            case InputFile(file_url=str(url)):
                try:
                    parse_url(urldefrag(url).url)
                except ValueError as exc:
                    message = f"The file_url cannot be used: {exc}."
                    raise ApiError(message, code="invalid_value", param=f"{where}.file_url") from None
                return _Source(clean_name(named or _name_in(url), param=f"{where}.filename"), url)
            case _:
                raise missing(f"{where}.file_id")

    async def _said(self, part: InputFile, source: "_Source", place: "_Place", where: str) -> Sequence[Part]:
        """A file as the model is told it that has no computer. Raises `ApiError`."""
        content = await self._content(source, place.room, where)
        if place.new:
            place.room.take(len(content), where)
        if place.reads_files:
            detail = part.detail
            return (InputFile(file_data=_data_url(part, source, content), filename=source.name, detail=detail),)
        detail = part.detail if isinstance(part.detail, str) else "auto"
        return await self.readable.parts(source.name, content, detail, where)

    async def _content(self, source: "_Source", room: "_Room", where: str) -> bytes:
        match source.bytes:
            case FileRecord() as record:
                if record.bytes > MAX_INLINE_BYTES:
                    raise ApiError(
                        f"File '{record.filename}' has {record.bytes} bytes; a prompt takes at most "
                        f"{MAX_INLINE_BYTES}.",
                        param=f"{where}.file_id",
                    )
                return b"".join([chunk async for chunk in self.files.content(record)])
            case bytes() as content:
                return content
            case str() as url:
                begun = time.monotonic()
                try:
                    return await self.fetcher.fetch(url, MAX_INLINE_BYTES)
                except FetchFailed as exc:
                    message = f"The file at file_url could not be fetched: {exc}."
                    raise ApiError(message, code="invalid_value", param=f"{where}.file_url") from None
                finally:
                    room.seconds -= time.monotonic() - begun

    async def _staged(self, source: "_Source", place: "_Place", where: str) -> Part:
        """A file in the model's computer, with a note that says where. Raises `ApiError`."""
        assert place.container_id is not None
        if await self._is_there(source.name, place):
            return _note(f"{WORKDIR}/{source.name}")
        if isinstance(source.bytes, FileRecord):
            added = await self.container_files.add_upload(place.owner, place.container_id, source.bytes)
            return _note(added.path)
        content = await self._content(source, place.room, where)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        added = await self.container_files.add(place.owner, place.container_id, source.name, chunks())
        return _note(added.path)

    async def _is_there(self, name: str, place: "_Place") -> bool:
        """Whether a file need not be put in the container. A new one goes beside an older one of its name."""
        assert place.container_id is not None
        if not place.add:
            return True
        return not place.new and await self.container_files.has(place.owner, place.container_id, name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where files go: a container, or a prompt that has `room`, for an upstream that `reads_files` or not.

    `new` files must be readable; without `add` they are in the container already.
    """

    owner: str
    container_id: str | None
    new: bool
    reads_files: bool
    room: "_Room"
    add: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of a message: its name, and its record, its bytes, or its URL."""

    name: str
    bytes: FileRecord | bytes | str


@dataclass(slots=True)
class _Room:
    """What files and images of a prompt may have together, and how long their URLs may take. Raises `ApiError`."""

    left: int = MAX_INLINE_BYTES
    characters: int = MOST_SAID
    seconds: float = MOST_SECONDS

    def take(self, size: int, where: str) -> None:
        """Take so many bytes of a new file (API reference, "Content parts")."""
        if size > self.left:
            message = f"The files of a prompt have at most {MAX_INLINE_BYTES} bytes together."
            raise ApiError(message, code="invalid_value", param=where)
        self.left -= size

    def say(self, parts: Sequence[Part], where: str) -> None:
        """Take what a file or image has become."""
        self.characters -= sum(map(_length, parts))
        self.check(where)

    def check(self, where: str) -> None:
        """There is something left of everything."""
        if self.characters < 0:
            message = f"The files and images that a prompt names come to at most {MOST_SAID} characters."
            raise ApiError(message, code="invalid_value", param=where)
        if self.seconds < 0:
            message = f"The files at URLs of a prompt take more than {MOST_SECONDS:g} s together."
            raise ApiError(message, code="invalid_value", param=where)


def _last_use(items: Sequence[Item], container_id: str | None) -> int:
    """The index of the newest call that ran in the container; -1 if there is none."""
    for index in reversed(range(len(items))):
        if container_id is not None and ran_in(items[index]) == container_id:
            return index
    return -1


def _length(part: Part) -> int:
    match part:
        case InputText(text=text):
            return len(text)
        case InputImage(image_url=str(data)) | InputFile(file_data=str(data)):
            return len(data)
        case _:
            return 0


def _note(path: str) -> InputText:
    return InputText(text=f"[The user's file is in your computer at {path}]")


def _name_in(url: str) -> str:
    """The name of a file as the end of its URL's path has it."""
    return unquote(urlsplit(url).path).replace("\0", "").rsplit("/", 1)[-1][-MAX_NAME_CHARACTERS:] or "file"


def _data_url(part: InputFile, source: _Source, content: bytes) -> str:
    """A file as a data URL; what came as one stays as it came."""
    if isinstance(source.bytes, bytes) and isinstance(part.file_data, str):
        return part.file_data
    return data_url(source.name, content)
