"""What a failed upstream is to a client that is answered by the upstream itself, and not by a run. Pure."""

from ..core.errors import ApiError, ContextTooLong, NotServed, UpstreamError


def client_error(failure: UpstreamError) -> ApiError:
    """The answer for a failure before anything was said. What was worth trying again has been tried again already."""
    match failure:
        case ContextTooLong():
            return ApiError(failure.message, code="context_length_exceeded", param="messages")
        case NotServed():
            return ApiError(failure.message, status=404, code="model_not_found", param="model")
        case UpstreamError(code="invalid_prompt"):
            return ApiError(failure.message, code="invalid_prompt", param=failure.param)
        case UpstreamError(code="rate_limit_exceeded"):
            wait = max(1, round(failure.retry_after or 5))
            return ApiError(
                failure.message, status=429, code="rate_limit_exceeded", kind="requests", retry_after=min(wait, 3600)
            )
        case _:
            return ApiError(failure.message, status=502, code="server_error", kind="server_error")
