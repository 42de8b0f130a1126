"""JSON answers."""

from starlette.responses import Response

from ..wire.codec import encode


def json(value: object, status: int = 200) -> Response:
    """`value` as a JSON answer."""
    return Response(encode(value), status_code=status, media_type="application/json")
