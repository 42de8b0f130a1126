"""Wire items: the nouns of a conversation (API reference, "Items"). Data only.

Items that this server acts on are typed here. Every other item type that a client or an upstream may send is an
`OpaqueItem`: kept, stored and passed on unchanged, never interpreted.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .parts import Part, ReasoningText, SummaryText

Status = Literal["in_progress", "completed", "incomplete", "failed"]

MAX_SEALED_CHARACTERS = 20_971_520
"""Characters of a compaction's `encrypted_content` (OpenAPI snapshot, CompactionSummaryItemParam)."""


class _Item(Struct, frozen=True, kw_only=True, tag_field="type"):
    id: str

    @property
    def type(self) -> str:
        """The wire name of the item."""
        return str(self.__struct_config__.tag)


class Message(_Item, frozen=True, kw_only=True, tag="message"):
    """Something said by the user, the developer or the model."""

    role: Literal["user", "assistant", "system", "developer", "tool", "critic", "discriminator", "unknown"]
    content: tuple[Part, ...]
    status: Status = "completed"
    phase: str | UnsetType = UNSET


class Reasoning(_Item, frozen=True, kw_only=True, tag="reasoning"):
    """What the model thought: a summary, or the raw text of open models, or an upstream's sealed blob."""

    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class FunctionCall(_Item, frozen=True, kw_only=True, tag="function_call"):
    """A call of a function that the client runs."""

    call_id: str
    name: str
    arguments: str
    status: Status = "completed"
    namespace: str | UnsetType = UNSET
    caller: Any = UNSET


class FunctionCallOutput(_Item, frozen=True, kw_only=True, tag="function_call_output"):
    """The answer to a `FunctionCall`."""

    call_id: str
    output: str | tuple[Part, ...]
    status: Status = "completed"
    name: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    caller: Any = UNSET


class CustomToolCall(_Item, frozen=True, kw_only=True, tag="custom_tool_call"):
    """A call of a free-text tool that the client runs."""

    call_id: str
    name: str
    input: str
    status: Status = "completed"
    namespace: str | UnsetType = UNSET
    caller: Any = UNSET


class CustomToolCallOutput(_Item, frozen=True, kw_only=True, tag="custom_tool_call_output"):
    """The answer to a `CustomToolCall`."""

    call_id: str
    output: str | tuple[Part, ...]
    status: Status = "completed"
    caller: Any = UNSET


class ShellAction(Struct, frozen=True, kw_only=True):
    """Commands to run, each in a session of its own. Milliseconds; characters kept of each command's output."""

    commands: tuple[str, ...]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class LocalSkill(Struct, frozen=True, kw_only=True):
    """A skill on the client's own machine."""

    name: str
    description: str
    path: str


class LocalEnvironment(Struct, frozen=True, kw_only=True, tag_field="type", tag="local"):
    """The client runs the commands."""

    skills: Annotated[tuple[LocalSkill, ...], Meta(max_length=200)] | UnsetType = UNSET


class ContainerReference(Struct, frozen=True, kw_only=True, tag_field="type", tag="container_reference"):
    """The commands run in this container."""

    container_id: str


class ShellCall(_Item, frozen=True, kw_only=True, tag="shell_call"):
    """Commands the model wants run. `environment` is a `ContainerReference` when this server runs them."""

    call_id: str
    action: ShellAction
    status: Status = "completed"
    environment: LocalEnvironment | ContainerReference | None = None
    caller: Any = UNSET

    @property
    def hosted(self) -> bool:
        """True if this server runs the commands."""
        return isinstance(self.environment, ContainerReference)


class ExitOutcome(Struct, frozen=True, kw_only=True, tag_field="type", tag="exit"):
    """The command ended by itself."""

    exit_code: int


class TimeoutOutcome(Struct, frozen=True, kw_only=True, tag_field="type", tag="timeout"):
    """The command was ended by its deadline; its output so far is kept."""


class ShellOutput(Struct, frozen=True, kw_only=True):
    """What one command printed and how it ended."""

    stdout: str
    stderr: str
    outcome: ExitOutcome | TimeoutOutcome


class ShellCallOutput(_Item, frozen=True, kw_only=True, tag="shell_call_output"):
    """The answer to a `ShellCall`: one entry per command, in command order."""

    call_id: str
    output: tuple[ShellOutput, ...] = ()
    max_output_length: int | None = None
    status: Status = "completed"
    caller: Any = UNSET


class Logs(Struct, frozen=True, kw_only=True, tag_field="type", tag="logs"):
    """What code printed."""

    logs: str


class Image(Struct, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """What code drew, as a data URL."""

    url: str


class CodeInterpreterCall(_Item, frozen=True, kw_only=True, tag="code_interpreter_call"):
    """Python that this server runs, with what came of it. `outputs` is null if the caller did not ask to see them."""

    code: str | None = None
    container_id: str = ""
    outputs: tuple[Logs | Image, ...] | None = None
    status: Literal["in_progress", "interpreting", "completed", "incomplete", "failed"] = "completed"

    @property
    def call_id(self) -> str:
        """What the model calls this call: it has no other name than its id."""
        return self.id


class FileSearchResult(Struct, frozen=True, kw_only=True):
    """A passage that a search found. `score` is from 0 to 1."""

    file_id: str | None = None
    filename: str | None = None
    score: float | None = None
    text: str | None = None
    attributes: dict[str, Any] | None = None


class FileSearchCall(_Item, frozen=True, kw_only=True, tag="file_search_call"):
    """A search in vector stores, with what was found: null if the caller did not ask to see it.

    `error`, which is Deskhand's own, says why it failed.
    """

    queries: tuple[str, ...] = ()
    results: tuple[FileSearchResult, ...] | None = None
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    error: str | UnsetType = UNSET

    @property
    def call_id(self) -> str:
        """What the model calls this call: it has no other name than its id."""
        return self.id


class LocalShellAction(Struct, frozen=True, kw_only=True, tag_field="type", tag="exec"):
    """A command line for the client's own shell."""

    command: tuple[str, ...]
    env: dict[str, str] = {}
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class LocalShellCall(_Item, frozen=True, kw_only=True, tag="local_shell_call"):
    """A command that the client runs (the legacy `local_shell` tool)."""

    call_id: str
    action: LocalShellAction
    status: Status = "completed"


class LocalShellCallOutput(_Item, frozen=True, kw_only=True, tag="local_shell_call_output"):
    """The answer to a `LocalShellCall`; `id` or `call_id` names the call, as clients differ."""

    output: str
    call_id: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class CreateFile(Struct, frozen=True, kw_only=True, tag_field="type", tag="create_file"):
    """Make a file; `diff` is V4A."""

    path: str
    diff: str


class UpdateFile(Struct, frozen=True, kw_only=True, tag_field="type", tag="update_file"):
    """Change a file; `diff` is V4A."""

    path: str
    diff: str


class DeleteFile(Struct, frozen=True, kw_only=True, tag_field="type", tag="delete_file"):
    """Remove a file."""

    path: str


PatchOperation = CreateFile | UpdateFile | DeleteFile


class ApplyPatchCall(_Item, frozen=True, kw_only=True, tag="apply_patch_call"):
    """A file edit. `environment`, which is Deskhand's own, says where this server applies it; else the client does."""

    call_id: str
    operation: PatchOperation
    status: Status = "completed"
    environment: ContainerReference | UnsetType = UNSET
    caller: Any = UNSET


class ApplyPatchCallOutput(_Item, frozen=True, kw_only=True, tag="apply_patch_call_output"):
    """The answer to an `ApplyPatchCall`."""

    call_id: str
    status: Literal["completed", "failed"] = "completed"
    output: str | UnsetType = UNSET
    caller: Any = UNSET


class McpListedTool(Struct, frozen=True, kw_only=True):
    """A tool of a remote MCP server. Neither `description` nor `annotations` is ever null: a client refuses that."""

    name: str
    input_schema: Any = {}
    description: str = ""
    annotations: Any = {}


class McpListTools(_Item, frozen=True, kw_only=True, tag="mcp_list_tools"):
    """What an MCP server offers. While it is in the context the server is not asked again."""

    server_label: str
    tools: tuple[McpListedTool, ...] = ()
    error: str | UnsetType = UNSET


class McpCall(_Item, frozen=True, kw_only=True, tag="mcp_call"):
    """A call of an MCP server's tool, with what came of it. `error` is one of the API's three kinds of object."""

    server_label: str = ""
    name: str = ""
    arguments: str = ""
    approval_request_id: str | None = None
    error: Any = None
    output: str | None = None
    status: Literal["in_progress", "calling", "completed", "incomplete", "failed"] = "completed"

    @property
    def call_id(self) -> str:
        """What the model calls this call: it has no other name than its id."""
        return self.id


class McpApprovalRequest(_Item, frozen=True, kw_only=True, tag="mcp_approval_request"):
    """A call that the user must approve before it is made."""

    server_label: str
    name: str
    arguments: str


class McpApprovalResponse(_Item, frozen=True, kw_only=True, tag="mcp_approval_response"):
    """What the user says to a `McpApprovalRequest`."""

    approval_request_id: str
    approve: bool
    reason: str | UnsetType = UNSET


class ComputerCall(_Item, frozen=True, kw_only=True, tag="computer_call"):
    """What the model wants done on a computer that the client runs: `actions`, or one `action` of the preview tool."""

    call_id: str
    action: Any = UNSET
    actions: Any = UNSET
    pending_safety_checks: tuple[dict[str, Any], ...] = ()
    status: Status = "completed"


class ComputerScreenshot(Struct, frozen=True, kw_only=True):
    """How the screen looks now: a URL, a data URL or the id of a file."""

    type: str = "computer_screenshot"
    image_url: str | UnsetType = UNSET
    file_id: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class ComputerCallOutput(_Item, frozen=True, kw_only=True, tag="computer_call_output"):
    """The answer to a `ComputerCall`."""

    call_id: str
    output: ComputerScreenshot
    acknowledged_safety_checks: tuple[dict[str, Any], ...] | UnsetType = UNSET
    status: Status = "completed"


class ToolSearchCall(_Item, frozen=True, kw_only=True, tag="tool_search_call"):
    """The model looks for tools. The client's to answer, or this server's: then it has no `call_id`."""

    arguments: Any = {}
    call_id: str | None = None
    execution: Literal["server", "client"] = "server"
    status: Status = "completed"


class ToolSearchOutput(_Item, frozen=True, kw_only=True, tag="tool_search_output"):
    """The tools that a `ToolSearchCall` has found, which the model may use from then on."""

    tools: tuple[dict[str, Any], ...] = ()
    call_id: str | None = None
    execution: Literal["server", "client"] = "server"
    status: Status = "completed"


class Compaction(_Item, frozen=True, kw_only=True, tag="compaction"):
    """Stands for everything before it, sealed. An empty one was cut off while it was made, and stands for nothing."""

    encrypted_content: Annotated[str, Meta(max_length=MAX_SEALED_CHARACTERS)]
    created_by: str | UnsetType = UNSET


class ItemReference(_Item, frozen=True, kw_only=True, tag="item_reference"):
    """Stands for a stored item; resolved before anything else sees it."""


class OpaqueItem:
    """An item of a type that this server does not act on. `fields` is the whole wire object."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    @property
    def id(self) -> str:
        """The item's id; empty if it came without."""
        return str(self.fields.get("id") or "")

    @property
    def type(self) -> str:
        """The wire name of the item."""
        return str(self.fields.get("type"))

    @property
    def status(self) -> str:
        """The item's status; items without one count as completed."""
        return str(self.fields.get("status") or "completed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueItem) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash((self.type, self.id))

    def __repr__(self) -> str:
        return f"OpaqueItem({self.fields!r})"


KnownItem = (
    Message
    | Reasoning
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | ShellCall
    | ShellCallOutput
    | CodeInterpreterCall
    | FileSearchCall
    | LocalShellCall
    | LocalShellCallOutput
    | ApplyPatchCall
    | ApplyPatchCallOutput
    | ComputerCall
    | ComputerCallOutput
    | ToolSearchCall
    | ToolSearchOutput
    | McpListTools
    | McpCall
    | McpApprovalRequest
    | McpApprovalResponse
    | Compaction
    | ItemReference
)
Item = KnownItem | OpaqueItem

Call = FunctionCall | CustomToolCall | ShellCall | LocalShellCall | ApplyPatchCall | ComputerCall | ToolSearchCall
"""Calls answered by a later item that names their `call_id`."""

WholeCall = CodeInterpreterCall | FileSearchCall | McpCall
"""Calls that carry their own outcome: no later item answers them. They are open until they have been run."""

CallOutput = (
    FunctionCallOutput
    | CustomToolCallOutput
    | ShellCallOutput
    | LocalShellCallOutput
    | ApplyPatchCallOutput
    | ComputerCallOutput
    | ToolSearchOutput
)

ITEM_PREFIX = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "apply_patch_call": "apc",
    "apply_patch_call_output": "apco",
    "code_interpreter_call": "ci",
    "computer_call": "cu",
    "computer_call_output": "cuo",
    "file_search_call": "fs",
    "web_search_call": "ws",
    "image_generation_call": "ig",
    "mcp_list_tools": "mcpl",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "program": "cm",
    "program_output": "cmo",
    "compaction": "cmp",
}
"""Id prefix by item type (API reference, section 9)."""

NO_PREFIX = "item"
"""Begins the ids that this server gives to items of types whose prefix it does not know."""


def answers(output: CallOutput) -> str:
    """The `call_id` that `output` answers; empty for the last tool search that this server made."""
    if isinstance(output, LocalShellCallOutput):
        return output.call_id if isinstance(output.call_id, str) else output.id
    return output.call_id or ""
