"""One shell command: from its text to its bounded output, shown as it comes."""

import codecs
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import assert_never

from ..core.bounds import BoundedOutput, Piece
from ..ports.sandbox import Command, Dropped, Exited, Output, Sandbox, TimedOut
from ..wire.items import ExitOutcome, ShellAction, ShellOutput, TimeoutOutcome

Show = Callable[[str, str], Awaitable[None]]
"""Takes a stream's name and its next text."""

_BYTES_A_CHARACTER = 4
"""UTF-8's most (RFC 3629)."""


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """Deadline in seconds and characters of output, as they are for a call that names none, and at most."""

    timeout_s: float = 120.0
    max_timeout_s: float = 1800.0
    output_characters: int = 16_384
    max_output_characters: int = 1_000_000

    def of(self, action: ShellAction) -> "CommandLimits":
        """The limits that hold for `action`."""
        # Compared as it is: what is asked may be too large to be a number of seconds.
        asked_ms = self.timeout_s * 1000 if action.timeout_ms is None else action.timeout_ms
        cap = self.output_characters if action.max_output_length is None else action.max_output_length
        # The commands of a call share what one may have at most; the default is for each.
        most = self.max_output_characters
        share = max(min(self.output_characters, most), most // max(1, len(action.commands)))
        return replace(
            self,
            timeout_s=min(asked_ms, self.max_timeout_s * 1000) / 1000,
            output_characters=min(cap, share),
        )


async def run_command(sandbox: Sandbox, command: str, limits: CommandLimits, show: Show) -> ShellOutput:
    """Run `command` with bash, as `run_program` does."""
    return await run_program(sandbox, ("bash", "-c", command), {}, limits, show)


async def run_program(
    sandbox: Sandbox, argv: Sequence[str], env: Mapping[str, str], limits: CommandLimits, show: Show
) -> ShellOutput:
    """Run `argv` and return its output, bounded to `limits.output_characters` for both streams together.

    `show` gets every piece of the output that is kept, in order: joined, its pieces are the output. Raises
    `SandboxError`. Cancelling kills the command.
    """
    screen = Screen(limits.output_characters, show)
    outcome: ExitOutcome | TimeoutOutcome | None = None
    cap = limits.output_characters
    request = Command(
        argv=argv,
        timeout_s=limits.timeout_s,
        head_bytes=_BYTES_A_CHARACTER * (cap - cap // 2),
        tail_bytes=_BYTES_A_CHARACTER * (cap // 2),
        env=env,
    )
    async with aclosing(sandbox.exec(request)) as events:
        async for event in events:
            match event:
                case Output(stream, data):
                    await screen.output(stream, data)
                case Dropped(stream, _, characters):
                    screen.dropped(stream, characters)
                case Exited(code, _, note):
                    await screen.end(note)
                    outcome = ExitOutcome(exit_code=code)
                case TimedOut():
                    await screen.end("")
                    outcome = TimeoutOutcome()
                case _:
                    assert_never(event)
    assert outcome is not None, "the engine ended a command without an outcome"
    return ShellOutput(stdout=screen.text("stdout"), stderr=screen.text("stderr"), outcome=outcome)


class Screen:
    """What is kept of the output of a command or a cell, and shown: `cap` characters of both streams together."""

    def __init__(self, cap: int, show: Show) -> None:
        self._bounds = BoundedOutput(cap)
        self._show = show
        self._decoders = {"stdout": _Utf8(), "stderr": _Utf8()}
        self._kept: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def text(self, stream: str) -> str:
        """What is kept of a stream."""
        return "".join(self._kept[stream])

    async def output(self, stream: str, data: bytes) -> None:
        """Take in bytes, cut anywhere."""
        if text := self._decoders[stream].decode(data):
            await self._keep(self._bounds.add(stream, text))

    def dropped(self, stream: str, characters: int) -> None:
        """Count characters that never arrived."""
        self._decoders[stream].resume()
        self._bounds.skip(stream, characters)

    async def end(self, note: str) -> None:
        """Show the end of the output, and after it what there is to say of it."""
        for stream, decoder in self._decoders.items():
            if text := decoder.end():
                await self._keep(self._bounds.add(stream, text))
        for piece in self._bounds.rest():
            await self._keep(piece)
        if note:
            text = self.text("stderr")
            await self._keep(Piece("stderr", f"{'' if not text or text.endswith(chr(10)) else chr(10)}{note}\n"))

    async def _keep(self, piece: Piece | None) -> None:
        if piece is not None:
            self._kept[piece.stream].append(piece.text)
            await self._show(piece.stream, piece.text)


class _Utf8:
    """Decodes a stream that may be cut anywhere; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._resuming = False

    def decode(self, data: bytes) -> str:
        if self._resuming:
            # The tail may begin in the middle of a character, whose beginning was dropped.
            data = data.lstrip(bytes(range(0x80, 0xC0)))
            self._resuming = not data
        return self._decoder.decode(data)

    def resume(self) -> None:
        """Bytes were left out here: forget a half character before, skip the rest of one after."""
        self._decoder.reset()
        self._resuming = True

    def end(self) -> str:
        return self._decoder.decode(b"", True)
