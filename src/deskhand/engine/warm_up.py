"""Requests that ask for no output: everything is checked, and what they bring can be continued from.

Source: API reference, "WebSocket mode" (`generate`) and "Prompt caching" (`prompt_cache_options.prewarm`).
"""

from collections.abc import AsyncGenerator
from typing import Any

from ..ports.model import ModelChunk, ModelEnd, ModelRequest
from ..ports.tool import ToolContext
from ..tools.registry import Toolbox
from ..wire.request import CreateResponse
from ..wire.response import Response
from .ids import new_id
from .run import Run


class Silent:
    """A `Model` that says nothing and costs nothing."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """One turn without a word."""
        yield ModelEnd("stop")


def generates(request: CreateResponse) -> bool:
    """Whether a request asks for output."""
    options = request.prompt_cache_options
    return request.generate is not False and not (options is not None and options.prewarm)


def warm_up(response: Response) -> Run:
    """The run of a response without output: no model is called, no tool is offered, no container is made."""
    return Run(response, (), Toolbox({}), Silent(), ModelRequest(response.model, ()), ToolContext(_none, _none, new_id))


async def _none(container_id: str, /, *, call_id: str = "") -> Any:
    raise AssertionError("a run without tools uses no container")
