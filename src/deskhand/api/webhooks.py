"""`/v1/webhook_endpoints` and `/v1/webhook_event_types`. The log of deliveries is ours."""

from dataclasses import dataclass

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..engine.webhooks import Webhooks
from ..ports.webhooks import DeliveryRecord, EndpointRecord
from ..wire.webhooks import (
    EVENT_TYPES,
    CreateWebhookEndpoint,
    RotateWebhookSecret,
    TestWebhookEndpoint,
    UpdateWebhookEndpoint,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookTestResult,
)
from .bodies import checked, listing, read_body, read_json, read_object, read_page
from .json import json

MAX_JSON_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class WebhooksApi:
    """Make, list, read, change, test and delete endpoints; look at what was sent to them."""

    webhooks: Webhooks

    def routes(self) -> list[Route]:
        """The routes of these resources."""
        one, deliveries = "/v1/webhook_endpoints/{id}", "/v1/webhook_endpoints/{id}/deliveries"
        return [
            Route("/v1/webhook_endpoints", self.create, methods=["POST"]),
            Route("/v1/webhook_endpoints", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/rotate_secret", self.rotate, methods=["POST"]),
            Route(one + "/test", self.test, methods=["POST"]),
            Route(deliveries, self.list_deliveries, methods=["GET"]),
            Route(deliveries + "/{delivery_id}/retry", self.retry, methods=["POST"]),
            Route("/v1/webhook_event_types", self.event_types, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_json(request, CreateWebhookEndpoint, MAX_JSON_BYTES)
        return json(_with_secret(*await self.webhooks.create(request.state.owner, body)))

    async def list(self, request: Request) -> Response:
        found = await self.webhooks.list(request.state.owner, read_page(request))
        return json(listing([_view(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json(_view(await self.webhooks.get(request.state.owner, request.path_params["id"])))

    async def update(self, request: Request) -> Response:
        body = await read_json(request, UpdateWebhookEndpoint, MAX_JSON_BYTES)
        return json(_view(await self.webhooks.update(request.state.owner, request.path_params["id"], body)))

    async def delete(self, request: Request) -> Response:
        endpoint_id = request.path_params["id"]
        await self.webhooks.delete(request.state.owner, endpoint_id)
        return json({"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})

    async def rotate(self, request: Request) -> Response:
        # All of it is optional, so some clients send no body at all.
        body = checked(read_object(await read_body(request, MAX_JSON_BYTES) or b"{}"), RotateWebhookSecret)
        overlap = body.keep_old_secret_active_for_24_hours is True
        made = await self.webhooks.rotate(request.state.owner, request.path_params["id"], overlap=overlap)
        return json(_with_secret(*made))

    async def test(self, request: Request) -> Response:
        endpoint_id = request.path_params["id"]
        body = await read_json(request, TestWebhookEndpoint, MAX_JSON_BYTES)
        status = await self.webhooks.test(request.state.owner, endpoint_id, body.event_type)
        return json(WebhookTestResult(webhook_endpoint_id=endpoint_id, event_type=body.event_type, status_code=status))

    async def list_deliveries(self, request: Request) -> Response:
        owner, endpoint_id = request.state.owner, request.path_params["id"]
        found = await self.webhooks.deliveries(owner, endpoint_id, read_page(request))
        return json(listing([_delivery(record) for record in found.data], has_more=found.has_more))

    async def retry(self, request: Request) -> Response:
        path = request.path_params
        return json(_delivery(await self.webhooks.retry(request.state.owner, path["id"], path["delivery_id"])))

    async def event_types(self, request: Request) -> Response:
        return json({"object": "list", "data": EVENT_TYPES})


def _view(record: EndpointRecord) -> WebhookEndpoint:
    return WebhookEndpoint(
        id=record.id,
        created_at=record.created_at,
        event_types=list(record.event_types),
        name=record.name,
        signing_secret_hint=record.hint,
        updated_at=record.updated_at,
        url=record.url,
    )


def _with_secret(record: EndpointRecord, secret: str) -> WebhookEndpointWithSecret:
    return WebhookEndpointWithSecret(**asdict(_view(record)), signing_secret=secret)


def _delivery(record: DeliveryRecord) -> WebhookDelivery:
    return WebhookDelivery(
        id=record.id,
        webhook_endpoint_id=record.endpoint_id,
        event_id=record.event_id,
        type=record.event_type,
        created_at=record.created_at,
        state=record.state,
        attempts=record.attempts,
        status_code=record.status_code or None,
        error=record.error or None,
        next_attempt_at=record.next_attempt_at if record.state == "pending" else None,
    )
