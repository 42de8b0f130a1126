"""The request of a background run as it is stored, for whoever takes the run up when its process has died.

Its input is stored as items, and what its containers need is with them. Tools that the upstream runs may have
credentials, without which it could not be asked again: such tools are sealed, for this response alone.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..core.errors import ApiError
from ..egress.sealing import Sealer, Unsealable
from ..wire.codec import decode, encode, plain
from ..wire.request import CreateResponse
from ..wire.tools import OpaqueTool, Tool
from .tools_in import without_secrets

_SEALED: Final = "deskhand_sealed"


def kept(request: CreateResponse, tools: Sequence[Tool], sealer: Sealer, place: Sequence[str]) -> CreateResponse:
    """The request with `tools`, which are in their containers, as it may be stored at `place`: owner and response."""
    return msgspec.structs.replace(request, input=None, tools=[_kept(tool, sealer, place) for tool in tools])


def opened(request: CreateResponse, sealer: Sealer, place: Sequence[str]) -> CreateResponse:
    """A request that was kept. Raises `ApiError` if its secrets cannot be opened."""
    try:
        tools = [_opened(tool, sealer, place) for tool in request.tools or ()]
    except (Unsealable, ValueError, TypeError):
        raise ApiError("The credentials of its tools cannot be opened; see `secret_key`.") from None
    return msgspec.structs.replace(request, tools=tools)


def _kept(tool: Tool, sealer: Sealer, place: Sequence[str]) -> Any:
    # The URL of a remote server may be a secret as a whole.
    if not isinstance(tool, OpaqueTool) or (tool.type != "mcp" and without_secrets(tool.fields) == tool.fields):
        return plain(tool)
    return {"type": _SEALED, "tool": base64.b64encode(sealer.seal(encode(tool.fields), _bound(place))).decode()}


def _opened(tool: Mapping[str, Any], sealer: Sealer, place: Sequence[str]) -> Any:
    if tool.get("type") != _SEALED:
        return tool
    return decode(sealer.open(base64.b64decode(tool["tool"]), _bound(place)))


def _bound(place: Sequence[str]) -> Sequence[str]:
    return ("request", *place)
