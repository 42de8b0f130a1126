"""Who is asking: a bearer key names a project. Keys are compared in constant time and never logged."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from ..core.errors import ApiError
from ..settings import ApiKey


class Keys:
    """The keys that this server accepts."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._digests = [(_digest(key.key), key.project) for key in keys]

    def owner(self, request: Request) -> str:
        """The project of the request's key. Raises `ApiError` (401)."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(
                "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer KEY'.",
                status=401,
            )
        found = None
        digest = _digest(key.strip())
        for known, project in self._digests:
            if hmac.compare_digest(known, digest):
                found = project
        if found is None:
            raise ApiError("Incorrect API key provided.", status=401, code="invalid_api_key")
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
