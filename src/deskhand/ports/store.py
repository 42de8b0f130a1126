"""What must survive a restart. Every object has an owner (a project); another owner's id does not exist for you."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from ..wire.items import Item
from ..wire.response import Response

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `after` is the id of the last object already seen."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list."""

    data: Sequence[T]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Owned(Generic[T]):
    """A stored object and its owner."""

    owner: str
    value: T


class ResponseStore(Protocol):
    """Responses and their items."""

    async def create(self, owner: str, response: Response, given: Sequence[Item]) -> None:
        """Store a new response and the input items that are new with it. Durable on return."""
        ...

    async def save(self, response_id: str, items: Mapping[int, Item]) -> None:
        """Store output items by `output_index`, replacing earlier states of them. Durable on return."""
        ...

    async def finish(self, response: Response, items: Mapping[int, Item]) -> None:
        """Store the ended response and the output items that changed since, in one transaction."""
        ...

    async def get(self, owner: str, response_id: str) -> Response | None:
        """The response with its output as of the last stored item."""
        ...

    async def delete(self, owner: str, response_id: str) -> bool:
        """Forget a response; False if there was none.

        Items that a later response of the chain still needs stay until that one is deleted as well.
        """
        ...

    async def given(self, owner: str, response_id: str) -> Sequence[Item] | None:
        """The input items of a response, oldest first; None if there is no such response."""
        ...

    async def context(self, owner: str, response_id: str) -> Sequence[Item]:
        """Every item of the chain that ends with this response, input and output, oldest first."""
        ...

    async def item(self, owner: str, item_id: str) -> Item | None:
        """A stored item by its id."""
        ...

    async def unfinished(self) -> Sequence[Owned[Response]]:
        """Responses that are not in a final state."""
        ...


@dataclass(frozen=True, slots=True)
class FileRecord:
    """An uploaded file. `blob` is the key of its bytes; times are unix seconds."""

    id: str
    owner: str
    filename: str
    bytes: int
    purpose: str
    created_at: int
    expires_at: int | None
    blob: str


class FileStore(Protocol):
    """Uploaded files' records."""

    async def add(self, record: FileRecord) -> None: ...
    async def get(self, owner: str, file_id: str) -> FileRecord | None: ...
    async def list(self, owner: str, page: Page, purpose: str | None) -> Listing[FileRecord]: ...
    async def delete(self, owner: str, file_id: str) -> FileRecord | None:
        """Remove the record and return it; None if there was none."""
        ...

    async def expired(self, now: int) -> Sequence[FileRecord]:
        """Records whose time has passed."""
        ...

    async def blob_in_use(self, blob: str) -> bool:
        """True if a record still names this blob."""
        ...


ContainerState = Literal["reserved", "running", "expired"]
OnExpired = Literal["error", "restore", "recreate"]


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container. `reserved` means that a response named it and nothing has used it: nothing exists of it yet.

    `network` and `skills` are the JSON of what it was made with, without any secret; "" means none.
    """

    id: str
    owner: str
    name: str
    state: ContainerState
    created_at: int
    last_active_at: int
    expires_after_minutes: int
    memory_limit: Literal["1g", "4g", "16g", "64g"]
    on_expired: OnExpired = "error"
    network: str = ""
    skills: str = ""


@dataclass(frozen=True, slots=True)
class ContainerFileRecord:
    """A file in a container that has an id. `path` is relative to the working directory."""

    id: str
    container_id: str
    path: str
    source: Literal["user", "assistant"]
    created_at: int


class ContainerStore(Protocol):
    """Containers' records and the ids of their files."""

    async def add(self, record: ContainerRecord) -> None: ...
    async def get(self, owner: str, container_id: str) -> ContainerRecord | None: ...
    async def list(self, owner: str, page: Page, name: str | None) -> Listing[ContainerRecord]:
        """Containers that are more than reserved."""
        ...

    async def live(self) -> Sequence[ContainerRecord]:
        """Every running container of every owner."""
        ...

    async def count_live(self, owner: str) -> int: ...
    async def touch(self, container_id: str, now: int) -> None:
        """Set `last_active_at`."""
        ...

    async def set_state(self, container_id: str, state: ContainerState) -> None: ...
    async def forget_reserved(self, before: int) -> None:
        """Remove containers that were reserved, and not used since `before` (unix seconds)."""
        ...

    async def delete(self, owner: str, container_id: str) -> bool:
        """Remove the record and its files' records; False if there was none."""
        ...

    async def add_file(self, record: ContainerFileRecord) -> ContainerFileRecord:
        """Store the record, or return the one that has this container and path already."""
        ...

    async def files(self, container_id: str) -> Sequence[ContainerFileRecord]: ...
    async def file(self, container_id: str, file_id: str) -> ContainerFileRecord | None: ...
    async def delete_file(self, container_id: str, file_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were stored: their key and size."""

    key: str
    bytes: int


class BlobTooLarge(Exception):
    """More bytes arrived than were allowed; nothing was kept."""


class BlobStore(Protocol):
    """Bytes by content address."""

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store bytes durably. Raises `BlobTooLarge`."""
        ...

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in chunks. Raises `FileNotFoundError` before the first."""
        ...

    async def delete(self, key: str) -> None:
        """Forget the bytes. Idempotent."""
        ...
