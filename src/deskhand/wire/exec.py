"""Direct use of a container's computer: Deskhand's extension of the containers API."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .items import ExitOutcome, TimeoutOutcome

Word = Annotated[str, Meta(max_length=1 << 20)]


class ExecCommand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers/{id}/exec`: text for bash, or a program and its arguments."""

    command: Word | Annotated[list[Word], Meta(min_length=1, max_length=10_000)]
    timeout_ms: Annotated[int, Meta(ge=1)] | None = None
    max_output_length: Annotated[int, Meta(ge=0)] | None = None
    env: dict[str, Word] | None = None
    stream: bool = False


class ExecOutput(Struct, frozen=True, kw_only=True, tag_field="type", tag="container.exec.output"):
    """The next piece of a stream's text."""

    stream: Literal["stdout", "stderr"]
    delta: str


class ExecDone(Struct, frozen=True, kw_only=True, tag_field="type", tag="container.exec.done"):
    """The command has ended."""

    outcome: ExitOutcome | TimeoutOutcome


class ExecResult(Struct, frozen=True, kw_only=True):
    """A command that has ended, with what is kept of its output."""

    container_id: str
    stdout: str
    stderr: str
    outcome: ExitOutcome | TimeoutOutcome
    object: Literal["container.exec"] = "container.exec"
