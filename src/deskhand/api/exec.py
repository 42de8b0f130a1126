"""`POST /v1/containers/{id}/exec`: one command in a container, without a model. The client's end is the command's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import ApiError
from ..engine.containers import Containers
from ..ports.sandbox import Sandbox, SandboxGone
from ..tools.commands import CommandLimits, Show, run_program
from ..wire.codec import encode
from ..wire.exec import ExecCommand, ExecDone, ExecOutput, ExecResult
from ..wire.items import ShellAction, ShellOutput
from .bodies import read_json
from .errors import as_api_error, error_body
from .json import json
from .stream import Wire


@dataclass(frozen=True, slots=True)
class ExecApi:
    """Run commands for an operator, within the limits that a model's have."""

    containers: Containers
    limits: CommandLimits
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [Route("/v1/containers/{id}/exec", self.exec, methods=["POST"])]

    async def exec(self, request: Request) -> Response | ASGIApp:
        owner, container_id = request.state.owner, request.path_params["id"]
        body = await read_json(request, ExecCommand, self.max_body_bytes)
        _check(body)
        await self.containers.alive(owner, container_id)
        self.containers.require_engine()
        running = Running(await self.containers.sandbox(owner, container_id), body, self.limits)
        return ExecStream(running) if body.stream else await _wait(request, running)


@dataclass(frozen=True, slots=True)
class Running:
    """A command, and where it is to run."""

    sandbox: Sandbox
    command: ExecCommand
    limits: CommandLimits

    async def run(self, show: Show) -> ShellOutput:
        """Run it to its end. Raises `ApiError`, `SandboxError`."""
        asked = self.command
        action = ShellAction(commands=(), timeout_ms=asked.timeout_ms, max_output_length=asked.max_output_length)
        try:
            return await run_program(self.sandbox, _argv(asked), asked.env or {}, self.limits.of(action), show)
        except SandboxGone as exc:
            raise ApiError(str(exc), status=409, code="container_stopped") from exc


class ExecStream:
    """A command's output as server-sent events, while it runs."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(send)

        async def show(stream: str, text: str) -> None:
            await wire.write(_frame(ExecOutput(stream="stderr" if stream == "stderr" else "stdout", delta=text)))

        async def run() -> None:
            try:
                ended = await self._running.run(show)
            except Exception as exc:
                body = error_body(as_api_error(exc, scope["path"]))
                await wire.write(b"event: error\ndata: %b\n\n" % body)
            else:
                await wire.write(_frame(ExecDone(outcome=ended.outcome)))

        await wire.start()
        async with asyncio.TaskGroup() as group:
            command = group.create_task(run())
            watcher = group.create_task(_cancel_when_gone(receive, command))
            keeping_alive = group.create_task(wire.keep_alive())
            await asyncio.wait({command})
            watcher.cancel()
            keeping_alive.cancel()
        await wire.end()


async def _wait(request: Request, running: Running) -> Response:
    async def ignore(stream: str, text: str) -> None:
        return

    async with asyncio.TaskGroup() as group:
        command = group.create_task(_outcome(running, ignore))
        watcher = group.create_task(_cancel_when_gone(request.receive, command))
        await asyncio.wait({command})
        watcher.cancel()
    if command.cancelled():
        raise ApiError("The client went away before its command had ended.")
    ended = command.result()
    if isinstance(ended, Exception):
        raise ended
    return json(
        ExecResult(
            container_id=running.sandbox.container_id,
            stdout=ended.stdout,
            stderr=ended.stderr,
            outcome=ended.outcome,
        )
    )


async def _outcome(running: Running, show: Show) -> ShellOutput | Exception:
    """What comes of a command, its failure included, so that a task group does not wrap it."""
    try:
        return await running.run(show)
    except Exception as exc:
        return exc


async def _cancel_when_gone(receive: Receive, task: "asyncio.Task[object]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


def _argv(body: ExecCommand) -> Sequence[str]:
    return ("bash", "-c", body.command) if isinstance(body.command, str) else body.command


def _check(body: ExecCommand) -> None:
    words = {"command": _argv(body), "env": [*(body.env or {}), *(body.env or {}).values()]}
    for name, values in words.items():
        if any("\0" in value for value in values):
            raise ApiError(f"'{name}' contains a NUL byte.", code="invalid_value", param=name)
    if any(not name or "=" in name for name in body.env or {}):
        raise ApiError("A name of a variable is empty or contains '='.", code="invalid_value", param="env")


def _frame(event: ExecOutput | ExecDone) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), encode(event))
