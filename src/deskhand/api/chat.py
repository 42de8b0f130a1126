"""`/v1/chat/completions`: answered, and kept where that is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..core.errors import ApiError
from ..engine.chat import Chats
from ..engine.chat_in import read_chat
from ..engine.completions import StoredCompletions
from ..engine.pages import cut
from ..ports.completions import CompletionFilter, CompletionRecord
from ..wire.chat import UpdateChatCompletion
from .bodies import drop_body, listing, read_body, read_json, read_object, read_page
from .json import json
from .spoken import spoken, too_deep
from .stream import unless_gone

_MOST_FILTERS = 16


@dataclass(frozen=True, slots=True)
class ChatApi:
    """Create, list, retrieve, change and delete chat completions."""

    chats: Chats
    stored: StoredCompletions
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        every = "/v1/chat/completions"
        one = every + "/{id}"
        return [
            Route(every, self.create, methods=["POST"]),
            Route(every, self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/messages", self.messages, methods=["GET"]),
        ]

    async def create(self, request: Request) -> ASGIApp:
        owner = request.state.owner
        with too_deep():
            asked = read_chat(read_object(await read_body(request, self.max_body_bytes)))
            drop_body(request)
            if asked.asked.stream:
                return await spoken(request, self.chats.stream(owner, asked))
            return json(await unless_gone(request.receive, self.chats.whole(owner, asked)))

    async def list(self, request: Request) -> Response:
        page = read_page(request, default_order="asc")
        found = await self.stored.list(request.state.owner, page, _filter(request))
        return json(listing([_view(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json(_view(await self.stored.get(request.state.owner, request.path_params["id"])))

    async def update(self, request: Request) -> Response:
        body = await read_json(request, UpdateChatCompletion, self.max_body_bytes)
        owner, completion_id = request.state.owner, request.path_params["id"]
        return json(_view(await self.stored.set_metadata(owner, completion_id, body.metadata or {})))

    async def delete(self, request: Request) -> Response:
        completion_id = request.path_params["id"]
        await self.stored.delete(request.state.owner, completion_id)
        return json({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})

    async def messages(self, request: Request) -> Response:
        page = read_page(request, default_order="asc")
        found = [_Message(one) for one in await self.stored.messages(request.state.owner, request.path_params["id"])]
        shown = cut(found if page.order == "asc" else found[::-1], page, "Message")
        return json(listing([message.fields for message in shown.data], has_more=shown.has_more))


@dataclass(frozen=True, slots=True)
class _Message:
    fields: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.fields["id"])


def _view(record: CompletionRecord) -> Mapping[str, Any]:
    return {**record.body, "metadata": record.metadata}


def _filter(request: Request) -> CompletionFilter:
    """`model` and `metadata[key]=value` of a query string. Raises `ApiError`."""
    query = request.query_params
    metadata = {
        name.removeprefix("metadata[")[:-1]: value
        for name, value in query.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    if len(metadata) > _MOST_FILTERS:
        message = f"Invalid 'metadata': at most {_MOST_FILTERS} pairs."
        raise ApiError(message, code="array_above_max_length", param="metadata")
    return CompletionFilter(query.get("model") or None, metadata)
