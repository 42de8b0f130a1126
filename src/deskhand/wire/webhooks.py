"""Webhooks: endpoints, the events that they are sent, and the log of deliveries (API reference, "Webhooks")."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct

EventType = Literal[
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "realtime.call.incoming",
    "video.completed",
    "video.failed",
    "agent.environment.ready",
    "agent.environment.failed",
    "agent.environment.suspended",
    "agent.environment.expired",
    "agent.session.created",
    "agent.session.action_required",
    "agent.session.in_progress",
    "agent.session.idle",
    "agent.session.failed",
    "safety.alert.created",
]
"""What an endpoint may be told of. Those of things that this server does not have are never sent."""

EVENT_TYPES: Final[tuple[str, ...]] = get_args(EventType)

LONGEST_NAME: Final = 256
LONGEST_URL: Final = 2048

EventTypes = Annotated[list[EventType], Meta(min_length=1, max_length=len(EVENT_TYPES))]
EndpointName = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
EndpointUrl = Annotated[str, Meta(min_length=1, max_length=LONGEST_URL)]


class CreateWebhookEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook_endpoints`."""

    name: EndpointName
    url: EndpointUrl
    event_types: EventTypes


class UpdateWebhookEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook_endpoints/{id}`; what is left out stays as it is."""

    name: EndpointName | None = None
    url: EndpointUrl | None = None
    event_types: EventTypes | None = None


class RotateWebhookSecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook_endpoints/{id}/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool | None = None


class TestWebhookEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook_endpoints/{id}/test`."""

    event_type: EventType


class WebhookEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint. `updated_at` is of the last change of its configuration or secret, its creation at first."""

    id: str
    created_at: int
    event_types: list[str]
    name: str
    signing_secret_hint: str
    updated_at: int
    url: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"


class WebhookEndpointWithSecret(WebhookEndpoint, frozen=True, kw_only=True):
    """An endpoint whose secret was made just now: the only time that it is told."""

    signing_secret: str


class WebhookTestResult(Struct, frozen=True, kw_only=True):
    """An endpoint answered a test event. `success` says just that; `status_code` is what it answered."""

    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """An event on its way to an endpoint. `id` is its `webhook-id` header; `error` is of the last attempt. Ours."""

    id: str
    webhook_endpoint_id: str
    event_id: str
    type: str
    created_at: int
    state: str
    attempts: int
    status_code: int | None
    error: str | None
    next_attempt_at: int | None
    object: Literal["webhook_delivery"] = "webhook_delivery"


class WebhookEvent(Struct, frozen=True, kw_only=True):
    """What an endpoint is sent. Thin: `data` names the object, which the receiver fetches."""

    id: str
    object: Literal["event"] = "event"
    type: str
    created_at: int
    data: Mapping[str, Any]
