"""Containers from images: from a layout folder, tarballs and a real registry; hostile and useless images."""

import asyncio
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.ports.sandbox import SandboxUnavailable
from deskhand.sandboxes import images
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.engine import ResidentEngine
from deskhand.sandboxes.images import accounts, environment, image_root, locate
from deskhand.sandboxes.layout import layout
from deskhand.sandboxes.oci import CrunEngine, GvisorEngine
from deskhand.sandboxes.rootfs import PYTHON
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench

from .conftest import needs_bwrap, needs_root
from .test_oci import WHY_NOT

TOOLS = ("skopeo", "umoci")
REGISTRY = shutil.which("docker-registry", path=f"{os.environ['PATH']}:{Path(sys.executable).parent}")
needs_tools = pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason="skopeo or umoci is missing")
pytestmark = [pytest.mark.anyio, needs_tools]

PROGRAMS = (PYTHON, "/bin/sh", "/bin/cat", "/bin/ls", "/usr/bin/id", "/usr/bin/env", "/usr/bin/touch")


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _tree(archive: tarfile.TarFile) -> None:
    """A root of programs of this host, and what they are linked with."""
    version = Path(PYTHON).resolve().name
    files = {os.path.realpath(program) for program in PROGRAMS}
    modules = map(str, Path("/usr/lib", version, "lib-dynload").glob("*.so"))
    said = subprocess.run(["ldd", *files, *modules], capture_output=True, text=True, check=False).stdout
    files |= {word for line in said.splitlines() for word in line.split() if word.startswith(("/lib", "/usr/lib"))}
    files = {path for path in files if not path.endswith(":") and "lib-dynload" not in path}
    for program in PROGRAMS:
        _link(archive, f"usr/bin/{Path(program).name}", os.path.realpath(program))
    for path in sorted(files):
        archive.add(os.path.realpath(path), f"usr{path.removeprefix('/usr')}", recursive=False)
    for name in ("bin", "lib", "lib64"):
        _link(archive, name, f"usr/{name}")
    archive.add(f"/usr/lib/{version}", f"usr/lib/{version}", filter=_not_tests)


def _not_tests(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(("/test", "__pycache__", "/idlelib", "/config", "/dist-packages")) else member


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    if name.removeprefix("usr/bin/") == Path(target).name and name.startswith("usr/bin/"):
        return
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)


def _file(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text)
    archive.addfile(member, io.BytesIO(text.encode()))


def _image(folder: Path, fill: Callable[[tarfile.TarFile], None], *config: str) -> Path:
    """An OCI layout with an image of one layer."""
    layer, place = folder / "layer.tar", folder / "layout"
    with tarfile.open(layer, "w") as archive:
        fill(archive)
    _run("umoci", "init", "--layout", str(place))
    _run("umoci", "new", "--image", f"{place}:latest")
    _run("umoci", "raw", "add-layer", "--image", f"{place}:latest", str(layer))
    if config:
        _run("umoci", "config", "--image", f"{place}:latest", *config)
    layer.unlink()
    return place


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def fill(archive: tarfile.TarFile) -> None:
        _tree(archive)
        _file(
            archive, "etc/passwd", "root:x:0:0::/root:/bin/sh\nbuilder:x:1000:1000::/build:/bin/sh\nwww:x:33:33::/:/x\n"
        )
        _file(archive, "etc/from-image", "the image's own\n")
        _file(archive, "usr/bin/set-user-id", "#!/bin/sh\n")

    folder = tmp_path_factory.mktemp("image")
    return _image(folder, fill, "--config.env", "PATH=/usr/bin:/bin", "--config.env", "COLOUR=blue",
                  "--config.env", "HOME=/build")  # fmt: skip


@contextmanager
def _registry(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "registry.yml"
    storage = f"storage:\n  filesystem:\n    rootdirectory: {folder / 'store'}"
    config.write_text(f"version: 0.1\n{storage}\nhttp:\n  addr: 127.0.0.1:{port}\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert REGISTRY is not None
    with subprocess.Popen([REGISTRY, "serve", str(config)], **quiet) as process:  # type: ignore[call-overload]
        try:
            for _ in range(200):
                with socket.socket() as attempt:
                    if attempt.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


async def _told(engine: ResidentEngine) -> list[str]:
    """What a container sees of its image."""
    bench = Bench(lambda: engine)
    try:
        async with bench.desk() as desk:
            script = "cat /etc/from-image; id -un; echo $COLOUR $HOME $PATH; python3 -c 'print(6 * 7)'"
            return (await desk.run(script)).text.split("\n")
    finally:
        await engine.sweep(())


EXPECTED = [
    "the image's own", "agent", "blue /home/agent /opt/venv/bin:/home/agent/.local/bin:/usr/bin:/bin", "42"
]  # fmt: skip


@needs_bwrap
async def test_a_layout_tarballs_and_a_registry_give_the_same_containers(
    image: Path, root: Path, tmp_path: Path
) -> None:
    oci, docker = tmp_path / "oci.tar", tmp_path / "docker.tar"
    _run("skopeo", "copy", f"oci:{image}:latest", f"oci-archive:{oci}")
    _run("skopeo", "copy", f"oci:{image}:latest", f"docker-archive:{docker}:desk:1")
    for reference in (str(image), str(oci), str(docker)):
        engine = BubblewrapEngine(root, choose_root=image_root(reference, tmp_path / "images"))
        assert await _told(engine) == EXPECTED, reference
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed; the rest has passed")
    with _registry(tmp_path) as address:
        name = f"{address}/desk:1"
        _run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{image}:latest", f"docker://{name}")
        assert await _told(BubblewrapEngine(root, choose_root=image_root(name, tmp_path / "images"))) == EXPECTED
        inspect = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}"]
        digest = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        pinned = image_root(f"{address}/desk@{digest}", tmp_path / "pinned")
        assert await _told(BubblewrapEngine(root, choose_root=pinned)) == EXPECTED
    assert await _told(BubblewrapEngine(root, choose_root=pinned)) == EXPECTED, (
        "what is pinned and here is not asked for"
    )
    gone = BubblewrapEngine(root, choose_root=image_root(name, tmp_path / "images"))
    with pytest.raises(SandboxUnavailable, match="the image cannot be had"):
        await gone.allocate("c", SMALL)
    assert str(layout(root, as_root=True).runtime) not in Path("/proc/self/mountinfo").read_text(), (
        "nothing is left of it"
    )


@pytest.mark.parametrize("engine", [CrunEngine, GvisorEngine])
async def test_other_engines_start_from_images_too(
    image: Path, root: Path, tmp_path: Path, engine: Callable[..., ResidentEngine]
) -> None:
    reason = WHY_NOT["crun" if engine is CrunEngine else "gvisor"]
    if reason:
        pytest.skip(reason)
    assert await _told(engine(root, choose_root=image_root(str(image), tmp_path / "images"))) == EXPECTED


@needs_bwrap
@needs_root
async def test_nothing_of_an_image_can_be_changed_or_gives_a_privilege(image: Path, root: Path, tmp_path: Path) -> None:
    engine = BubblewrapEngine(root, choose_root=image_root(str(image), tmp_path / "images"))
    bench = Bench(lambda: engine)
    async with bench.desk() as desk:
        for path in ("/etc/passwd", "/usr/bin/python3", "/new", "/etc/from-image"):
            assert (await desk.run(f"echo x >> {path}")).end != (await desk.run("true")).end
        assert (await desk.run("echo x > /var/tmp/mine; cat /tmp/mine")).text == "x"
        mounts = Path("/proc/self/mountinfo").read_text()
        shown = [
            line
            for line in mounts.splitlines()
            if "/image-" in line and layout(root, as_root=True).installation in line
        ]
        assert [flag in shown[0].split(" ")[5].split(",") for flag in ("ro", "nosuid", "nodev")] == [True] * 3
        await bench.engine.sweep((desk.container_id,))
    await engine.sweep(())
    assert "/image-" not in "".join(
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(layout(root, as_root=True).runtime) in line
    )
    (home,) = (tmp_path / "images").iterdir()
    assert (home / "root/etc/from-image").read_text() == "the image's own\n", "sweeping leaves the image"


def _make(folder: Path, fill: Callable[[tarfile.TarFile], None]) -> None:
    reference = str(_image(folder, fill))
    image_root(reference, folder / "images")(layout(folder / "data", as_root=False))


def test_an_image_whose_folders_are_links_is_refused_and_nothing_is_written_through_them(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for number, name in enumerate(("mnt", "opt", "etc", "home")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises((SandboxUnavailable, OSError)):
            _make(folder, lambda archive, name=name: _link(archive, name, str(victim)))  # type: ignore[misc]
        assert list((folder / "images").iterdir()) == [], "no half of an image is left"
    assert list(victim.iterdir()) == []


def test_a_file_that_is_a_link_is_replaced_and_not_written_through(image: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")

    def fill(archive: tarfile.TarFile) -> None:
        _tree(archive)
        for name in ("passwd", "hosts", "resolv.conf"):
            _link(archive, f"etc/{name}", str(victim))

    _make(tmp_path, fill)
    assert victim.read_text() == "untouched"
    (home,) = (tmp_path / "images").iterdir()
    assert "agent:x:1000" in (home / "root/etc/passwd").read_text()
    assert "untouched" not in (home / "root/etc/passwd").read_text()


def test_an_image_without_python_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"no python3 of version 3\.9 or newer"):
        _make(tmp_path, lambda archive: _file(archive, "etc/only", "this"))
    assert list((tmp_path / "images").iterdir()) == []


def test_an_image_that_is_too_large_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
    with pytest.raises(SandboxUnavailable, match="the image was given up: it has more than"):
        _make(tmp_path, lambda archive: _file(archive, "much", "compressible" * (1 << 18)))
    assert list((tmp_path / "images").iterdir()) == []


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tarball")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        _file(archive, "readme", "hello")
    for name, words in (
        ("text", "cannot be read as a tarball"),
        ("other.tar", "holds no image"),
        ("no", "no OCI layout"),
    ):
        with pytest.raises(SandboxUnavailable, match=words):
            locate(str(tmp_path / name))
    assert locate("debian:12") == "docker://debian:12"


def test_an_image_chooses_its_path_and_variables_but_not_who_we_are() -> None:
    found = environment(["PATH=/a:/b", "X=1=2", "HOME=/evil", "USER=root", "=x", "no equals sign", "NUL=\0"])
    assert found == {"X": "1=2", "PATH": "/opt/venv/bin:/home/agent/.local/bin:/a:/b"}
    assert environment([])["PATH"].endswith(images.DEFAULT_PATH)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=6).map("\n".join))
def test_our_user_is_always_there_once(passwd: str) -> None:
    ours = "root:x:0:0::/:/x\nagent:x:1000:1000::/home/agent:/bin/bash\n"
    lines = accounts(passwd + "\nagent:x:5:5::/:/x\nsomebody:x:1000:7::/:/x", ours).splitlines()
    named = [line.split(":")[:3:2] for line in lines if line.count(":") > 1]
    assert [pair for pair in named if "agent" == pair[0] or pair[-1] == "1000"] == [["agent", "1000"]]


def test_two_servers_that_unpack_at_the_same_time_share_the_result(image: Path, tmp_path: Path) -> None:
    def unpack() -> Path:
        return image_root(str(image), tmp_path / "images")(layout(tmp_path / "data", as_root=False)).path

    async def both() -> list[Path]:
        return await asyncio.gather(*(asyncio.to_thread(unpack) for _ in range(2)))

    one, two = asyncio.run(both())
    assert one == two
    assert len(list((tmp_path / "images").iterdir())) == 1
