"""What the server does when the container lies, stalls or swaps files under its hands."""

import asyncio
import ctypes
import os
import struct
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, Output, SandboxGone, SandboxUnavailable, WorkspaceError
from deskhand.sandboxes import connection
from deskhand.sandboxes.connection import dial
from deskhand.sandboxes.workspace import LATEST, DirectoryWorkspace, Site

pytestmark = pytest.mark.anyio

COMMAND = Command(("true",), 0.1, 10, 10)


@asynccontextmanager
async def _agent(path: Path, answer: bytes, *, hang: bool) -> AsyncIterator[None]:
    """An agent that answers everything with the same bytes, and then hangs or goes."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.write(answer)
        with suppress(ConnectionError):
            await writer.drain()
            if hang:
                await release.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        release.set()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload


LIES = {
    "a frame of a gigabyte": struct.pack(">I", 1 << 30) + b"O",
    "an unknown frame": _frame(b"!", b""),
    "more output than asked for": _frame(b"O", b"\x01" + b"x" * 21),
    "a pong": _frame(b"Q", b""),
    "an impossible status": _frame(b"E", b"\0\xff\0"),
    "two counts": _frame(b"D", struct.pack(">BQQ", 1, 5, 5)) * 2,
    "nonsense": os.urandom(64),
}


async def _exec(path: Path) -> list[object]:
    with dial(path) as channel:
        await channel.begin(COMMAND)
        return [event async for event in channel.replies(COMMAND)]


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_ends_the_trust(tmp_path: Path, lie: str) -> None:
    async with _agent(tmp_path / "s", LIES[lie], hang=False):
        with pytest.raises((SandboxUnavailable, SandboxGone)):
            await _exec(tmp_path / "s")


async def test_silence_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KILL_PATIENCE_S", "FAREWELL_S", "PING_S"):
        monkeypatch.setattr(connection, name, 0.1)
    async with _agent(tmp_path / "s", _frame(b"O", b"\x01ok")[:6], hang=True):
        with pytest.raises(SandboxUnavailable, match="did not answer"):
            await _exec(tmp_path / "s")
        with dial(tmp_path / "s") as channel, pytest.raises(SandboxUnavailable, match="did not answer"):
            await channel.ping()


async def test_an_agent_that_goes_in_the_middle_is_gone(tmp_path: Path) -> None:
    async with _agent(tmp_path / "s", _frame(b"O", b"\x01ok"), hang=False):
        with dial(tmp_path / "s") as channel:
            await channel.begin(COMMAND)
            events = channel.replies(COMMAND)
            assert await anext(events) == Output("stdout", b"ok")
            with pytest.raises(SandboxGone):
                await anext(events)
    with pytest.raises(SandboxGone):
        await _exec(tmp_path / "nobody")


async def test_the_socket_path_may_be_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    descriptor = os.open(deep, os.O_PATH)
    try:
        async with _agent(Path(f"/proc/self/fd/{descriptor}/s"), _frame(b"Q", b""), hang=False):
            with dial(deep / "s") as channel:
                await channel.ping()
    finally:
        os.close(descriptor)


async def test_swapping_a_folder_for_a_link_never_leads_out(tmp_path: Path) -> None:
    """The positive control is the naive way, open(2) after a check, which does lead out."""
    data, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (data / "d", outside):
        folder.mkdir(parents=True)
    (data / "d" / "f").write_bytes(b"inside")
    (outside / "f").write_bytes(b"secret")
    (data / "l").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        libc = ctypes.CDLL(None)
        while not stop.is_set():
            libc.renameat2(-100, bytes(data / "d"), -100, bytes(data / "l"), 2)  # RENAME_EXCHANGE

    site = DirectoryWorkspace(lambda: Site(data, None), lambda: "")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        read, leaked = await asyncio.to_thread(_naive, data)
        for _ in range(1500):
            with suppress(WorkspaceError):
                assert [chunk async for chunk in site.read("d/f")] == [b"inside"]
            with suppress(WorkspaceError):
                await site.write("d/new", _once(b"new"))
            assert all("outside" not in info.path for info in await site.list(10))
    finally:
        stop.set()
        thread.join()
    assert read
    assert leaked, "the control did not lead out: the race was not run"
    assert os.listdir(outside) == ["f"]


async def test_a_file_of_a_time_beyond_all_calendars_is_of_a_time_that_can_be_told(tmp_path: Path) -> None:
    site = DirectoryWorkspace(lambda: Site(tmp_path, None), lambda: "")
    for name, seconds in (("early", -(2**31)), ("late", 2**33), ("today", 1_700_000_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert [info.modified_at for info in await site.list(9)] == [0, 2**33, 1_700_000_000]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        site = DirectoryWorkspace(lambda: Site(Path(folder), None), lambda: "")
        subprocess.run(["touch", "-d", f"@{2**63 - 1}", f"{folder}/endless"], check=True)
        assert (Path(folder) / "endless").stat().st_mtime > 2**62, "the control: this file system can tell it"
        assert [info.modified_at for info in await site.list(9)] == [LATEST]


def _naive(data: Path) -> tuple[int, int]:
    read = leaked = 0
    for _ in range(200_000):
        try:
            content = (data / "d" / "f").read_bytes()
        except OSError:
            continue
        read += 1
        leaked += content == b"secret"
        if leaked > 3 and read > 3:
            break
    return read, leaked


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
