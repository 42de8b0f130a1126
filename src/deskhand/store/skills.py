"""Skills' records, and which packed contents they need, in the database."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ..core.errors import not_found
from ..ports.store import Listing, Page, SkillRecord, SkillVersionRecord
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column

_QUOTED = re.compile(r'"([^"]*)"')
"""The words of a container's JSON, among them the keys of its blobs."""


class SqlSkills:
    """The `SkillStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("skills", database.driver)
        self._lists = ListQueries(self._sql.skill_place, self._sql.newer_skills, self._sql.older_skills)

    async def add(self, owner: str, first: SkillVersionRecord) -> None:
        """Store a new skill. Durable on return. Raises `IntegrityViolated` on a known id."""
        version = _row(replace(first, version=1))

        def unit(connection: Connection) -> None:
            key = {"id": version["skill_id"], "owner": column(owner), "created_at": first.created_at}
            self._sql.insert_skill(connection, **key)
            self._sql.insert_version(connection, **version)

        await self._database.write(unit)

    async def get(self, owner: str, skill_id: str) -> SkillRecord | None:
        """The skill as its default version describes it."""
        key = {"id": column(skill_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.skill(connection, **key))
        return SkillRecord(*row) if row else None

    async def list(self, owner: str, page: Page) -> Listing[SkillRecord]:
        """A page of the owner's skills. Raises `ApiError` (404) if `page.after` is not one of them."""
        filters: dict[str, str | None] = {"owner": column(owner)}
        return await self._database.read(lambda c: list_page(c, self._lists, page, "Skill", filters, SkillRecord))

    async def set_default(self, owner: str, skill_id: str, version: int) -> bool:
        """Move the default pointer."""
        key = {"id": column(skill_id), "owner": column(owner), "version": version}
        return bool(await self._database.write(lambda connection: self._sql.set_default(connection, **key)))

    async def delete(self, owner: str, skill_id: str) -> bool:
        """Remove a skill and its versions."""
        key = {"id": column(skill_id), "owner": column(owner)}
        return bool(await self._database.write(lambda connection: self._sql.delete_skill(connection, **key)))

    async def add_version(self, owner: str, draft: SkillVersionRecord, *, default: bool) -> SkillVersionRecord | None:
        """Store a version under the next number. Durable on return."""
        key = {"id": column(draft.skill_id), "owner": column(owner)}

        def unit(connection: Connection) -> SkillVersionRecord | None:
            if not self._sql.number_version(connection, **key):
                return None
            (number,) = self._sql.last_number(connection, **key)
            made = replace(draft, version=number)
            self._sql.insert_version(connection, **_row(made))
            if default:
                self._sql.set_default(connection, **key, version=number)
            return made

        return await self._database.write(unit)

    async def version(self, owner: str, skill_id: str, version: int) -> SkillVersionRecord | None:
        """One version."""
        key = {"skill_id": column(skill_id), "owner": column(owner), "version": version}
        row = await self._database.read(lambda connection: self._sql.version(connection, **key))
        return SkillVersionRecord(*row) if row else None

    async def versions(self, owner: str, skill_id: str, page: Page) -> Listing[SkillVersionRecord]:
        """A page of a skill's versions. Raises `ApiError` (404) on an unknown skill or `page.after`."""
        skill = {"owner": column(owner), "skill_id": column(skill_id)}

        def place(connection: Connection, **key: Any) -> tuple[int, int] | None:
            found: tuple[int, int] | None = self._sql.version_place(connection, **key, skill_id=skill["skill_id"])
            return found

        lists = ListQueries(place, self._sql.newer_versions, self._sql.older_versions)

        def unit(connection: Connection) -> Listing[SkillVersionRecord]:
            if self._sql.skill_place(connection, id=skill["skill_id"], owner=skill["owner"]) is None:
                raise not_found("Skill", skill_id)
            return list_page(connection, lists, page, "Skill version", skill, SkillVersionRecord)

        return await self._database.read(unit)

    async def delete_version(self, owner: str, skill_id: str, version: int) -> bool:
        """Remove a version that may go, and the skill with its last one."""
        key = {"skill_id": column(skill_id), "owner": column(owner), "version": version}

        def unit(connection: Connection) -> bool:
            gone = self._sql.delete_plain_version(connection, **key)
            return bool(gone or self._sql.delete_skill_of_last_version(connection, **key))

        return await self._database.write(unit)

    async def keep_blob(self, blob: str, now: int) -> None:
        """Note that content is wanted. Durable on return."""
        await self._database.write(lambda connection: self._sql.keep_blob(connection, blob=column(blob), now=now))

    async def unused_blobs(self, before: int) -> Sequence[str]:
        """Contents that nobody needs."""

        def unit(connection: Connection) -> list[str]:
            unused = [blob for (blob,) in self._sql.blobs_without_version(connection, before=before)]
            if not unused:
                return []
            used: set[str] = set()
            for (skills,) in self._sql.skills_of_containers(connection):
                used.update(_QUOTED.findall(skills))
            return [blob for blob in unused if blob not in used]

        return await self._database.read(unit)

    async def forget_blob(self, blob: str, before: int) -> bool:
        """Forget content that nobody needs."""
        key = {"blob": column(blob), "before": before}
        return bool(await self._database.write(lambda connection: self._sql.forget_blob(connection, **key)))


def _row(record: SkillVersionRecord) -> dict[str, Any]:
    return {name: column(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
