"""Files read apart from the server, each by a process of its own that can do nothing else."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from ..ports.documents import Document, Section, UnreadableDocument
from .bounds import MIB, DocumentBounds
from .exchange import Answer, Question
from .kinds import kind_of
from .text import decode

log = structlog.get_logger()

_READER: Final = (sys.executable, "-I", "-B", "-X", "utf8", "-m", "deskhand.documents.reader")
_OVERTIME: Final = (-signal.SIGXCPU, -signal.SIGKILL)
"""How the kernel ends a process that has used its processor time."""
_NAME_CHARACTERS: Final = 255


class _TooMuch(Exception):
    """A reader says more than anybody asked for."""


class ApartDocuments:
    """The `Documents` of a server."""

    def __init__(self, bounds: DocumentBounds | None = None) -> None:
        self._bounds = bounds or DocumentBounds()
        self._places = asyncio.Semaphore(self._bounds.at_once)

    async def read(self, filename: str, data: bytes, *, pictures: int = 0) -> Document:
        """What `data` says, with at most so many pictures of its first pages. Raises `UnreadableDocument`."""
        if len(data) > self._bounds.input_bytes:
            message = f"The file has {len(data)} bytes; of a document, at most {self._bounds.input_bytes} are read."
            raise UnreadableDocument("invalid_file", message)
        if kind_of(filename, data) == "text":
            return await asyncio.to_thread(self._text, data)
        async with self._places:
            answer = await self._ask(filename, data, min(pictures, self._bounds.pictures))
        return answer.document()

    def _text(self, data: bytes) -> Document:
        """Text needs no parser, so it needs no process."""
        text = decode(data)
        if len(text) > self._bounds.text_characters:
            most = self._bounds.text_characters
            message = f"The file has {len(text)} characters; at most {most} are read. Send it in parts."
            raise UnreadableDocument("invalid_file", message)
        return Document([Section(text)])

    async def _ask(self, filename: str, data: bytes, pictures: int) -> Answer:
        bounds = self._bounds
        question = Question(
            filename[-_NAME_CHARACTERS:].encode("utf-8", "replace").decode(),
            pictures,
            bounds.text_characters,
            bounds.picture_bytes,
            bounds.memory_bytes,
            bounds.cpu_s,
        )
        process = await asyncio.create_subprocess_exec(
            *_READER, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/", start_new_session=True
        )
        try:
            async with asyncio.timeout(bounds.wall_s):
                said = await self._talk(process, msgspec.json.encode(question) + b"\n", data)
                status = await process.wait()
        except TimeoutError:
            message = f"The file could not be read within {bounds.wall_s:g} seconds. Send it in parts."
            raise UnreadableDocument("invalid_file", message) from None
        except _TooMuch:
            raise UnreadableDocument("invalid_file", "The file has more text than is read. Send it in parts.") from None
        finally:
            await asyncio.shield(_end(process))
        return _understood(said, status)

    async def _talk(self, process: Process, question: bytes, data: bytes) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        said, size = [], 0
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(process.stdin, question, data))
            while piece := await process.stdout.read(MIB):
                size += len(piece)
                if size > self._bounds.output_bytes:
                    telling.cancel()
                    break
                said.append(piece)
        if size > self._bounds.output_bytes:
            raise _TooMuch
        return b"".join(said)


async def _tell(stdin: asyncio.StreamWriter, question: bytes, data: bytes) -> None:
    # A reader that ends before it has heard everything says so by its status.
    with suppress(ConnectionError):
        stdin.write(question)
        for start in range(0, len(data), MIB):
            stdin.write(data[start : start + MIB])
            await stdin.drain()
        await stdin.drain()
    stdin.close()


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _understood(said: bytes, status: int) -> Answer:
    """What a reader said; it may have been taken over by the file. Raises `UnreadableDocument`."""
    if status == 0:
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(said, type=Answer)
    if status > 0:
        # It ended by itself before it came to the file: parsers are killed, or say what is wrong.
        log.error("documents.reader_failed", status=status)
        raise UnreadableDocument("server_error", "Documents cannot be read on this server at the moment.")
    if status in _OVERTIME:
        message = "It takes too long to read the file. Send it in parts."
    else:
        message = "The file is broken: its parser failed."
    raise UnreadableDocument("invalid_file", message)
