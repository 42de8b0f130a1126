"""Containers' records, and the ids of their files, in the database."""

from collections.abc import Sequence
from dataclasses import asdict

from ..core.errors import not_found
from ..ports.store import ContainerFileRecord, ContainerRecord, ContainerState, Listing, Page
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column


class SqlContainers:
    """The `ContainerStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database, host: str = "") -> None:
        self._database = database
        self._host = host
        self._sql = load("containers", database.driver)
        self._lists = ListQueries(self._sql.container_place, self._sql.newer_containers, self._sql.older_containers)

    async def add(self, record: ContainerRecord) -> None:
        """Store a new record, of this host. Durable on return. Raises `IntegrityViolated` on a known id."""
        row = {name: column(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
        row["host"] = self._host
        await self._database.write(lambda connection: self._sql.insert_container(connection, **row))

    async def get(self, owner: str, container_id: str) -> ContainerRecord | None:
        """The record in whatever state."""
        key = {"id": column(container_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.container(connection, **key))
        return ContainerRecord(*row) if row else None

    async def list(self, owner: str, page: Page, name: str | None) -> Listing[ContainerRecord]:
        """A page of the owner's containers. Raises `ApiError` (404) if `page.after` is not one of them."""
        filters = {"owner": column(owner), "name": name and column(name)}
        return await self._database.read(
            lambda connection: list_page(connection, self._lists, page, "Container", filters, ContainerRecord)
        )

    async def live(self) -> Sequence[ContainerRecord]:
        """Every running container of every owner on this host, oldest first."""
        rows = await self._database.read(lambda connection: [*self._sql.live_containers(connection, host=self._host)])
        return [ContainerRecord(*row) for row in rows]

    async def count_live(self, owner: str) -> int:
        """How many of the owner's containers run."""
        owner = column(owner)
        (count,) = await self._database.read(lambda connection: self._sql.count_live(connection, owner=owner))
        return int(count)

    async def touch(self, container_id: str, now: int) -> None:
        """Set `last_active_at`. Does nothing if the container is gone."""
        id_ = column(container_id)
        await self._database.write(lambda connection: self._sql.touch(connection, id=id_, now=now))

    async def set_state(self, container_id: str, state: ContainerState) -> None:
        """Set the state. Does nothing if the container is gone."""
        id_ = column(container_id)
        if state == "running":
            await self._database.write(lambda c: self._sql.begin_container(c, id=id_, host=self._host))
        else:
            await self._database.write(lambda connection: self._sql.set_state(connection, id=id_, state=state))

    async def set_skills(self, container_id: str, skills: str) -> None:
        """Set the JSON of its skills. Does nothing if the container is gone."""
        row = {"id": column(container_id), "skills": column(skills)}
        await self._database.write(lambda connection: self._sql.set_skills(connection, **row))

    async def forget_reserved(self, before: int) -> None:
        """Remove the records of containers that were reserved before a time and not touched since."""
        await self._database.write(lambda connection: self._sql.forget_reserved(connection, before=before))

    async def delete(self, owner: str, container_id: str) -> bool:
        """Remove the record and its files' records."""
        key = {"id": column(container_id), "owner": column(owner)}
        return bool(await self._database.write(lambda connection: self._sql.delete_container(connection, **key)))

    async def add_file(self, record: ContainerFileRecord) -> ContainerFileRecord:
        """Store the record, or return the one of its path. Raises `ApiError` (404) if the container is gone."""
        row = {name: column(value) if isinstance(value, str) else value for name, value in asdict(record).items()}

        def unit(connection: Connection) -> ContainerFileRecord | None:
            self._sql.insert_container_file(connection, **row)
            found = self._sql.container_file_at(connection, container_id=row["container_id"], path=row["path"])
            return ContainerFileRecord(*found) if found else None

        stored = await self._database.write(unit)
        if stored is None:
            raise not_found("Container", record.container_id)
        return stored

    async def files(self, container_id: str) -> Sequence[ContainerFileRecord]:
        """The container's files that have ids, in the order they got them."""
        id_ = column(container_id)
        rows = await self._database.read(lambda connection: [*self._sql.container_files(connection, container_id=id_)])
        return [ContainerFileRecord(*row) for row in rows]

    async def file(self, container_id: str, file_id: str) -> ContainerFileRecord | None:
        """One file of the container."""
        key = {"id": column(file_id), "container_id": column(container_id)}
        row = await self._database.read(lambda connection: self._sql.container_file(connection, **key))
        return ContainerFileRecord(*row) if row else None

    async def delete_file(self, container_id: str, file_id: str) -> None:
        """Forget the id of a file. Idempotent."""
        key = {"id": column(file_id), "container_id": column(container_id)}
        await self._database.write(lambda connection: self._sql.delete_container_file(connection, **key))
