"""Skills: versioned bundles of instructions and files that a container can have.

A version never changes. Its content is one zip in a blob store of its own; a blob is dropped when no version and no
container that may run again has it, some time after it was last wanted.
"""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import structlog

from ..core.errors import ApiError, not_found
from ..ports.store import BlobStore, Listing, Page, SkillRecord, SkillStore, SkillVersionRecord
from ..wire.skills import HostedSkill, InlineSkill, SkillReference
from .background import repeatedly
from .container_skills import ContainerSkill
from .curated_skills import CuratedSkill
from .front_matter import BadSkill
from .ids import new_id
from .pages import cut
from .skill_bundle import SkillBundle, read_archive

log = structlog.get_logger()

LATEST = "latest"
HASH_DIGITS = 8
MAX_DIGITS = 9
CHECKS_AT_ONCE = 2
"""Archives that are unpacked at the same time: each takes a core, and some 100 MB."""
COLLECT_SECONDS = 300.0
UNUSED_SECONDS = 3600
"""How long content stays that nothing names, or not yet."""


class Skills:
    """The skills of every owner, and those that ship with Deskhand."""

    def __init__(
        self,
        store: SkillStore,
        blobs: BlobStore,
        curated: Mapping[str, CuratedSkill],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._curated = curated
        self._now = now
        self._checking = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._keeping = asyncio.Lock()
        self._kept_at: dict[str, float] = {}

    async def check(self, read: Callable[[], SkillBundle], *, param: str) -> SkillBundle:
        """What `read` makes of an upload, on a thread. Raises `ApiError` with what is wrong with it."""
        async with self._checking:
            try:
                return await asyncio.to_thread(read)
            except BadSkill as exc:
                raise ApiError(str(exc), code="invalid_skill", param=param) from None

    async def create(self, owner: str, bundle: SkillBundle) -> SkillRecord:
        """Make a skill with its first version, which is its default."""
        skill_id = new_id("skill")
        first = await self._draft(skill_id, bundle)
        await self._store.add(owner, first)
        return SkillRecord(skill_id, owner, first.created_at, 1, 1, bundle.name, bundle.description)

    async def get(self, owner: str, skill_id: str, *, param: str | None = None) -> SkillRecord:
        """The skill. Raises `ApiError` (404)."""
        if curated := self._curated.get(skill_id):
            return curated.skill
        record = await self._store.get(owner, skill_id)
        if record is None:
            raise not_found("Skill", skill_id, param=param)
        return record

    async def list(self, owner: str, page: Page) -> Listing[SkillRecord]:
        """A page of the owner's skills and the curated ones, which are the oldest."""
        curated = [known.skill for known in self._curated.values()]
        if page.order == "desc":
            if page.after in self._curated:
                return cut(curated[::-1], page, "Skill")
            theirs = await self._store.list(owner, page)
            room = page.limit - len(theirs.data)
            return Listing([*theirs.data, *curated[::-1][:room]], theirs.has_more or len(curated) > room)
        if page.after is not None and page.after not in self._curated:
            return await self._store.list(owner, page)
        first = cut(curated, page, "Skill")
        theirs = await self._store.list(owner, Page(page.limit - len(first.data), "asc"))
        return Listing([*first.data, *theirs.data], first.has_more or theirs.has_more)

    async def set_default(self, owner: str, skill_id: str, version: str) -> SkillRecord:
        """Move the default pointer. Raises `ApiError` (404)."""
        self._check_own(skill_id)
        await self.get(owner, skill_id)
        number = read_number(version)
        if number is None or not await self._store.set_default(owner, skill_id, number):
            raise not_found("Skill version", version, param="default_version")
        return await self.get(owner, skill_id)

    async def delete(self, owner: str, skill_id: str) -> None:
        """Forget a skill with all its versions; containers that have it keep it. Raises `ApiError` (404)."""
        self._check_own(skill_id)
        if not await self._store.delete(owner, skill_id):
            raise not_found("Skill", skill_id)

    async def add_version(self, owner: str, skill_id: str, bundle: SkillBundle, *, default: bool) -> SkillVersionRecord:
        """Make a version, the newest. Raises `ApiError` (404)."""
        self._check_own(skill_id)
        await self.get(owner, skill_id)
        made = await self._store.add_version(owner, await self._draft(skill_id, bundle), default=default)
        if made is None:
            raise not_found("Skill", skill_id)
        return made

    async def version(self, owner: str, skill_id: str, version: str) -> SkillVersionRecord:
        """One version. Raises `ApiError` (404)."""
        number = read_number(version)
        found = None if number is None else await self._version(owner, skill_id, number)
        if found is None:
            await self.get(owner, skill_id)
            raise not_found("Skill version", version)
        return found

    async def versions(self, owner: str, skill_id: str, page: Page) -> Listing[SkillVersionRecord]:
        """A page of a skill's versions. Raises `ApiError` (404)."""
        if curated := self._curated.get(skill_id):
            return cut([curated.version], page, "Skill version")
        return await self._store.versions(owner, skill_id, page)

    async def delete_version(self, owner: str, skill_id: str, version: str) -> SkillVersionRecord:
        """Forget a version, and the skill with its last one. Raises `ApiError`; the default version has to stay."""
        self._check_own(skill_id)
        found = await self.version(owner, skill_id, version)
        if not await self._store.delete_version(owner, skill_id, found.version):
            raise ApiError(
                f"Version {found.version} is the default of this skill. Make another version the default first, or "
                "delete the skill.",
                code="invalid_value",
                param="version",
            )
        return found

    async def content(
        self, owner: str, skill_id: str, version: str | None
    ) -> tuple[SkillVersionRecord, AsyncIterator[bytes]]:
        """A version, or the default one, and its zip. Raises `ApiError` (404)."""
        default = str((await self.get(owner, skill_id)).default_version)
        found = await self.version(owner, skill_id, default if version is None else version)
        if curated := self._curated.get(skill_id):
            return found, _once(curated.archive)
        return found, self._blobs.open(found.blob)

    async def resolve(self, owner: str, asked: Sequence[HostedSkill], where: str) -> tuple[ContainerSkill, ...]:
        """The skills that a request names, ready for a container; `where` says where in the request they stand.

        Raises `ApiError`, also for two different ones of one name: a model could not tell them apart.
        """
        found: dict[str, ContainerSkill] = {}
        for index, one in enumerate(asked):
            skill = await self._resolve(owner, one, f"{where}[{index}]")
            if found.setdefault(skill.name, skill) != skill:
                raise ApiError(
                    f"Two different skills are named '{skill.name}'.", code="invalid_value", param=f"{where}[{index}]"
                )
        return tuple(found.values())

    async def collect_forever(self) -> None:
        """Drop content that nothing needs, until cancelled."""
        await repeatedly("skills.collection", self.collect, COLLECT_SECONDS)

    async def collect(self) -> None:
        """Drop content that nothing needs."""
        before = int(self._now()) - UNUSED_SECONDS
        for blob in await self._store.unused_blobs(before):
            async with self._keeping:
                if await self._store.forget_blob(blob, before):
                    await self._blobs.delete(blob)

    async def _resolve(self, owner: str, one: HostedSkill, where: str) -> ContainerSkill:
        match one:
            case SkillReference():
                version = await self._referenced(owner, one, where)
                if curated := self._curated.get(version.skill_id):
                    await self._keep_curated(curated)
                else:
                    await self._store.keep_blob(version.blob, int(self._now()))
                return ContainerSkill(version.name, str(version.version), version.description, version.blob)
            case InlineSkill():
                bundle = await self.check(lambda: _unpacked(one), param=f"{where}.source.data")
                _check_told(one, bundle, where)
                digest = await self._keep(bundle.archive)
                return ContainerSkill(bundle.name, digest[:HASH_DIGITS], bundle.description, digest)

    async def _referenced(self, owner: str, reference: SkillReference, where: str) -> SkillVersionRecord:
        skill = await self.get(owner, reference.skill_id, param=f"{where}.skill_id")
        match reference.version:
            case None:
                number: int | None = skill.default_version
            case "latest":
                number = skill.latest_version
            case asked:
                number = read_number(str(asked))
        if number is None:
            raise ApiError(
                f"Invalid '{where}.version': a positive number or '{LATEST}', got {reference.version!r}.",
                code="invalid_value",
                param=f"{where}.version",
            )
        found = await self._version(owner, skill.id, number)
        if found is None:
            raise not_found("Skill version", str(number), param=f"{where}.version")
        return found

    async def _version(self, owner: str, skill_id: str, number: int) -> SkillVersionRecord | None:
        if curated := self._curated.get(skill_id):
            return curated.version if curated.version.version == number else None
        return await self._store.version(owner, skill_id, number)

    async def _draft(self, skill_id: str, bundle: SkillBundle) -> SkillVersionRecord:
        """A version that is not stored yet; its content is."""
        digest = await self._keep(bundle.archive)
        now = int(self._now())
        return SkillVersionRecord(new_id("skillver"), skill_id, 1, now, bundle.name, bundle.description, digest)

    async def _keep_curated(self, curated: CuratedSkill) -> None:
        """Store the content of a curated skill, unless that was done not long ago: it is asked for all the time."""
        digest, now = curated.version.blob, self._now()
        if now - self._kept_at.get(digest, 0.0) > UNUSED_SECONDS / 2:
            await self._keep(curated.archive)
            self._kept_at[digest] = now

    async def _keep(self, archive: bytes) -> str:
        """Store content, for a while at least; its digest."""
        digest = hashlib.sha256(archive).hexdigest()
        async with self._keeping:
            # Noted first, so that what a killed server has stored is collected as well.
            await self._store.keep_blob(digest, int(self._now()))
            blob = await self._blobs.put(_once(archive), max_bytes=len(archive))
        assert blob.key == digest
        return digest

    def _check_own(self, skill_id: str) -> None:
        if skill_id in self._curated:
            raise ApiError(f"'{skill_id}' ships with Deskhand and cannot be changed or deleted.", status=403)


def read_number(text: str) -> int | None:
    """A version number; None if `text` is none."""
    plain = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and not text.startswith("0")
    return int(text) if plain else None


def _unpacked(skill: InlineSkill) -> SkillBundle:
    try:
        data = base64.b64decode(skill.source.data, validate=True)
    except ValueError:
        raise BadSkill("The data of an inline skill must be base64.") from None
    return read_archive(data)


def _check_told(skill: InlineSkill, bundle: SkillBundle, where: str) -> None:
    for field, told, found in (
        ("name", skill.name, bundle.name),
        ("description", skill.description, bundle.description),
    ):
        if " ".join(told.split()) != found:
            raise ApiError(
                f"Inline skill {field} must match the front matter of its SKILL.md, which says {found!r}.",
                code="invalid_value",
                param=f"{where}.{field}",
            )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
