"""This process's terminal, attached to one in a container."""

import asyncio
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from .remote import RemoteError

READ_SIZE = 16 << 10
LOST = 255


async def attach(socket: aiohttp.ClientWebSocketResponse) -> int:
    """Pass everything on until the program there ends; return its exit code. Raises `RemoteError`."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes | None] = asyncio.Queue()
    here = sys.stdin.fileno()
    loop.add_reader(here, lambda: typed.put_nowait(os.read(here, READ_SIZE) or None))
    try:
        with _raw(here):
            async with asyncio.TaskGroup() as group:
                typing = group.create_task(_type(typed, socket))
                if os.isatty(here):
                    loop.add_signal_handler(signal.SIGWINCH, lambda: group.create_task(_resize(socket)))
                try:
                    return await _print(socket)
                finally:
                    typing.cancel()
    finally:
        loop.remove_reader(here)
        loop.remove_signal_handler(signal.SIGWINCH)


def window() -> dict[str, int]:
    """The size of this terminal, or the classic one."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return {"rows": 24, "columns": 80}
    return {"rows": max(1, size.lines), "columns": max(1, size.columns)}


async def _type(typed: "asyncio.Queue[bytes | None]", socket: aiohttp.ClientWebSocketResponse) -> None:
    while (data := await typed.get()) is not None:
        await socket.send_bytes(data)
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    await socket.send_bytes(b"\x04")  # the end of what a pipe had to say, as a terminal says it


async def _resize(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str(json.dumps({"type": "resize", **window()}))


async def _print(socket: aiohttp.ClientWebSocketResponse) -> int:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await asyncio.to_thread(_write, message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            match json.loads(message.data):
                case {"type": "exit", "exit_code": int(code)}:
                    return code
                case {"type": "error", "message": str(words)}:
                    raise RemoteError(words)
    return LOST


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed already is not thrown away
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
