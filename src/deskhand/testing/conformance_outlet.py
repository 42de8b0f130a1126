"""What every isolation engine's way out must do, as checks over a `Bench`: bytes pass, and nothing passes beside them.

Raises as `conformance_sandbox` does. What listens on the host's side here decides nothing; it stands for the proxy.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deskhand.ports.sandbox import Outlet, SandboxSpec

from .conformance_sandbox_bench import SMALL, Bench, Desk

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MANY = 200

CONNECT = """
import os, socket, sys, threading, time, hashlib
def dial():
    made = socket.create_connection(("127.0.0.1", PORT), 10)
    made.settimeout(20)
    return made
def rest(made):
    found = b""
    try:
        while data := made.recv(1 << 16):
            found += data
    except OSError:
        pass
    return found
"""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A started container with a way out."""

    desk: Desk
    outlet: Outlet

    async def python(self, script: str) -> str:
        """What a script prints that begins with `CONNECT`."""
        port = self.outlet.proxy.rpartition(":")[2]
        result = await self.desk.python(CONNECT.replace("PORT", port) + script)
        assert not result.stderr, result.stderr.decode()
        return result.text


@asynccontextmanager
async def proxied(bench: Bench, handler: Handler | None) -> AsyncIterator[Proxied]:
    """A container whose connections arrive at `handler`; nobody listens if that is None."""
    container_id = f"check-{secrets.token_hex(5)}"
    await bench.engine.allocate(container_id, SMALL)
    try:
        outlet = await bench.engine.outlet(container_id)
        listening = await _listen(outlet.socket, handler) if handler is not None else None
        sandbox = await bench.engine.start(SandboxSpec(container_id, SMALL, {}, proxied=True))
        yield Proxied(Desk(container_id, sandbox, bench.engine.workspace(container_id)), outlet)
        if listening is not None:
            listening.close()
    finally:
        await bench.engine.destroy(container_id)


async def _listen(path: Path, handler: Handler) -> asyncio.Server:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        server = await asyncio.start_unix_server(handler, f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    os.chmod(path, 0o666)
    return server


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, as it comes."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the digest of everything, once it has ended."""
    writer.write(hashlib.sha256(await reader.read()).hexdigest().encode())
    writer.close()


async def bytes_pass_in_both_directions(bench: Bench) -> None:
    async with proxied(bench, echo) as container:
        script = """
made = dial()
data = os.urandom(8 << 20)
threading.Thread(target=lambda: (made.sendall(data), made.shutdown(1))).start()
print(rest(made) == data)
"""
        assert await container.python(script) == "True"


async def the_end_of_one_direction_leaves_the_other(bench: Bench) -> None:
    async with proxied(bench, digest) as container:
        script = """
made = dial()
data = os.urandom(3 << 20)
made.sendall(data)
made.shutdown(1)
print(rest(made).decode() == hashlib.sha256(data).hexdigest())
"""
        assert await container.python(script) == "True"


async def an_answer_that_comes_before_the_end_of_the_question_arrives(bench: Bench) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"no" * 50_000)
        writer.close()

    async with proxied(bench, refuse) as container:
        script = """
made = dial()
def flood():
    try:
        while True: made.sendall(bytes(65536))
    except OSError: pass
threading.Thread(target=flood, daemon=True).start()
print(len(rest(made)))
"""
        assert await container.python(script) == "100000"


async def who_does_not_read_is_waited_for(bench: Bench) -> None:
    """Neither a flood to a silent proxy nor one from it is stored anywhere without bound; the agent still answers."""
    stalled = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stalled.wait()
        writer.close()

    async with proxied(bench, silent) as container:
        script = """
made = dial()
made.settimeout(2)
sent = 0
try:
    while True: sent += made.send(bytes(65536))
except OSError: pass
print(sent < 32 << 20)
"""
        assert await container.python(script) == "True"
        await container.desk.sandbox.ping()
        stalled.set()


async def many_connections_do_not_stop_commands(bench: Bench) -> None:
    async with proxied(bench, echo) as container:
        script = f"""
held = []
for _ in range({MANY}):
    try: held.append(dial())
    except OSError: break
answered = 0
for made in held[:8]:
    made.sendall(b"x")
    answered += made.recv(1) == b"x"
print(answered)
time.sleep(2)
"""
        running = asyncio.create_task(container.python(script))
        await asyncio.sleep(1)
        assert (await container.desk.run("echo here")).text == "here"
        assert await running == "8"
        assert await container.python("made = dial(); made.sendall(b'y'); print(made.recv(1))") == "b'y'"


async def without_a_proxy_connections_end(bench: Bench) -> None:
    async with proxied(bench, None) as container:
        assert await container.python("print(rest(dial()))") == "b''"
        listening = await _listen(container.outlet.socket, echo)
        assert await container.python("made = dial(); made.sendall(b'y'); print(made.recv(1))") == "b'y'"
        listening.close()


async def without_a_way_out_nobody_listens(bench: Bench) -> None:
    async with proxied(bench, echo) as one, bench.desk() as other:
        port = one.outlet.proxy.rpartition(":")[2]
        script = CONNECT.replace("PORT", port) + "dial()"
        assert b"refused" in (await other.python(script)).stderr
        assert await one.python("dial(); print('connected')") == "connected"


async def two_containers_have_two_ways_out(bench: Bench) -> None:
    def named(name: bytes) -> Handler:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name)
            writer.close()

        return answer

    async with proxied(bench, named(b"one")) as one, proxied(bench, named(b"two")) as two:
        assert await one.python("print(rest(dial()))") == "b'one'"
        assert await two.python("print(rest(dial()))") == "b'two'"
        listing = await one.desk.run(
            f"ls -A {one.outlet.folder}; find / -type s 2>/dev/null | grep -v {one.outlet.folder}"
        )
        assert two.desk.container_id not in listing.text


async def the_folder_can_be_read_and_not_changed(bench: Bench) -> None:
    async with proxied(bench, echo) as container:
        folder = container.outlet.folder
        (container.outlet.socket.parent / "note").write_text("seen")
        result = await container.desk.run(
            f"cat {folder}/note; for c in 'rm -f {folder}/note' 'touch {folder}/x' 'rm -f {folder}/proxy.sock' "
            f"'chmod 777 {folder}' 'mv {folder}/proxy.sock {folder}/y'; do $c 2>/dev/null && echo CHANGED; done"
        )
        assert result.text == "seen"


async def only_its_own_user_can_reach_a_way_out_on_the_host(bench: Bench) -> None:
    async with proxied(bench, echo) as container:
        folder = container.outlet.socket.parent
        assert folder.stat().st_mode & 0o077 == 0
        assert os.geteuid() != 0 or folder.stat().st_uid != 0


OUTLET_CHECKS: Sequence[Callable[[Bench], Awaitable[None]]] = (
    bytes_pass_in_both_directions,
    the_end_of_one_direction_leaves_the_other,
    an_answer_that_comes_before_the_end_of_the_question_arrives,
    who_does_not_read_is_waited_for,
    many_connections_do_not_stop_commands,
    without_a_proxy_connections_end,
    without_a_way_out_nobody_listens,
    two_containers_have_two_ways_out,
    the_folder_can_be_read_and_not_changed,
    only_its_own_user_can_reach_a_way_out_on_the_host,
)
"""Every check of an engine's way out."""
