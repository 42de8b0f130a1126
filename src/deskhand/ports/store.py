"""What must survive a restart. Every object has an owner (a project); another owner's id does not exist for you."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from ..wire.items import Item
from ..wire.response import Response
from .runs import UNPLANNED, Claim, Plan, Written
from .sandbox import Level

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `after` is the id of the last object already seen.

    `before` is that of the first one: then the objects just before it are wanted. A page has one of the two at most.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list."""

    data: Sequence[T]
    has_more: bool


class ResponseStore(Protocol):
    """Responses and their items."""

    async def create(self, owner: str, response: Response, given: Sequence[Item], plan: Plan = UNPLANNED) -> None:
        """Store a new response and the input items that are new with it. Durable on return.

        Whoever creates a response holds the first claim on it.
        """
        ...

    async def save(self, claim: Claim, written: Written) -> None:
        """Store what a run has written, items replacing earlier states of them. Durable on return.

        Does nothing if the response was deleted. Raises `ClaimLost`.
        """
        ...

    async def finish(self, claim: Claim, response: Response, written: Written) -> None:
        """Store the ended response and what was written since, in one transaction. Raises `ClaimLost`."""
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
        """True if a record still names this blob, or a part of an upload does."""
        ...


ContainerState = Literal["reserved", "running", "expired"]
OnExpired = Literal["error", "restore", "recreate"]


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container. `reserved` means that a response named it and nothing has used it: nothing exists of it yet.

    `network` and `skills` are the JSON of what it was made with, without any secret; "" means none. `isolation` is the
    level that was asked for, "" for the operator's default. `host` is the one on which it is or last was; "" says that
    there is only one.
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
    isolation: Level | Literal[""] = ""
    host: str = ""


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
        """Every running container of every owner on this host."""
        ...

    async def count_live(self, owner: str) -> int: ...
    async def touch(self, container_id: str, now: int) -> None:
        """Set `last_active_at`."""
        ...

    async def set_state(self, container_id: str, state: ContainerState) -> None:
        """Set the state; one that is running from now on is on this host."""
        ...

    async def set_skills(self, container_id: str, skills: str) -> None: ...
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
class SnapshotRecord:
    """A snapshot of a container, which may be gone by now. `bytes` of room it has, shared or not.

    `isolation` is the level that was asked for the container with, "" for the operator's default.
    """

    id: str
    owner: str
    container_id: str
    name: str
    automatic: bool
    created_at: int
    bytes: int
    isolation: Level | Literal[""] = ""


class SnapshotStore(Protocol):
    """Snapshots' records, after which responses they were taken, and what a model must be told of a container."""

    async def add(self, record: SnapshotRecord) -> None: ...
    async def get(self, owner: str, snapshot_id: str) -> SnapshotRecord | None: ...
    async def list(self, owner: str, container_id: str, page: Page) -> Listing[SnapshotRecord]: ...
    async def ids(self) -> Sequence[str]:
        """Of every owner's snapshots."""
        ...

    async def surplus(self, container_id: str, most: int) -> Sequence[SnapshotRecord]:
        """The container's automatic snapshots but the newest `most`."""
        ...

    async def aged(self, before: int) -> Sequence[SnapshotRecord]:
        """Every owner's automatic snapshots from before a time (unix seconds)."""
        ...

    async def oldest_automatic(self, owner: str) -> SnapshotRecord | None: ...
    async def total_bytes(self, owner: str) -> int: ...
    async def delete(self, owner: str, snapshot_id: str) -> bool:
        """Remove the record and its links to responses; False if there was none."""
        ...

    async def link(self, response_id: str, snapshot_id: str) -> None:
        """Note that a computer was as in the snapshot after the response. Idempotent."""
        ...

    async def of_response(self, owner: str, response_id: str) -> Sequence[SnapshotRecord]:
        """The linked snapshots, one for each container that the response used."""
        ...

    async def put_news(self, container_id: str, text: str) -> None:
        """Keep what the next model that uses the container must be told of it."""
        ...

    async def take_news(self, container_id: str) -> str:
        """What was kept, given out once; "" if there is nothing."""
        ...


@dataclass(frozen=True, slots=True)
class SkillRecord:
    """A skill. Name and description are those of its default version; the latest is the newest that is left."""

    id: str
    owner: str
    created_at: int
    default_version: int
    latest_version: int
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class SkillVersionRecord:
    """An immutable version of a skill, numbered from 1. `blob` is the key of its packed content."""

    id: str
    skill_id: str
    version: int
    created_at: int
    name: str
    description: str
    blob: str


class SkillStore(Protocol):
    """Skills, their versions, and which packed contents are still needed."""

    async def add(self, owner: str, first: SkillVersionRecord) -> None:
        """Store a new skill with its first version, which is its default."""
        ...

    async def get(self, owner: str, skill_id: str) -> SkillRecord | None: ...
    async def list(self, owner: str, page: Page) -> Listing[SkillRecord]: ...
    async def set_default(self, owner: str, skill_id: str, version: int) -> bool:
        """False if there is no such version."""
        ...

    async def delete(self, owner: str, skill_id: str) -> bool:
        """Remove a skill and all its versions; False if there was none."""
        ...

    async def add_version(self, owner: str, draft: SkillVersionRecord, *, default: bool) -> SkillVersionRecord | None:
        """Store a version under the next number, whatever `draft` says; None if there is no such skill.

        A number is never given out twice, also when its version was deleted.
        """
        ...

    async def version(self, owner: str, skill_id: str, version: int) -> SkillVersionRecord | None: ...
    async def versions(self, owner: str, skill_id: str, page: Page) -> Listing[SkillVersionRecord]: ...
    async def delete_version(self, owner: str, skill_id: str, version: int) -> bool:
        """Remove a version, and the skill with its last one. False if there is none, or others and it is the default.

        The rule is the API's (computer-use guide, "Skills").
        """
        ...

    async def keep_blob(self, blob: str, now: int) -> None:
        """Note that packed content is wanted at `now` (unix seconds)."""
        ...

    async def unused_blobs(self, before: int) -> Sequence[str]:
        """Contents not wanted since `before` that no version and no container that may run again has."""
        ...

    async def forget_blob(self, blob: str, before: int) -> bool:
        """Forget content, if it still is one of `unused_blobs`."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret of a container: its placeholder, which the container sees, and its value, which is sealed."""

    container_id: str
    name: str
    domain: str
    placeholder: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class EgressRecord:
    """One attempt to leave a container, when it was over. Never a secret, and of the URL only the path.

    `created_ms` is when it began, in unix milliseconds; `response_id` and `call_id` are those of the call that used the
    container then, "" if none did. `decision` is `denied` if a policy was in the way; `reason` says why that, or why an
    allowed attempt failed. `verified` is false for a tunnel that nobody looked into. `status` is what the process got,
    0 if nothing; bytes are all that moved outside, heads too, `secrets` the names of those that were sent.
    """

    id: str
    owner: str
    container_id: str
    created_ms: int
    response_id: str
    call_id: str
    host: str
    port: int
    method: str
    path: str
    decision: Literal["allowed", "denied"]
    reason: str
    rule: str
    verified: bool
    status: int
    bytes_out: int
    bytes_in: int
    secrets: tuple[str, ...]


class EgressStore(Protocol):
    """Secrets at rest, and the record of what left. Records are only added, until they are old."""

    async def keep_secrets(self, secrets: Sequence[StoredSecret]) -> None:
        """Store secrets, replacing those of the same container, name and domain. Durable on return."""
        ...

    async def secrets(self, container_id: str) -> Sequence[StoredSecret]:
        """A container's secrets, by name and domain."""
        ...

    async def forget_secrets(self, container_id: str) -> None: ...
    async def add(self, records: Sequence[EgressRecord]) -> None:
        """Store records in one transaction. Durable on return."""
        ...

    async def list(self, owner: str, container_id: str, page: Page) -> Listing[EgressRecord]:
        """A page of the records of a container, also after it is gone."""
        ...

    async def forget_records(self, before_ms: int) -> None:
        """Remove the records of attempts that began earlier."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were stored: their key and size."""

    key: str
    bytes: int


class BlobTooLarge(Exception):
    """More bytes arrived than were allowed; nothing was kept."""


class BlobStore(Protocol):
    """Bytes under names that begin with their SHA-256 in hexadecimal. Equal bytes may be one blob, or several."""

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store bytes durably. Raises `BlobTooLarge`."""
        ...

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in chunks. Raises `FileNotFoundError` before the first."""
        ...

    async def delete(self, key: str) -> None:
        """Forget the bytes. Idempotent."""
        ...
