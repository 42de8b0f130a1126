"""`/v1/conversations` and their items."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError
from ..engine.conversations import Conversations
from ..ports.conversations import ConversationRecord
from ..wire.conversations import Conversation, CreateConversation, CreateItems, UpdateConversation
from .bodies import listing, read_json, read_page
from .json import json
from .view import read_view


@dataclass(frozen=True, slots=True)
class ConversationsApi:
    """Create, read, change and delete conversations and their items."""

    conversations: Conversations
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one = "/v1/conversations/{id}"
        items, item = one + "/items", one + "/items/{item_id}"
        return [
            Route("/v1/conversations", self.create, methods=["POST"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(items, self.create_items, methods=["POST"]),
            Route(items, self.list_items, methods=["GET"]),
            Route(item, self.retrieve_item, methods=["GET"]),
            Route(item, self.delete_item, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_json(request, CreateConversation, self.max_body_bytes)
        try:
            record = await self.conversations.create(request.state.owner, body.items or (), body.metadata or {})
        except RecursionError:
            raise _too_deep() from None
        return json(_view(record))

    async def retrieve(self, request: Request) -> Response:
        return json(_view(await self.conversations.get(request.state.owner, request.path_params["id"])))

    async def update(self, request: Request) -> Response:
        body = await read_json(request, UpdateConversation, self.max_body_bytes)
        owner, conversation_id = request.state.owner, request.path_params["id"]
        return json(_view(await self.conversations.set_metadata(owner, conversation_id, body.metadata or {})))

    async def delete(self, request: Request) -> Response:
        conversation_id = request.path_params["id"]
        await self.conversations.delete(request.state.owner, conversation_id)
        return json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    async def create_items(self, request: Request) -> Response:
        view = read_view(request)
        body = await read_json(request, CreateItems, self.max_body_bytes)
        owner, conversation_id = request.state.owner, request.path_params["id"]
        try:
            added = await self.conversations.append(owner, conversation_id, body.items)
        except RecursionError:
            raise _too_deep() from None
        return json(listing([view.item(item) for item in added], has_more=False))

    async def list_items(self, request: Request) -> Response:
        page, view = read_page(request), read_view(request)
        found = await self.conversations.items(request.state.owner, request.path_params["id"], page)
        return json(listing([view.item(item) for item in found.data], has_more=found.has_more))

    async def retrieve_item(self, request: Request) -> Response:
        path, view = request.path_params, read_view(request)
        return json(view.item(await self.conversations.item(request.state.owner, path["id"], path["item_id"])))

    async def delete_item(self, request: Request) -> Response:
        path = request.path_params
        return json(_view(await self.conversations.delete_item(request.state.owner, path["id"], path["item_id"])))


def _view(record: ConversationRecord) -> Conversation:
    return Conversation(id=record.id, created_at=record.created_at, metadata=dict(record.metadata))


def _too_deep() -> ApiError:
    return ApiError("The JSON body of your request is nested too deeply.", code="invalid_json")
