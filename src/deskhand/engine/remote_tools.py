"""Remote MCP servers as a request names them: checked, and read into what the engine uses. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import h11
import msgspec

from ..core.errors import ApiError, UpstreamError
from ..core.validation import api_error
from ..egress.urls import BadUrl, Url, parse_url
from ..ports.mcp import RemoteServer, RemoteServers, RemoteTool
from ..ports.model import ForeignChoice, NamedTool, PromptMessage, ToolChoice
from ..tools.mcp import McpTool, namespace, spoken_name
from ..tools.registry import Toolbox
from ..wire.codec import plain
from ..wire.items import Item, McpApprovalRequest, McpApprovalResponse, McpCall, McpListedTool, McpListTools, OpaqueItem
from ..wire.parts import InputText
from ..wire.tools import McpApprovals, McpFilter, OpaqueTool, Tool, decode_mcp
from ..wire.tools import McpTool as McpSpec

REMOTE: Final = "mcp"
_OURS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-type", "accept", "accept-encoding", "te"}
    | {"upgrade", "trailer", "expect", "keep-alive", "mcp-session-id", "mcp-protocol-version", "last-event-id"}
)
"""Headers that say how the connection is used, which is not the client's to say."""


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """A server of a request, and which of its tools are offered and may be called unasked."""

    server: RemoteServer
    description: str
    allowed: tuple[str, ...] | McpFilter | None
    approval: str | McpApprovals

    @property
    def label(self) -> str:
        """What the request calls the server."""
        return self.server.label

    def offers(self, tool: McpListedTool) -> bool:
        """Whether the model gets the tool."""
        match self.allowed:
            case None:
                return True
            case tuple(names):
                return tool.name in names
            case McpFilter() as wanted:
                return _matches(wanted, tool)

    def asks(self, tool: McpListedTool) -> bool:
        """Whether calls of the tool must be approved: so it is unless the request says that they need not be."""
        match self.approval:
            case McpApprovals(always=McpFilter() as always) if _is_any(always) and _matches(always, tool):
                return True
            case McpApprovals(never=McpFilter() as never) if _is_any(never):
                return not _matches(never, tool)
            case approval:
                return approval != "never"


@dataclass(frozen=True, slots=True)
class RemoteChoice:
    """The model must use a tool of this server, or this one."""

    label: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """The servers of a run. `choice` is the tool that must be used, `permitted` are those that may, if not all."""

    specs: Sequence[RemoteSpec]
    servers: RemoteServers
    choice: RemoteChoice | None = None
    permitted: Sequence[RemoteChoice] | None = None

    def spec(self, label: str) -> RemoteSpec:
        """The server of that label."""
        return next(spec for spec in self.specs if spec.label == label)


def is_remote(tool: Tool) -> bool:
    """True for an MCP server."""
    return isinstance(tool, OpaqueTool) and tool.type == REMOTE


def read_remote(tools: Sequence[Tool], allowed_hosts: Collection[str]) -> list[RemoteSpec]:
    """The MCP servers among a request's tools. Raises `ApiError` that names the first bad one."""
    specs: dict[str, RemoteSpec] = {}
    for index, tool in enumerate(tools):
        if isinstance(tool, OpaqueTool) and tool.type == REMOTE:
            where = f"tools[{index}]"
            try:
                spec = _spec(decode_mcp(tool.fields), allowed_hosts, where)
            except msgspec.ValidationError as exc:
                raise api_error(exc, where) from None
            if spec.label in specs:
                words = f"Two MCP servers are labelled '{spec.label}'. Labels must be unique."
                raise ApiError(words, code="invalid_value", param=f"{where}.server_label")
            specs[spec.label] = spec
    return list(specs.values())


def shown_remote(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An `mcp` tool as a response echoes it: without credentials, and of its URL the host (recorded defaults)."""
    echoed = {"allowed_tools": None, "require_approval": "always", "server_description": None}
    echoed |= {name: value for name, value in fields.items() if name != "authorization"}
    echoed["require_approval"] = echoed["require_approval"] or "always"
    if isinstance(url := echoed.get("server_url"), str):
        echoed["server_url"] = bare(url)
    return echoed | {"headers": None}


def bare(url: str) -> str:
    """A URL without its path, which may be a secret; empty for what is none."""
    try:
        parsed = parse_url(url)
    except BadUrl:
        return ""
    return f"{_scheme(parsed)}://{parsed.authority}/"


def read_remote_choice(choice: ForeignChoice) -> RemoteChoice | None:
    """The choice of an MCP server or of a tool of one; None if it is one of something else."""
    match choice.fields:
        case {"type": "mcp", "server_label": str(label), **rest}:
            name = rest.get("name")
            return RemoteChoice(label, name if isinstance(name, str) else None)
        case _:
            return None


def permitted(choice: str | Mapping[str, Any] | None) -> Sequence[RemoteChoice] | None:
    """The MCP tools that an `allowed_tools` choice leaves; None if every tool may be used."""
    match choice:
        case {"type": "allowed_tools", "tools": list(entries)}:
            found = [read_remote_choice(ForeignChoice(entry)) for entry in entries if isinstance(entry, Mapping)]
            return [one for one in found if one is not None]
        case _:
            return None


def described(remote: Remote | None) -> list[PromptMessage]:
    """What the model is told of its servers beside their tools."""
    specs = [] if remote is None else [spec for spec in remote.specs if spec.description]
    if not specs:
        return []
    lines = [f"- {spoken_name(spec.label, '', ())}: {spec.description}" for spec in specs]
    text = "Tools whose names begin as follows belong to remote servers:\n" + "\n".join(lines)
    return [PromptMessage("developer", (InputText(text=text),), standing=True)]


def as_foreign(item: Item) -> Item:
    """An item for an upstream that calls MCP servers itself: as it is on the wire."""
    match item:
        case McpListTools() | McpCall() | McpApprovalRequest() | McpApprovalResponse():
            return OpaqueItem(plain(item))
        case _:
            return item


def listings(items: Sequence[Item]) -> dict[str, McpListTools]:
    """The newest list of each server that is in a context; those that failed do not count."""
    return {item.server_label: item for item in items if isinstance(item, McpListTools) and not item.error}


def listed(spec: RemoteSpec, tools: Sequence[RemoteTool]) -> tuple[McpListedTool, ...]:
    """The tools of a server as its list shows them: those that the request wants."""
    shown = [
        McpListedTool(
            name=tool.name,
            input_schema=dict(tool.input_schema),
            description=tool.description,
            annotations={"read_only": tool.read_only},
        )
        for tool in tools
    ]
    return tuple(tool for tool in shown if spec.offers(tool))


def with_remote(toolbox: Toolbox, remote: Remote, lists: Mapping[str, McpListTools]) -> Toolbox:
    """The toolbox with the tools of the servers, under names of their own."""
    tools, spoken = dict(toolbox.tools), dict(toolbox.spoken)
    for spec in remote.specs:
        for tool in lists[spec.label].tools:
            if spec.offers(tool) and (remote.permitted is None or _is_among(spec, tool, remote.permitted)):
                name = spoken_name(spec.label, tool.name, tools)
                tools[name] = McpTool(spec.label, tool, name, approval=spec.asks(tool))
                spoken[namespace(spec.label), tool.name] = name
    return replace(toolbox, tools=tools, spoken=spoken)


def of_choice(toolbox: Toolbox, choice: RemoteChoice) -> list[McpTool]:
    """The tools of which the model must use one."""
    remote = [tool for tool in toolbox.tools.values() if isinstance(tool, McpTool)]
    return [tool for tool in remote if tool.label == choice.label and choice.name in (None, tool.name)]


def chosen(toolbox: Toolbox, choice: RemoteChoice) -> ToolChoice:
    """The choice by the name that the model knows, or that it must use one of several. Raises `UpstreamError`."""
    named = [tool.declaration.name for tool in of_choice(toolbox, choice)]
    if not named:
        what = "no tools" if choice.name is None else f"no tool {choice.name!r}"
        raise UpstreamError(f"Tool choice 'mcp': the MCP server '{choice.label}' offers {what} in this request.")
    return NamedTool(named[0]) if len(named) == 1 else "required"


def newly_approved(items: Sequence[Item]) -> list[McpApprovalRequest]:
    """The calls that the user has approved and that were not made yet, in the order in which they were asked for."""
    answers = {item.approval_request_id: item.approve for item in items if isinstance(item, McpApprovalResponse)}
    made = {item.approval_request_id for item in items if isinstance(item, McpCall)}
    requests = {item.id: item for item in items if isinstance(item, McpApprovalRequest)}
    return [item for item in requests.values() if answers.get(item.id) and item.id not in made]


def _spec(tool: McpSpec, allowed_hosts: Collection[str], where: str) -> RemoteSpec:
    for name, value in (("connector_id", tool.connector_id), ("tunnel_id", tool.tunnel_id)):
        if value is not None:
            raise ApiError(
                f"'{name}' names a service of OpenAI's, which this server cannot reach. Use 'server_url'.",
                code="unsupported_parameter",
                param=f"{where}.{name}",
            )
    if tool.server_url is None:
        param = f"{where}.server_url"
        raise ApiError(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    try:
        url = parse_url(tool.server_url)
    except BadUrl as exc:
        message = f"Invalid '{where}.server_url': {exc}."
        raise ApiError(message, code="invalid_value", param=f"{where}.server_url") from None
    if allowed_hosts and not any(_is_host(url.host, allowed) for allowed in allowed_hosts):
        raise ApiError(
            f"The MCP server's host '{url.host}' is not among those that the operator allows (mcp_allowed_hosts).",
            code="invalid_value",
            param=f"{where}.server_url",
        )
    whole = f"{_scheme(url)}://{url.authority}{url.target}"
    server = RemoteServer(tool.server_label, whole, _headers(tool, where))
    return RemoteSpec(server, tool.server_description or "", tool.allowed_tools, tool.require_approval or "always")


def _headers(tool: McpSpec, where: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in (tool.headers or {}).items()}
    if tool.authorization is not None:
        headers["authorization"] = f"Bearer {tool.authorization}"
    for name in headers:
        if name in _OURS:
            raise ApiError(f"The header '{name}' cannot be set.", code="invalid_value", param=f"{where}.headers")
    try:
        h11.Request(method="GET", target="/", headers=[("host", "x"), *headers.items()])
    except (h11.LocalProtocolError, UnicodeEncodeError):
        # Without the value, which is a secret.
        param = f"{where}.headers"
        raise ApiError(f"Invalid '{param}': not headers of HTTP.", code="invalid_value", param=param) from None
    return headers


def _scheme(url: Url) -> str:
    return "https" if url.encrypted else "http"


def _is_host(host: str, allowed: str) -> bool:
    """As in the rules of containers: a name is itself, `*.example.com` is every name below `example.com`."""
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _is_any(wanted: McpFilter) -> bool:
    return isinstance(wanted.tool_names, tuple) or isinstance(wanted.read_only, bool)


def _matches(wanted: McpFilter, tool: McpListedTool) -> bool:
    named = not isinstance(wanted.tool_names, tuple) or tool.name in wanted.tool_names
    read_only = isinstance(tool.annotations, Mapping) and tool.annotations.get("read_only") is True
    return named and (not isinstance(wanted.read_only, bool) or wanted.read_only == read_only)


def _is_among(spec: RemoteSpec, tool: McpListedTool, choices: Sequence[RemoteChoice]) -> bool:
    return any(choice.label == spec.label and choice.name in (None, tool.name) for choice in choices)
