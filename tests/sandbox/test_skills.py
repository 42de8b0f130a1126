"""Skills in containers: unpacked once, shared by hard links, gone when nobody has them, whatever the server's user."""

import asyncio
import hashlib
import io
import os
import shutil
import statistics
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deskhand.engine.curated_skills import read_curated
from deskhand.ports.sandbox import Bundle, SandboxUnavailable
from deskhand.sandboxes.layout import layout
from deskhand.sandboxes.skills import Shelf
from deskhand.testing.conformance_sandbox_bench import Bench, zip_bundle

pytestmark = pytest.mark.anyio


def packed(**files: bytes) -> tuple[str, bytes]:
    """Digest and archive of a bundle."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        for name, content in {"SKILL.md": b"manifest", **files}.items():
            entries.writestr(f"top/{name}", content)
    return hashlib.sha256(archive.getvalue()).hexdigest(), archive.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a container sees its skills."""
    (tmp_path / "container" / "skills").mkdir(parents=True)
    return tmp_path / "container" / "skills"


def test_a_bundle_is_shared_and_leaves_with_the_last_container(tmp_path: Path, place: Path) -> None:
    shelf, (digest, archive) = Shelf(tmp_path / "shelf"), packed(x=b"content", **{"deep/er/y": b"y"})
    assert not shelf.lend(digest, place / "a")
    assert list(place.iterdir()) == []
    shelf.add(digest, archive)
    shelf.add(digest, archive)
    for name in ("a", "a", "b"):
        assert shelf.lend(digest, place / name)
    assert (place / "a" / "x").samefile(place / "b" / "x")
    assert (place / "a" / "deep" / "er" / "y").read_bytes() == b"y"
    assert (place / "a" / "x").stat().st_mode & 0o7777 == 0o444
    Shelf(tmp_path / "shelf").tidy(0)
    assert (tmp_path / "shelf" / digest).exists(), "two containers have it"
    shutil.rmtree(place / "a")
    shutil.rmtree(place / "b")
    Shelf(tmp_path / "shelf").tidy(3600)
    assert (tmp_path / "shelf" / digest).exists(), "the next container may want it"
    Shelf(tmp_path / "shelf").tidy(0)
    assert list((tmp_path / "shelf").iterdir()) == []
    assert [path.name for path in (tmp_path / "container").iterdir()] == ["skills"]


def test_what_is_not_what_its_digest_says_is_not_unpacked(tmp_path: Path) -> None:
    shelf, (digest, archive) = Shelf(tmp_path / "shelf"), packed()
    with pytest.raises(SandboxUnavailable, match="damaged"):
        shelf.add("0" * 64, archive)
    for name in ("top/../../x", "top", "top//x", "/x/../y"):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as entries:
            entries.writestr(name, b"x")
        with pytest.raises(SandboxUnavailable, match="no path"):
            shelf.add(hashlib.sha256(data.getvalue()).hexdigest(), data.getvalue())
    assert list((tmp_path / "shelf").iterdir()) == []
    shelf.add(digest, archive)
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == [digest]


def test_many_at_once_make_one(tmp_path: Path, place: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    shelf, (digest, archive) = Shelf(tmp_path / "shelf"), packed(**{f"f{n}": b"x" for n in range(50)})

    def one(number: int) -> bool:
        shelf.add(digest, archive)
        return shelf.lend(digest, place / str(number % 4))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(32)))
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == [digest]
    assert {len(list((place / str(n)).iterdir())) for n in range(4)} == {51}


def test_a_full_file_system_takes_no_skill(tmp_path: Path) -> None:
    """On a tmpfs of 8 MB, as /run may be one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    root = tmp_path / "small"
    root.mkdir()
    with ExitStack() as undo:
        assert os.system(f"mount -t tmpfs -o size=8m none {root}") == 0
        undo.callback(os.system, f"umount {root}")
        shelf = Shelf(root / "shelf")
        shelf.add(*packed(x=b"1" * (1 << 20)))
        with pytest.raises(SandboxUnavailable, match="no room"):
            shelf.add(*packed(x=b"2" * (7 << 20)))
        assert len(list((root / "shelf").iterdir())) == 1


async def test_a_container_that_is_gone_leaves_its_skills_to_be_swept(bench: Bench, root: Path) -> None:
    shelf = layout(root, as_root=os.geteuid() == 0).skills
    bundle = zip_bundle("look-1", {"a": b"x"}, [])
    async with bench.desk() as kept:
        await bench.engine.provide(kept.container_id, bundle)
        async with bench.desk() as gone:
            await bench.engine.provide(gone.container_id, bundle)
        Shelf(shelf).tidy(0)
        assert (await kept.run("cat /mnt/skills/look-1/a")).text == "x"
    Shelf(shelf).tidy(0)
    assert list(shelf.iterdir()) == []


async def test_a_container_keeps_its_skills_when_the_server_is_another(bench: Bench) -> None:
    asked: list[str] = []
    bundle = zip_bundle("look-1", {"a": b"x"}, asked)
    async with bench.desk() as desk:
        await bench.engine.provide(desk.container_id, bundle)
        restarted = bench.make()
        await restarted.provide(desk.container_id, bundle)
        assert len(asked) == 1
        again = await restarted.attach(desk.container_id)
        assert again is not None
        assert (await desk.run("ls /mnt/skills")).text == "look-1"


async def test_content_that_is_missing_is_an_error_of_its_own(bench: Bench) -> None:
    async def missing() -> AsyncIterator[bytes]:
        raise FileNotFoundError("0" * 64)
        yield b""

    async with bench.desk() as desk:
        with pytest.raises(FileNotFoundError):
            await bench.engine.provide(desk.container_id, Bundle("0" * 64, "x-1", missing))
        assert (await desk.run("ls -A /mnt/skills")).text == ""


async def test_a_known_skill_is_added_by_links_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What adding costs is printed for the record; that no byte is copied is what is tested."""
    files = {f"file{n}": os.urandom(2000) for n in range(499)}
    bundle = zip_bundle("large-1", files, [])
    took = []
    async with bench.desk() as first:
        await bench.engine.provide(first.container_id, bundle)
        for _ in range(5):
            async with bench.desk() as desk:
                began = time.perf_counter()
                await bench.engine.provide(desk.container_id, bundle)
                took.append(time.perf_counter() - began)
                assert (await desk.run("ls /mnt/skills/large-1 | wc -l")).text == "500"
                links = await desk.run("stat -c %h /mnt/skills/large-1/file7")
                assert links.text == "3", "the shelf's, the first container's and this one's"
    with capsys.disabled():
        print(f"\na known skill of 500 files: {statistics.median(took) * 1000:.1f} ms")


async def test_the_curated_skills_are_provided_in_a_moment(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bundles = []
    for curated in read_curated().values():

        async def read(archive: bytes = curated.archive) -> AsyncIterator[bytes]:
            yield archive

        bundles.append(Bundle(curated.version.blob, f"{curated.skill.name}-1", read))
    took = []
    for _ in range(2):
        async with bench.desk() as desk:
            began = time.perf_counter()
            await asyncio.gather(*(bench.engine.provide(desk.container_id, bundle) for bundle in bundles))
            took.append(time.perf_counter() - began)
            listed = await desk.run("cat /mnt/skills/*/SKILL.md | grep ^name:")
            assert listed.text.split() == [word for b in bundles for word in ("name:", b.folder.removesuffix("-1"))]
    with capsys.disabled():
        print(f"\nfour curated skills: {took[0] * 1000:.1f} ms new, {took[1] * 1000:.1f} ms known")
