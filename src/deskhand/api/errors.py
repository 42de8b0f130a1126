"""Exceptions become answers here and nowhere else, in OpenAI's error shape (API reference, "Errors")."""

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..core.errors import ApiError, DeskhandError, StoreUnavailable
from ..ports.sandbox import SandboxError, SandboxGone, SnapshotGone
from ..wire.codec import encode

log = structlog.get_logger()


def error_body(exc: ApiError) -> bytes:
    """The JSON body of an error."""
    return encode({"error": error_fields(exc)})


def error_fields(exc: ApiError) -> dict[str, str | None]:
    """The error as the API shows it."""
    return {"message": exc.message, "type": exc.kind, "param": exc.param, "code": exc.code}


def answer(exc: ApiError) -> Response:
    """The HTTP answer of an error. A 409 or a permanent 503 is marked as not worth a retry."""
    headers = {}
    if exc.retry_after is not None:
        headers["retry-after"] = str(exc.retry_after)
        headers["x-should-retry"] = "true"
    elif exc.status >= 500 or exc.status == 409:
        headers["x-should-retry"] = "false"
    if exc.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(error_body(exc), status_code=exc.status, media_type="application/json", headers=headers)


async def on_error(request: Request, exc: Exception) -> Response:
    """The answer for whatever rose out of a route."""
    return answer(as_api_error(exc, request.url.path))


def as_api_error(exc: Exception, path: str) -> ApiError:
    """Any exception as an `ApiError`; an unexpected one is logged with its traceback and shown as a 500."""
    match exc:
        case ApiError():
            return exc
        case ClientDisconnect():
            return ApiError("The client went away before its request was complete.")
        case StoreUnavailable():
            return ApiError(str(exc), status=503, code="storage_unavailable", kind="server_error", retry_after=5)
        case SandboxGone():
            return ApiError("Container is expired.")
        case SnapshotGone():  # deleted while it was about to be used
            return ApiError("The snapshot was deleted.", status=404, code="snapshot_not_found")
        case SandboxError() | DeskhandError():
            log.error("request.failed", path=path, error=str(exc))
            return ApiError(str(exc), status=503, kind="server_error", code="server_error", retry_after=5)
        case _:
            log.error("request.crashed", path=path, exc_info=exc)
            return ApiError(
                "The server had an error while processing your request. The log has the details under this "
                "request's x-request-id.",
                status=500,
                kind="server_error",
                code="server_error",
            )
