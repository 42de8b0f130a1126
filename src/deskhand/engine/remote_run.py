"""How a run with remote MCP servers begins: what they offer is in the context, and what was approved is called."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress
from ..core.errors import UpstreamError
from ..ports.mcp import RemoteConnections, RemoteFailure
from ..ports.tool import NewId
from ..tools import mcp
from ..tools.registry import Toolbox
from ..wire.items import Item, McpCall, McpListTools
from .recorder import Recorder
from .remote_tools import Remote, RemoteSpec, listed, listings, newly_approved

_EVENT = "response.mcp_list_tools"


async def list_tools(
    remote: Remote, history: Sequence[Item], recorder: Recorder, connections: RemoteConnections, new_id: NewId
) -> Mapping[str, McpListTools]:
    """The list of each server, by its label: that of the context, or a new item. All are asked at the same time.

    Raises `UpstreamError` if one has none: the model would be without what the user wants used.
    """
    known = listings([*history, *recorder.produced])
    missing = [(McpListTools(id=new_id("mcpl"), server_label=s.label), s) for s in remote.specs if s.label not in known]
    for item, _ in missing:
        await recorder.record([Opened(item), Progress(item.id, f"{_EVENT}.in_progress")])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_asked(item, spec, connections)) for item, spec in missing]
    made = [task.result() for task in tasks]
    for item in made:
        await recorder.record([Progress(item.id, f"{_EVENT}.{'failed' if item.error else 'completed'}"), Closed(item)])
    await recorder.flush()
    for item in made:
        if item.error:
            raise UpstreamError(str(item.error), code="server_error")
    return known | {item.server_label: item for item in made}


async def call_approved(history: Sequence[Item], toolbox: Toolbox, recorder: Recorder, new_id: NewId) -> None:
    """Open the calls that the user has approved; those whose tool is not offered any more fail at once."""
    for request in newly_approved([*history, *recorder.produced]):
        drafts = mcp.approved(request, new_id)
        await recorder.record([*drafts, *_closing(drafts, toolbox)])
    await recorder.flush()


def _closing(drafts: Sequence[Draft], toolbox: Toolbox) -> Sequence[Draft]:
    match drafts[-1]:
        case Closed():  # its arguments are none
            return []
        case Progress():
            raise AssertionError("a reader ends with the whole call")
        case whole:
            assert isinstance(whole.item, McpCall)
            return [] if toolbox.runner(whole.item) else mcp.unknown(whole.item)


async def _asked(item: McpListTools, spec: RemoteSpec, connections: RemoteConnections) -> McpListTools:
    try:
        tools = await connections.tools(spec.server)
    except RemoteFailure as exc:
        message = f"Error retrieving tool list from MCP server '{spec.label}': {exc}"
        return msgspec.structs.replace(item, error=message)
    return msgspec.structs.replace(item, tools=listed(spec, tools))
