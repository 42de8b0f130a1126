"""A model that says what a test tells it to, turn by turn."""

from collections.abc import AsyncGenerator, Sequence

from ..core.errors import UpstreamError
from ..ports.model import CallDelta, ModelChunk, ModelEnd, ModelRequest, TextDelta

Turn = Sequence[ModelChunk | UpstreamError]


def says(text: str) -> list[ModelChunk]:
    """A turn that is only this text, word by word."""
    words = text.split(" ")
    pieces = [word + " " for word in words[:-1]] + words[-1:]
    return [*(TextDelta(piece) for piece in pieces if piece), ModelEnd("stop")]


def calls(name: str, arguments: str, call_id: str = "call_1") -> list[ModelChunk]:
    """A turn that is only this call, its arguments in two pieces."""
    half = len(arguments) // 2
    return [
        CallDelta(call_id, call_id=call_id, name=name),
        CallDelta(call_id, arguments[:half]),
        CallDelta(call_id, arguments[half:]),
        ModelEnd("stop"),
    ]


class ScriptedModel:
    """A `Model` that plays `turns` in order and keeps the requests it was sent.

    An `UpstreamError` in a turn is raised at that place; a turn without `ModelEnd` or error gets a plain one. As a
    context manager it raises `AssertionError` at the end if turns were left over; more calls than turns raise at once.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = list(turns)
        self.requests: list[ModelRequest] = []

    def __enter__(self) -> "ScriptedModel":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.assert_done()

    def assert_done(self) -> None:
        """Raise `AssertionError` if turns were left over."""
        if self._turns:
            raise AssertionError(f"{len(self._turns)} scripted turns were never asked for; next: {self._turns[0]!r}")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Play the next turn; see `Model.stream`."""
        self.requests.append(request)
        if not self._turns:
            raise AssertionError(f"an unexpected model call, number {len(self.requests)}")
        for chunk in self._turns.pop(0):
            if isinstance(chunk, UpstreamError):
                raise chunk
            yield chunk
            if isinstance(chunk, ModelEnd):
                return
        yield ModelEnd("stop")
