"""Chat completions: asked of whichever upstream serves the model, in its own words or through the model's port.

There is no run here, and no computer: the model says one thing, and the client runs what it calls.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..core.chat_fold import ChatFold, chunks_of, is_whole
from ..core.errors import ApiError, UpstreamError
from ..ports.chat import Document
from ..ports.model import FreeTextDeclaration, Model, ModelRequest
from ..ports.upstreams import Upstreams
from .chat_in import ChatRequest, model_request, read_chat, stops
from .chat_out import ChatWriter
from .completions import StoredCompletions
from .files import MAX_INLINE_BYTES, Files
from .ids import new_id
from .supervisor import Supervisor
from .upstream_failures import client_error

T = TypeVar("T")
Json = dict[str, Any]

_OURS: Final = frozenset({"store", "metadata"})
"""What of a request is this server's alone: the upstream is not to keep anything."""


@dataclass(frozen=True, slots=True)
class Chats:
    """Answers requests. Every one counts as a run of its project while it is answered, for `max_seconds` at most."""

    upstreams: Upstreams
    supervisor: Supervisor
    files: Files
    stored: StoredCompletions
    max_seconds: float

    async def whole(self, owner: str, request: ChatRequest) -> Json:
        """The completion. Raises `ApiError`."""
        fold = ChatFold()
        head = _head(request)
        async with aclosing(self._documents(owner, request)) as documents:
            async for document in documents:
                fold.feed(document)
        completion = {**fold.completion(), **head, "object": "chat.completion"}
        if request.asked.store:
            await self.stored.add(owner, request, completion)
        return completion

    async def stream(self, owner: str, request: ChatRequest) -> AsyncGenerator[Json, None]:
        """The chunks. Raises `ApiError`, also in the middle."""
        fold = ChatFold()
        head = _head(request)
        async with aclosing(self._documents(owner, request)) as documents:
            async for document in documents:
                if request.asked.store:
                    fold.feed(document)
                for chunk in _chunks(document, usage=request.told_usage):
                    yield {**chunk, **head, "object": "chat.completion.chunk"}
        if request.asked.store:
            await self.stored.add(owner, request, {**fold.completion(), **head, "object": "chat.completion"})

    async def _documents(self, owner: str, request: ChatRequest) -> AsyncGenerator[Document, None]:
        """What the upstream says, as it says it. Raises `ApiError`."""
        deadline = asyncio.get_running_loop().time() + self.max_seconds
        with self.supervisor.counting(owner):
            try:
                async with aclosing(await self._asked(owner, request)) as said:
                    while (document := await self._next(said, deadline)) is not None:
                        yield document
            except UpstreamError as exc:
                raise client_error(exc) from exc

    async def _asked(self, owner: str, request: ChatRequest) -> AsyncGenerator[Document, None]:
        resolved = await self.upstreams.resolve(request.asked.model)
        model = resolved.generator()
        request = await self._with_files(owner, request)
        if resolved.chat is not None:
            return resolved.chat.complete(_passed_on(request, resolved.upstream_name))
        call = model_request(request, resolved.upstream_name, foreign_tools=resolved.foreign_tools)
        return _translated(model, call, request)

    async def _next(self, said: AsyncIterator[T], deadline: float) -> T | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(said, None)
        except TimeoutError:
            limit = f"{self.max_seconds:g} s (max_run_seconds)"
            raise UpstreamError(f"The completion reached this server's limit of {limit}.") from None

    async def _with_files(self, owner: str, request: ChatRequest) -> ChatRequest:
        """The request with the files that it names by id in the place of the ids. Raises `ApiError`."""
        found: dict[tuple[int, int], Json] = {}
        left = MAX_INLINE_BYTES
        for index, at, file_id in _file_ids(request.body):
            where = f"messages[{index}].content[{at}].file.file_id"
            record = await self.files.get(owner, file_id, param=where)
            left -= record.bytes
            if left < 0:
                message = f"The files of a request have at most {MAX_INLINE_BYTES} bytes together."
                raise ApiError(message, code="invalid_value", param=where)
            data = await self.files.data_url(record, param=where)
            found[index, at] = {"type": "file", "file": {"filename": record.filename, "file_data": data}}
        if not found:
            return request
        messages = [
            {**message, "content": [found.get((index, at), part) for at, part in enumerate(message["content"])]}
            if isinstance(message.get("content"), list)
            else message
            for index, message in enumerate(request.body["messages"])
        ]
        return read_chat({**request.body, "messages": messages})


async def _translated(model: Model, call: ModelRequest, request: ChatRequest) -> AsyncGenerator[Document, None]:
    """What a model says that is not asked in the words of chat completions."""
    asked = request.asked
    free_text = frozenset(tool.name for tool in call.tools if isinstance(tool, FreeTextDeclaration))
    legacy = asked.functions is not None and not asked.tools
    usage = not asked.stream or request.told_usage
    writer = ChatWriter(free_text, stops(asked), usage=usage, legacy=legacy)
    begun = False
    async with aclosing(model.stream(call)) as said:
        async for chunk in said:
            # Not before the model has said something: what fails until then has a status of its own.
            if not begun:
                begun = True
                yield writer.begin()
            for document in writer.feed(chunk):
                yield document
            if writer.over:
                return


def _chunks(document: Document, *, usage: bool) -> Iterator[Mapping[str, Any]]:
    """The chunks in what an upstream said: one, or all if it said the whole at once."""
    if is_whole(document):
        yield from chunks_of(document, usage=usage)
    else:
        yield document


def _head(request: ChatRequest) -> Json:
    """What is the same in all that is said: upstreams' ids are not always unique, and aliases are the operator's."""
    return {"id": new_id("chatcmpl"), "created": int(time.time()), "model": request.asked.model}


def _passed_on(request: ChatRequest, model: str) -> Json:
    """The body as the upstream gets it. Nulls count as left out, and nothing is padded on the way to here."""
    body = {name: value for name, value in request.body.items() if value is not None and name not in _OURS}
    if request.asked.stream_options is not None:
        options = request.body["stream_options"]
        body["stream_options"] = {name: value for name, value in options.items() if name != "include_obfuscation"}
    if not body.get("stream_options"):
        body.pop("stream_options", None)
    return {**body, "model": model}


def _file_ids(body: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    """The message, the part and the id of each file that is named by its id."""
    for index, message in enumerate(body["messages"]):
        content = message.get("content")
        for at, part in enumerate(content if isinstance(content, list) else ()):
            match part:
                case {"type": "file", "file": {"file_id": str(file_id)}}:
                    yield index, at, file_id
                case _:
                    pass
