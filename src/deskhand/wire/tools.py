"""Tools as a request names them and a response echoes them (API reference, "Tools")."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .items import ContainerReference, LocalEnvironment
from .network import NetworkPolicy
from .nulls import without_nulls
from .skills import HostedSkills
from .vector_stores import MaxResults, RankingOptions

MemoryLimit = Literal["1g", "4g", "16g", "64g"]
OnExpired = Literal["error", "restore", "recreate"]
Isolation = Literal["namespace", "gvisor"]
MAX_STORES = 16
"""Vector stores that one tool searches."""
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class _Tool(Struct, frozen=True, kw_only=True, tag_field="type"):
    @property
    def type(self) -> str:
        """The wire name of the tool type."""
        return str(self.__struct_config__.tag)


class FunctionTool(_Tool, frozen=True, kw_only=True, tag="function"):
    """A function that the client runs."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | UnsetType = UNSET
    output_schema: dict[str, Any] | UnsetType = UNSET
    allowed_callers: list[str] | UnsetType = UNSET


class CustomTool(_Tool, frozen=True, kw_only=True, tag="custom"):
    """A tool that takes free text; the client runs it."""

    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None
    defer_loading: bool | UnsetType = UNSET
    allowed_callers: list[str] | UnsetType = UNSET


class ContainerAuto(Struct, frozen=True, kw_only=True, tag_field="type", tag="container_auto"):
    """A container made for this response, when it is first needed."""

    file_ids: Annotated[list[str], Meta(max_length=50)] | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: NetworkPolicy | None = None
    skills: HostedSkills | None = None
    on_expired: OnExpired | None = None
    """What its next use gets once it has expired. This and what follows are Deskhand's extensions."""
    isolation: Isolation | None = None
    """How well it is isolated at least."""


class ShellTool(_Tool, frozen=True, kw_only=True, tag="shell"):
    """Shell commands. Without an environment, or with a local one, the client runs them."""

    environment: ContainerAuto | ContainerReference | LocalEnvironment | None = None
    allowed_callers: list[str] | UnsetType = UNSET


class CodeInterpreterAuto(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="auto"):
    """What `ContainerAuto` is to `ShellTool`, under the name that this tool has for it."""

    file_ids: Annotated[list[str], Meta(max_length=50)] | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: NetworkPolicy | None = None


class CodeInterpreterTool(_Tool, frozen=True, kw_only=True, tag="code_interpreter"):
    """Stateful Python in a container, named by its id or made for this response."""

    container: str | CodeInterpreterAuto
    allowed_callers: list[str] | UnsetType = UNSET


class FileSearchTool(_Tool, frozen=True, kw_only=True, tag="file_search"):
    """Passages of the files in vector stores. `filters` is checked apart."""

    vector_store_ids: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(min_length=1, max_length=MAX_STORES)]
    max_num_results: MaxResults | None = None
    ranking_options: RankingOptions | None = None
    filters: dict[str, Any] | None = None


class LocalShellTool(_Tool, frozen=True, kw_only=True, tag="local_shell"):
    """The legacy shell tool that the client runs."""


class ApplyPatchTool(_Tool, frozen=True, kw_only=True, tag="apply_patch"):
    """File edits. The client applies them, or with an `environment`, which is Deskhand's own, this server does."""

    environment: ContainerAuto | ContainerReference | UnsetType = UNSET
    allowed_callers: list[str] | UnsetType = UNSET


class OpaqueTool:
    """A tool type that this server does not run. Echoed, and passed to upstreams that may know it."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    @property
    def type(self) -> str:
        """The wire name of the tool type."""
        return str(self.fields.get("type"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueTool) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.type)


KnownTool = (
    FunctionTool | CustomTool | ShellTool | CodeInterpreterTool | FileSearchTool | LocalShellTool | ApplyPatchTool
)
Tool = KnownTool | OpaqueTool

_KNOWN: Mapping[str, type[KnownTool]] = {str(t.__struct_config__.tag): t for t in get_args(KnownTool)}


def decode_tool(fields: Mapping[str, Any]) -> Tool:
    """A tool from its plain wire object. Raises `msgspec.ValidationError`.

    Nulls count as left out, but not in a schema or grammar, where they mean something, nor in an opaque tool.
    """
    kind = _KNOWN.get(str(fields.get("type")))
    if kind is None:
        return OpaqueTool(fields)
    given = {key: value for key, value in fields.items() if value is not None}
    for name in ("environment", "container", "ranking_options"):
        if name in given:
            given[name] = without_nulls(given[name])
    return msgspec.convert(given, kind)


class McpFilter(Struct, frozen=True, kw_only=True):
    """Some tools of an MCP server: those that match everything that is given."""

    tool_names: Annotated[tuple[str, ...], Meta(max_length=1024)] | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET


class McpApprovals(Struct, frozen=True, kw_only=True):
    """Which tools of an MCP server need approval."""

    always: McpFilter | UnsetType = UNSET
    never: McpFilter | UnsetType = UNSET


class McpTool(_Tool, frozen=True, kw_only=True, tag="mcp"):
    """A remote MCP server, whose tools this server calls. It is read only where it is served: see `OpaqueTool`."""

    server_label: Annotated[str, Meta(min_length=1, max_length=128)]
    server_url: Annotated[str, Meta(max_length=2048)] | None = None
    server_description: Annotated[str, Meta(max_length=4096)] | None = None
    connector_id: str | None = None
    tunnel_id: str | None = None
    allowed_tools: Annotated[tuple[str, ...], Meta(max_length=1024)] | McpFilter | None = None
    require_approval: Literal["always", "never"] | McpApprovals | None = None
    authorization: Annotated[str, Meta(max_length=16_384)] | None = None
    headers: Annotated[dict[str, Annotated[str, Meta(max_length=16_384)]], Meta(max_length=64)] | None = None


def decode_mcp(fields: Mapping[str, Any]) -> McpTool:
    """An `mcp` tool from its plain wire object. Raises `msgspec.ValidationError`."""
    return msgspec.convert(without_nulls(fields), McpTool)
