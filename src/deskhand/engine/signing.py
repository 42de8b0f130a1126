"""Signatures of webhooks (Standard Webhooks), with secrets that are sealed at rest."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from .. import __version__
from ..egress.sealing import Sealer
from ..ports.webhooks import EndpointRecord

SECRET_BYTES: Final = 32
HINT_CHARACTERS: Final = 4

_PREFIX: Final = "whsec_"


class Signing:
    """Makes secrets of endpoints, and signs with them."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, secret: str, owner: str, endpoint_id: str) -> bytes:
        """The secret as it may be stored with this endpoint."""
        return self._sealer.seal(secret.encode(), _context(owner, endpoint_id))

    def headers(self, endpoint: EndpointRecord, delivery_id: str, body: str, now: int) -> Mapping[str, str]:
        """The headers of a delivery, signed with every secret that is in force at `now`. Raises `Unsealable`."""
        context = _context(endpoint.owner, endpoint.id)
        sealed = [endpoint.secret]
        if endpoint.previous is not None and endpoint.previous_until > now:
            sealed.append(endpoint.previous)
        moment = datetime.fromtimestamp(now, UTC)
        signatures = [
            Webhook(self._sealer.open(one, context).decode()).sign(delivery_id, moment, body) for one in sealed
        ]
        return {
            "content-type": "application/json",
            "user-agent": f"Deskhand/{__version__} (webhooks)",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(now),
            "webhook-signature": " ".join(signatures),
        }


def new_secret() -> str:
    """A secret as its receiver is given it: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def hint(secret: str) -> str:
    """What may be shown of a secret, to tell it from others."""
    return f"{_PREFIX}…{secret.rstrip('=')[-HINT_CHARACTERS:]}"


def _context(owner: str, endpoint_id: str) -> Sequence[str]:
    return "webhook", owner, endpoint_id
