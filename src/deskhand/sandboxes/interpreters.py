"""Python interpreters that are ready before a container asks for one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A warm interpreter that is in a container already and has run nothing: its pid in there, and the agent's ends.

    `descriptors` are its socket and the pipe of its output. Use as `with`: they are closed here when the block ends.
    """

    pid: int
    descriptors: Sequence[int]

    def __enter__(self) -> "Interpreter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
