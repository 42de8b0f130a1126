"""The refusal of what the API knows and this version does not serve."""

from ..core.errors import ApiError


def not_yet(what: str, param: str) -> ApiError:
    """The 400 that names `what`: nothing that a request needs is left out in silence."""
    return ApiError(
        f"Unsupported parameter: {what} is not available in this version of Deskhand.",
        code="unsupported_parameter",
        param=param,
    )
