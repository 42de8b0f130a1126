"""Images and files that a request names: made into data that the model reads, or into files in its computer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.errors import ApiError
from ..ports.sandbox import WORKDIR
from ..ports.store import FileRecord
from ..wire.items import CustomToolCallOutput, FunctionCallOutput, Item, Message
from ..wire.parts import InputFile, InputImage, InputText, Part
from .container_files import ContainerFiles, clean_name
from .files import MAX_INLINE_BYTES, Files, decode_data_url
from .not_yet import not_yet
from .placement import ran_in


@dataclass(frozen=True, slots=True)
class Attachments:
    """Reads what messages and tool outputs carry besides text."""

    files: Files
    container_files: ContainerFiles

    async def check(self, owner: str, given: Sequence[Item], param: str = "input") -> None:
        """Raise `ApiError` for the first thing in new items that cannot be read, before anything is put anywhere."""
        for index, item in enumerate(given):
            match item:
                case Message(content=parts):
                    where = f"{param}[{index}].content"
                case FunctionCallOutput(output=tuple(parts)) | CustomToolCallOutput(output=tuple(parts)):
                    where = f"{param}[{index}].output"
                case _:
                    continue
            for n, part in enumerate(parts):
                await self._check_part(part, owner, f"{where}[{n}]")

    async def read(
        self, owner: str, items: Sequence[Item], container_id: str | None, *, new_from: int
    ) -> Sequence[Item]:
        """Items as the model reads them. Those before `new_from` are of earlier turns.

        Images become data URLs. Files of messages are put in the container, if there is one and they are not in it
        yet, with a note that says where; else, and in tool outputs, they become data. What cannot be read is an
        `ApiError` in new items, and a note in earlier ones.
        """
        used = _last_use(items, container_id)
        read: list[Item] = []
        for index, item in enumerate(items):
            new, where = index >= new_from, f"input[{index - new_from}]"
            match item:
                case Message(content=parts):
                    # What was said before the container was last used was put there then. What came later is of this
                    # request or was added to the conversation, or is there and was not looked at.
                    place = _Place(owner, container_id, new, add=index > used)
                    content = await self._parts(parts, place, f"{where}.content")
                    read.append(msgspec.structs.replace(item, content=content))
                case FunctionCallOutput(output=tuple(parts)) | CustomToolCallOutput(output=tuple(parts)):
                    output = await self._parts(parts, _Place(owner, None, new), f"{where}.output")
                    read.append(msgspec.structs.replace(item, output=output))
                case _:
                    read.append(item)
        return read

    async def _parts(self, parts: Sequence[Part], place: "_Place", where: str) -> tuple[Part, ...]:
        return tuple([await self._readable(part, place, f"{where}[{index}]") for index, part in enumerate(parts)])

    async def _readable(self, part: Part, place: "_Place", where: str) -> Part:
        try:
            return await self._part(part, place, where)
        except ApiError:
            if place.new:
                raise
            # A file that was deleted since must not end a conversation that mentions it.
            return InputText(text="[a file or image that is no longer there]")

    async def _check_part(self, part: Part, owner: str, where: str) -> None:
        match part:
            case InputImage(file_id=str(file_id)) | InputFile(file_id=str(file_id)):
                await self.files.get(owner, file_id, param=f"{where}.file_id")
            case _:
                await self._part(part, _Place(owner, None, new=True), where)

    async def _part(self, part: Part, place: "_Place", where: str) -> Part:
        match part:
            case InputImage(file_id=str(file_id)):
                record = await self.files.get(place.owner, file_id, param=f"{where}.file_id")
                url = await self.files.data_url(record, param=f"{where}.file_id")
                return msgspec.structs.replace(part, image_url=url, file_id=None)
            case InputFile(file_id=str(file_id)):
                record = await self.files.get(place.owner, file_id, param=f"{where}.file_id")
                if place.container_id is not None:
                    return await self._stage_upload(record, place)
                url = await self.files.data_url(record, param=f"{where}.file_id")
                return InputFile(file_data=url, filename=record.filename)
            case InputFile(file_data=str(data)):
                content = decode_data_url(data, param=f"{where}.file_data")
                name = part.filename if isinstance(part.filename, str) else "file"
                if len(content) > MAX_INLINE_BYTES:
                    raise ApiError(f"'{name}' has {len(content)} bytes; at most {MAX_INLINE_BYTES}.", param=where)
                if place.container_id is not None:
                    return await self._stage_bytes(clean_name(name), content, place)
                return part
            case InputFile(file_url=str()):
                raise not_yet("input_file by URL", f"{where}.file_url")
            case _:
                return part

    async def _stage_upload(self, record: FileRecord, place: "_Place") -> Part:
        assert place.container_id is not None
        if await self._is_there(clean_name(record.filename), place):
            return _note(f"{WORKDIR}/{clean_name(record.filename)}")
        return _note((await self.container_files.add_upload(place.owner, place.container_id, record)).path)

    async def _stage_bytes(self, name: str, content: bytes, place: "_Place") -> Part:
        async def chunks() -> Any:
            yield content

        assert place.container_id is not None
        if await self._is_there(name, place):
            return _note(f"{WORKDIR}/{name}")
        return _note((await self.container_files.add(place.owner, place.container_id, name, chunks())).path)

    async def _is_there(self, name: str, place: "_Place") -> bool:
        """Whether a file need not be put in the container. A new one goes beside an older one of its name."""
        assert place.container_id is not None
        if not place.add:
            return True
        return not place.new and await self.container_files.has(place.owner, place.container_id, name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where files go: a container, or none. `new` files must be readable; without `add` they are there already."""

    owner: str
    container_id: str | None
    new: bool
    add: bool = False


def _last_use(items: Sequence[Item], container_id: str | None) -> int:
    """The index of the newest call that ran in the container; -1 if there is none."""
    for index in reversed(range(len(items))):
        if container_id is not None and ran_in(items[index]) == container_id:
            return index
    return -1


def _note(path: str) -> InputText:
    return InputText(text=f"[The user's file is in your computer at {path}]")
