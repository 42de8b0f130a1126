"""Sample events for the test of an endpoint: of the shape of real ones, about things that do not exist. Pure."""

from collections.abc import Mapping
from typing import Any

from ..wire.webhooks import WebhookEvent
from .ids import new_id

_PREFIXES = {
    "batch": "batch",
    "response": "resp",
    "eval": "evalrun",
    "fine_tuning": "ftjob",
    "video": "video",
    "agent": "agent",
    "safety": "alert",
}


def sample(event_type: str, now: int) -> WebhookEvent:
    """An event of this type (one of `EVENT_TYPES`) that has just happened."""
    return WebhookEvent(id=new_id("evt"), type=event_type, created_at=now, data=_data(event_type))


def _data(event_type: str) -> Mapping[str, Any]:
    match event_type.split("."):
        case ["realtime", *_]:
            return {"call_id": new_id("rtc"), "sip_headers": []}
        case ["agent", "session", "action_required"]:
            return {"id": new_id("agent"), "required_action": {"type": "function_call"}}
        case ["agent", "session", _]:
            return {"id": new_id("agent"), "environment_type": "none"}
        case [family, *_]:
            return {"id": new_id(_PREFIXES[family])}
        case _:
            raise AssertionError(event_type)
