"""What each route takes and answers: the part of the OpenAPI document that the routes themselves do not say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..wire import answers, vector_stores
from ..wire import traces as trace_wire
from ..wire.chat import CreateChatCompletion, CreateCompletion, CreateEmbeddings, UpdateChatCompletion
from ..wire.containers import AddContainerFile, Container, ContainerFile, CreateContainer
from ..wire.context import CompactContext, CompactedContext, CountTokens, InputTokens
from ..wire.conversations import Conversation, CreateConversation, CreateItems, UpdateConversation
from ..wire.exec import ExecCommand, ExecResult
from ..wire.files import File, Purpose
from ..wire.items import Item
from ..wire.network import ContainerSecret, EgressEntry, SetSecret
from ..wire.request import CreateResponse, Include
from ..wire.response import Response
from ..wire.skills import Skill, SkillVersion, UpdateSkill
from ..wire.snapshots import ContainerSnapshot, CreateSnapshot, ForkContainer, RestoreContainer
from ..wire.uploads import CompleteUpload, CreateUpload, Upload, UploadPart
from ..wire.webhooks import (
    CreateWebhookEndpoint,
    RotateWebhookSecret,
    TestWebhookEndpoint,
    UpdateWebhookEndpoint,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookTestResult,
)

EVENT_STREAM: Final = "text/event-stream"
BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonl"
MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of things of a type, in OpenAI's envelope."""

    kind: Any


@dataclass(frozen=True, slots=True)
class Either:
    """One of several types."""

    kinds: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body: one field with bytes, or many of that name, and fields of text."""

    bytes: str
    many: bool = False
    texts: tuple[tuple[str, Any], ...] = ()
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query string."""

    name: str
    kind: Any
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method does at one path. `bodies` and `answers` are by media type; None for bytes.

    A body that is `optional` may be left out.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[str, Any]
    bodies: Mapping[str, Any] = field(default_factory=dict)
    query: tuple[Parameter, ...] = ()
    optional: bool = False


_PAGE: Final = (
    Parameter("limit", int, "How many entries a page has."),
    Parameter("order", Literal["asc", "desc"], "By the time of creation: `asc` or `desc`."),
    Parameter("after", str, "The id of the entry after which the page begins."),
)
_INCLUDE: Final = (Parameter("include", list[Include], "What to show beside what is always shown."),)
_REPLAY: Final = (
    Parameter("stream", bool, "Send the events again, of a response that was streamed in the background."),
    Parameter("starting_after", int, "The number of the event after which to begin."),
    Parameter("include_obfuscation", bool, "Whether deltas are padded to hide their length."),
)


def _answer(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: Any = None,
    *,
    query: tuple[Parameter, ...] = (),
    optional: bool = False,
) -> Operation:
    """What answers with JSON."""
    bodies = {} if body is None else {MULTIPART if isinstance(body, Form) else JSON: body}
    return Operation(method, path, summary, {JSON: answer}, bodies, query, optional)


def _page(path: str, summary: str, kind: Any, *more: Parameter) -> Operation:
    """A list in pages."""
    return _answer("GET", path, summary, Listed(kind), query=(*_PAGE, *more))


def _delete(path: str, summary: str, answer: Any = answers.Deleted) -> Operation:
    return _answer("DELETE", path, summary, answer)


def _download(path: str, summary: str) -> Operation:
    return Operation("GET", path, summary, {BYTES: None})


def _streamed(operation: Operation, event: Any) -> Operation:
    """An operation that may stream its answer instead."""
    return Operation(
        operation.method,
        operation.path,
        operation.summary,
        {**operation.answers, EVENT_STREAM: event},
        operation.bodies,
        operation.query,
    )


_RESPONSES: Final = (
    _streamed(_answer("POST", "/v1/responses", "Make a response", Response, CreateResponse), answers.StreamEvent),
    _streamed(
        _answer("GET", "/v1/responses/{id}", "Get a response", Response, query=(*_INCLUDE, *_REPLAY)),
        answers.StreamEvent,
    ),
    _delete("/v1/responses/{id}", "Delete a response; end it if it runs"),
    _answer("POST", "/v1/responses/{id}/cancel", "End a background response", Response, query=_INCLUDE),
    _page("/v1/responses/{id}/input_items", "List what a response was given", Item, *_INCLUDE),
    _answer("POST", "/v1/responses/compact", "Compact a context", CompactedContext, CompactContext),
    _answer("POST", "/v1/responses/input_tokens", "Estimate the tokens of a request", InputTokens, CountTokens),
)
_CONVERSATIONS: Final = (
    _answer("POST", "/v1/conversations", "Begin a conversation", Conversation, CreateConversation),
    _answer("GET", "/v1/conversations/{id}", "Get a conversation", Conversation),
    _answer("POST", "/v1/conversations/{id}", "Change its metadata", Conversation, UpdateConversation),
    _delete("/v1/conversations/{id}", "Delete a conversation"),
    _answer("POST", "/v1/conversations/{id}/items", "Add items", Listed(Item), CreateItems, query=_INCLUDE),
    _page("/v1/conversations/{id}/items", "List its items", Item, *_INCLUDE),
    _answer("GET", "/v1/conversations/{id}/items/{item_id}", "Get an item", Item, query=_INCLUDE),
    _delete("/v1/conversations/{id}/items/{item_id}", "Take an item out", Conversation),
)
_CONTAINERS: Final = (
    _answer("POST", "/v1/containers", "Make a container", Container, CreateContainer),
    _page("/v1/containers", "List containers", Container, Parameter("name", str, "Only those of this name.")),
    _answer("GET", "/v1/containers/{id}", "Get a container", Container),
    _delete("/v1/containers/{id}", "Delete a container and its files"),
    Operation(
        "POST",
        "/v1/containers/{id}/files",
        "Put a file into a container",
        {JSON: ContainerFile},
        {MULTIPART: Form("file", texts=(("path", str),)), JSON: AddContainerFile},
    ),
    _page("/v1/containers/{id}/files", "List the files of a container", ContainerFile),
    _answer("GET", "/v1/containers/{id}/files/{file_id}", "Get a file of a container", ContainerFile),
    _delete("/v1/containers/{id}/files/{file_id}", "Delete a file of a container"),
    _download("/v1/containers/{id}/files/{file_id}/content", "Read a file of a container"),
    Operation(
        "GET",
        "/v1/containers/{id}/egress",
        "List what a container tried to reach",
        {JSON: Listed(EgressEntry), JSON_LINES: EgressEntry},
        query=(*_PAGE, Parameter("format", Literal["json", "jsonl"], "`json`, a page; or `jsonl`, all of it.")),
    ),
    _answer("POST", "/v1/containers/{id}/secrets", "Give a secret another value", ContainerSecret, SetSecret),
    _streamed(
        _answer("POST", "/v1/containers/{id}/exec", "Run a command in a container", ExecResult, ExecCommand),
        dict[str, Any],
    ),
    _answer("POST", "/v1/containers/{id}/snapshots", "Take a snapshot", ContainerSnapshot, CreateSnapshot),
    _page("/v1/containers/{id}/snapshots", "List the snapshots of a container", ContainerSnapshot),
    _delete("/v1/containers/{id}/snapshots/{snapshot_id}", "Delete a snapshot"),
    _answer("POST", "/v1/containers/{id}/fork", "Copy a container", Container, ForkContainer),
    _answer("POST", "/v1/containers/{id}/restore", "Put a container back", Container, RestoreContainer),
)
_FILES: Final = (
    _answer(
        "POST",
        "/v1/files",
        "Upload a file",
        File,
        Form(
            "file",
            texts=(
                ("purpose", Purpose),
                ("expires_after[anchor]", str),
                ("expires_after[seconds]", int),
            ),
            needed=("purpose",),
        ),
    ),
    _page("/v1/files", "List files", File, Parameter("purpose", str, "Only those of this purpose.")),
    _answer("GET", "/v1/files/{id}", "Get a file", File),
    _delete("/v1/files/{id}", "Delete a file"),
    _download("/v1/files/{id}/content", "Read a file"),
    _answer("POST", "/v1/uploads", "Begin an upload in parts", Upload, CreateUpload),
    _answer("POST", "/v1/uploads/{id}/parts", "Add a part", UploadPart, Form("data")),
    _answer("POST", "/v1/uploads/{id}/complete", "Make a file of the parts", Upload, CompleteUpload),
    _answer("POST", "/v1/uploads/{id}/cancel", "Give up an upload", Upload),
)
_SKILLS: Final = (
    _answer("POST", "/v1/skills", "Upload a skill", Skill, Form("files[]", many=True)),
    _page("/v1/skills", "List skills", Skill),
    _answer("GET", "/v1/skills/{id}", "Get a skill", Skill),
    _answer("POST", "/v1/skills/{id}", "Choose its default version", Skill, UpdateSkill),
    _delete("/v1/skills/{id}", "Delete a skill and its versions"),
    _download("/v1/skills/{id}/content", "Download the default version as a zip"),
    _answer(
        "POST",
        "/v1/skills/{id}/versions",
        "Upload a version of a skill",
        SkillVersion,
        Form("files[]", many=True, texts=(("default", bool),)),
    ),
    _page("/v1/skills/{id}/versions", "List the versions of a skill", SkillVersion),
    _answer("GET", "/v1/skills/{id}/versions/{version}", "Get a version", SkillVersion),
    _delete("/v1/skills/{id}/versions/{version}", "Delete a version", answers.DeletedSkillVersion),
    _download("/v1/skills/{id}/versions/{version}/content", "Download a version as a zip"),
)
_STORE = "/v1/vector_stores/{id}"
_BATCH = _STORE + "/file_batches/{batch_id}"
_OF_STATE: Final = Parameter("filter", str, "Only files of this status.")
_VECTOR_STORES: Final = (
    _answer(
        "POST", "/v1/vector_stores", "Make a vector store", vector_stores.VectorStore, vector_stores.CreateVectorStore
    ),
    _page("/v1/vector_stores", "List vector stores", vector_stores.VectorStore),
    _answer("GET", _STORE, "Get a vector store", vector_stores.VectorStore),
    _answer("POST", _STORE, "Change a vector store", vector_stores.VectorStore, vector_stores.UpdateVectorStore),
    _delete(_STORE, "Delete a vector store; its files stay"),
    _answer(
        "POST",
        _STORE + "/search",
        "Search a vector store",
        vector_stores.SearchResultsPage,
        vector_stores.SearchVectorStore,
    ),
    _answer(
        "POST",
        _STORE + "/files",
        "Put a file into a store",
        vector_stores.VectorStoreFile,
        vector_stores.CreateVectorStoreFile,
    ),
    _page(_STORE + "/files", "List the files of a store", vector_stores.VectorStoreFile, _OF_STATE),
    _answer("GET", _STORE + "/files/{file_id}", "Get a file of a store", vector_stores.VectorStoreFile),
    _answer(
        "POST",
        _STORE + "/files/{file_id}",
        "Change its attributes",
        vector_stores.VectorStoreFile,
        vector_stores.UpdateVectorStoreFile,
    ),
    _delete(_STORE + "/files/{file_id}", "Take a file out of a store"),
    _answer("GET", _STORE + "/files/{file_id}/content", "Read what a file says", vector_stores.FileContentPage),
    _answer(
        "POST",
        _STORE + "/file_batches",
        "Put files into a store",
        vector_stores.VectorStoreFileBatch,
        vector_stores.CreateFileBatch,
    ),
    _answer("GET", _BATCH, "Get a batch", vector_stores.VectorStoreFileBatch),
    _answer("POST", _BATCH + "/cancel", "Stop a batch", vector_stores.VectorStoreFileBatch),
    _page(_BATCH + "/files", "List the files of a batch", vector_stores.VectorStoreFile, _OF_STATE),
)
_ENDPOINT = "/v1/webhook_endpoints/{id}"
_WEBHOOKS: Final = (
    _answer(
        "POST", "/v1/webhook_endpoints", "Make a webhook endpoint", WebhookEndpointWithSecret, CreateWebhookEndpoint
    ),
    _page("/v1/webhook_endpoints", "List webhook endpoints", WebhookEndpoint),
    _answer("GET", _ENDPOINT, "Get a webhook endpoint", WebhookEndpoint),
    _answer("POST", _ENDPOINT, "Change a webhook endpoint", WebhookEndpoint, UpdateWebhookEndpoint),
    _delete(_ENDPOINT, "Delete a webhook endpoint"),
    _answer(
        "POST",
        _ENDPOINT + "/rotate_secret",
        "Give it another secret",
        WebhookEndpointWithSecret,
        RotateWebhookSecret,
        optional=True,
    ),
    _answer("POST", _ENDPOINT + "/test", "Send it a sample", WebhookTestResult, TestWebhookEndpoint),
    _page(_ENDPOINT + "/deliveries", "List what was sent to it", WebhookDelivery),
    _answer("POST", _ENDPOINT + "/deliveries/{delivery_id}/retry", "Send an event again", WebhookDelivery),
    _answer("GET", "/v1/webhook_event_types", "List what an endpoint may be told of", answers.WebhookEventTypes),
)
_OF_GROUP: Final = Parameter("group_id", str, "Only traces of this group.")
_OF_RESPONSE: Final = Parameter("response_id", str, "Only traces with a span of this response.")
_TRACES: Final = (
    _answer(
        "POST", "/v1/traces/ingest", "Keep traces of the Agents SDK", trace_wire.IngestResult, trace_wire.IngestTraces
    ),
    _page("/v1/traces", "List traces", trace_wire.Trace, _OF_GROUP, _OF_RESPONSE),
    _answer("GET", "/v1/traces/{id}", "Get a trace", trace_wire.Trace),
    _delete("/v1/traces/{id}", "Delete a trace and its spans"),
    _page("/v1/traces/{id}/spans", "List the spans of a trace", trace_wire.TraceSpan),
)
_COMPLETION = "/v1/chat/completions/{id}"
_NEIGHBOURS: Final = (
    _streamed(
        _answer("POST", "/v1/chat/completions", "Chat", answers.ChatCompletion, CreateChatCompletion),
        dict[str, Any],
    ),
    _page(
        "/v1/chat/completions",
        "List kept completions",
        answers.ChatCompletion,
        Parameter("model", str, "Only those of this model."),
    ),
    _answer("GET", _COMPLETION, "Get a kept completion", answers.ChatCompletion),
    _answer("POST", _COMPLETION, "Change its metadata", answers.ChatCompletion, UpdateChatCompletion),
    _delete(_COMPLETION, "Delete a kept completion"),
    _page(_COMPLETION + "/messages", "List what it answered", answers.ChatCompletionMessage),
    _streamed(
        _answer("POST", "/v1/completions", "Complete prompts (legacy)", answers.Completion, CreateCompletion),
        dict[str, Any],
    ),
    _answer("POST", "/v1/embeddings", "Embed texts", answers.EmbeddingList, CreateEmbeddings),
    _answer(
        "GET",
        "/v1/models",
        "List the names that are served",
        Either((answers.ModelList, answers.CodexCatalogue)),
        query=(Parameter("client_version", str, "Answer in the form of Codex's catalogue."),),
    ),
    _answer("GET", "/v1/models/{id}", "Get a name that is served", answers.Model),
    _delete("/v1/models/{id}", "Refused: what is served is configured"),
)
_SERVER: Final = (
    _answer("GET", "/health", "Ask how the server is", answers.Health),
    _answer("GET", "/openapi.json", "This document", dict[str, Any]),
    _answer("GET", "/v1/openapi.json", "This document", dict[str, Any]),
)


def _by_route(operations: Iterable[Operation]) -> Mapping[tuple[str, str], Operation]:
    return {(operation.method, operation.path): operation for operation in operations}


OPERATIONS: Final = _by_route(
    (
        *_RESPONSES,
        *_CONVERSATIONS,
        *_CONTAINERS,
        *_FILES,
        *_SKILLS,
        *_VECTOR_STORES,
        *_WEBHOOKS,
        *_TRACES,
        *_NEIGHBOURS,
        *_SERVER,
    )
)
