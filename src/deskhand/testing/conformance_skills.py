"""What every `SkillStore` must do, as checks to run against an implementation beside a `ContainerStore`.

A check takes stores that may hold other things already, and raises `AssertionError`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from ..ports.store import ContainerStore, Page, SkillStore, SkillVersionRecord
from .conformance_records import MANY, container_record, every_page, not_found
from .conformance_store import unique

SkillCheck = Callable[[SkillStore, ContainerStore], Awaitable[None]]


def draft(skill_id: str, created_at: int = 1, *, name: str = "s") -> SkillVersionRecord:
    """A version as it is before it has its number."""
    return SkillVersionRecord(unique("skillver"), skill_id, 1, created_at, name, "what for", unique("blob"))


async def a_skill_reads_as_it_was_added(store: SkillStore, _: ContainerStore) -> None:
    owner, other = unique("proj"), unique("proj")
    first = replace(draft(unique("skill"), 7), description="naïve ' 😀")
    await store.add(owner, first)
    found = await store.get(owner, first.skill_id)
    assert found is not None
    assert (found.id, found.owner, found.created_at) == (first.skill_id, owner, 7)
    assert (found.default_version, found.latest_version) == (1, 1)
    assert (found.name, found.description) == (first.name, first.description)
    assert await store.version(owner, first.skill_id, 1) == first
    for stranger in (other, ""):
        assert await store.get(stranger, first.skill_id) is None
        assert await store.version(stranger, first.skill_id, 1) is None
        assert not await store.set_default(stranger, first.skill_id, 1)
        assert await store.add_version(stranger, draft(first.skill_id), default=True) is None
        assert not await store.delete_version(stranger, first.skill_id, 1)
        assert not await store.delete(stranger, first.skill_id)
        assert (await store.list(stranger, Page())).data == []
        await not_found(store.versions(stranger, first.skill_id, Page()))
    assert await store.get(owner, first.skill_id) == found
    assert await store.delete(owner, first.skill_id)
    assert not await store.delete(owner, first.skill_id)
    assert await store.get(owner, first.skill_id) is None
    assert await store.version(owner, first.skill_id, 1) is None


async def skills_and_versions_are_listed_in_order(store: SkillStore, _: ContainerStore) -> None:
    owner = unique("proj")
    skills = [draft(unique("skill"), n // 4) for n in range(MANY)]
    for first in skills:
        await store.add(owner, first)
    await every_page(lambda page: store.list(owner, page), [first.skill_id for first in skills])
    versions = [skills[0].id]
    for n in range(1, MANY):
        made = await store.add_version(owner, draft(skills[0].skill_id, n // 4), default=False)
        assert made is not None
        versions.append(made.id)
    await every_page(lambda page: store.versions(owner, skills[0].skill_id, page), versions)
    await not_found(store.versions(owner, skills[0].skill_id, Page(after=skills[1].id)))
    await not_found(store.versions(owner, unique("skill"), Page()))
    foreign = draft(unique("skill"))
    await store.add(unique("proj"), foreign)
    await not_found(store.list(owner, Page(after=foreign.skill_id)))


async def pointers_follow_the_rules(store: SkillStore, _: ContainerStore) -> None:
    owner, skill_id = unique("proj"), unique("skill")
    await store.add(owner, draft(skill_id, name="one"))

    async def pointers() -> tuple[int, int, str]:
        found = await store.get(owner, skill_id)
        assert found is not None
        return found.default_version, found.latest_version, found.name

    second = await store.add_version(owner, draft(skill_id, name="two"), default=False)
    assert second is not None
    assert second.version == 2
    assert await pointers() == (1, 2, "one")
    third = await store.add_version(owner, draft(skill_id, name="three"), default=True)
    assert third is not None
    assert await pointers() == (3, 3, "three")
    assert not await store.set_default(owner, skill_id, 4)
    assert await store.set_default(owner, skill_id, 2)
    assert await pointers() == (2, 3, "two")
    assert not await store.delete_version(owner, skill_id, 2), "it is the default"
    assert not await store.delete_version(owner, skill_id, 9)
    assert await store.delete_version(owner, skill_id, 3)
    assert not await store.delete_version(owner, skill_id, 3)
    assert await pointers() == (2, 2, "two")
    fourth = await store.add_version(owner, draft(skill_id), default=False)
    assert fourth is not None
    assert fourth.version == 4, "a number is not given out twice"
    for number in (1, 4):
        assert await store.delete_version(owner, skill_id, number)
    assert await store.delete_version(owner, skill_id, 2), "the last one goes with its skill"
    assert await store.get(owner, skill_id) is None
    assert await store.add_version(owner, draft(skill_id), default=False) is None


async def content_is_unused_when_nothing_has_it(store: SkillStore, containers: ContainerStore) -> None:
    owner, first = unique("proj"), draft(unique("skill"))
    plain, dead, back = (container_record(owner) for _ in range(3))
    blobs = {name: unique("blob") for name in ("lonely", "fresh", "plain", "dead", "back")}
    for blob in (first.blob, *blobs.values()):
        await store.keep_blob(blob, 1)
    await store.keep_blob(blobs["fresh"], 1)
    await store.keep_blob(blobs["fresh"], 10)
    await store.add(owner, first)
    await containers.add(replace(plain, state="reserved", skills=f'[{{"digest":"{blobs["plain"]}"}}]'))
    await containers.add(replace(dead, state="expired", skills=f'["{blobs["dead"]}"]'))
    await containers.add(replace(back, state="expired", on_expired="recreate"))
    await containers.set_skills(back.id, f'["{blobs["back"]}"]')
    await containers.set_skills("none", f'["{blobs["lonely"]}"]')
    mine = {first.blob, *blobs.values()}
    assert mine & set(await store.unused_blobs(5)) == {blobs["lonely"], blobs["dead"]}
    assert mine & set(await store.unused_blobs(11)) == {blobs["lonely"], blobs["dead"], blobs["fresh"]}
    assert mine & set(await store.unused_blobs(1)) == set()
    for blob in (first.blob, blobs["plain"], blobs["back"], blobs["fresh"], "none"):
        assert not await store.forget_blob(blob, 5)
    assert await store.forget_blob(blobs["lonely"], 5)
    assert not await store.forget_blob(blobs["lonely"], 5)
    assert await store.delete(owner, first.skill_id)
    assert await store.forget_blob(first.blob, 5)


SKILL_CHECKS: Sequence[SkillCheck] = (
    a_skill_reads_as_it_was_added,
    skills_and_versions_are_listed_in_order,
    pointers_follow_the_rules,
    content_is_unused_when_nothing_has_it,
)
