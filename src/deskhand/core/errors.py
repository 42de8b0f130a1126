"""Everything that can go wrong, by who must act.

DeskhandError
├── ApiError            the caller's mistake: answered with a 4xx before anything is stored
├── ToolFailure         the model should read this and adapt: becomes an output item
├── UpstreamError       the model provider failed: retried if nothing was said yet, then `response.failed`
└── StoreUnavailable    the operator must act: answered with a 503, and nothing is lost that was acknowledged

Anything else that rises is our bug: logged with its traceback, answered as `server_error`.
"""


class DeskhandError(Exception):
    """Base of the errors that Deskhand raises on purpose."""


class ApiError(DeskhandError):
    """The request cannot be served. `status` is the HTTP status; `kind`, `code` and `param` are OpenAI's fields.

    `retry_after` is in seconds, for answers that should be tried again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.retry_after = retry_after


class ToolFailure(DeskhandError):
    """A tool could not do what the model asked; the message is written for the model."""


class UpstreamError(DeskhandError):
    """The model provider failed. `retryable` if trying again may help; `code` is a ResponseError code.

    `param` is the parameter that the provider disliked, if it named one.
    """

    param: str | None = None

    def __init__(
        self, message: str, *, code: str = "server_error", retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after


class ContextTooLong(UpstreamError):
    """The upstream says that the prompt does not fit its window."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="context_length_exceeded")


class NotServed(UpstreamError):
    """The upstream has no such endpoint, or no such model."""


def not_found(what: str, id_: str, *, param: str | None = None) -> ApiError:
    """A 404 that names the thing and its id."""
    return ApiError(f"{what} with id '{id_}' not found.", status=404, param=param)


def missing(path: str) -> ApiError:
    """A 400 for a parameter that is not there; `path` says where, as `input[0].id`."""
    return ApiError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def duplicate_item(item_id: str, param: str) -> ApiError:
    """A 400 for an item that is there already."""
    return ApiError(f"Duplicate item found with id {item_id}. Remove duplicate items.", param=param)


def conversation_locked() -> ApiError:
    """The 400 for whoever comes second: not a 409, which the SDK would try again (API reference, "Error catalogue")."""
    return ApiError(
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
        code="conversation_locked",
        param="conversation",
    )


class StoreUnavailable(DeskhandError):
    """The database or the disk does not take what must be kept. The message says what to do."""
