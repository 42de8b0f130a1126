"""`deskhand containers`: look at and use the containers of a running server."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, TypeVar

import typer

from .command_line import read_settings, run, stop
from .keys import kept_key
from .settings import Settings
from .shown import shown

if TYPE_CHECKING:
    from rich.table import Table

    from .remote import Remote

T = TypeVar("T")

WIDEST = 400
TIMED_OUT = 124
"""What timeout(1) exits with."""

app = typer.Typer(
    name="containers",
    help="Look at and use the containers of a running server.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Id = Annotated[str, typer.Argument(metavar="ID", help="A container, as `ls` shows it.")]
Name = Annotated[str, typer.Option("--name", "-n", help="A name for it.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, and the key for it."""

    url: str
    key: str = field(repr=False)


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="DESKHAND_URL", help="The server (default: where these settings would start one)."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="An API key (default: DESKHAND_API_KEY, or the one kept in the data directory)."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the server keeps everything.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")] = None,
) -> None:
    """Look at and use the containers of a running server."""
    settings = read_settings(config, data_dir=data_dir)
    key = key or settings.api_key or next((k.key for k in settings.keys), None) or kept_key(settings.data_dir)
    if key is None:
        stop(f"there is no key in {str(settings.data_dir)!r}; name one with --key or DESKHAND_API_KEY")
    context.obj = Connection(url or _address(settings), key)


@app.command("ls")
def list_containers(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")] = False,
) -> None:
    """List containers, newest first."""

    async def show(remote: "Remote") -> None:
        table = _table("ID", "NAME", "STATUS", "MEMORY", "CREATED", "LAST ACTIVE")
        async for entry in remote.list():
            if quiet:
                typer.echo(entry["id"])
            times = _when(entry["created_at"]), _when(entry["last_active_at"])
            table.add_row(entry["id"], shown(entry["name"]), entry["status"], entry["memory_limit"], *times)
        if not quiet:
            _print(table)

    _with_server(context, show)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    context: typer.Context,
    container_id: Id,
    command: Annotated[list[str], typer.Argument(help="One word is text for bash; several are a program and words.")],
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="A variable.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds until it is killed (exit code 124).")] = None,
) -> None:
    """Run a command; its output and exit code are passed on."""
    from .remote import Ended, Printed

    given = dict(_pair(text) for text in env or [])

    async def show(remote: "Remote") -> int:
        words = command[0] if len(command) == 1 else command
        async for event in remote.exec(container_id, words, given, timeout):
            match event:
                case Printed(stream, text):
                    typer.echo(text, nl=False, err=stream == "stderr")
                case Ended(None):
                    return TIMED_OUT
                case Ended(int(code)):
                    return code
        return 1

    raise typer.Exit(_with_server(context, show))


@app.command("shell")
def shell(
    context: typer.Context,
    container_id: Id,
    command: Annotated[str | None, typer.Option("--command", "-c", help="What to run (default: bash).")] = None,
) -> None:
    """Open an interactive terminal."""
    from .attached import attach, window

    async def show(remote: "Remote") -> int:
        query = {name: str(value) for name, value in window().items()} | ({"command": command} if command else {})
        async with remote.terminal(container_id, **query) as socket:
            return await attach(socket)

    raise typer.Exit(_with_server(context, show))


@app.command("cp")
def copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="ID:PATH, or a file here; - is standard input.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The other one; - is standard output.")],
) -> None:
    """Copy a file into a container (below /mnt/data) or out of one."""
    there, here = _split(source), _split(target)
    match there, here:
        case ((container_id, path), None):
            _with_server(context, lambda remote: _download(remote, container_id, path, target))
        case (None, (container_id, path)):
            _with_server(context, lambda remote: _upload(remote, container_id, source, path))
        case _:
            stop("one of the two must be in a container, as in: deskhand containers cp cntr_…:/mnt/data/x ./x")


@app.command("snapshot")
def snapshot(context: typer.Context, container_id: Id, name: Name = "") -> None:
    """Keep a container's files as they are now; print the snapshot's id."""

    async def take(remote: "Remote") -> None:
        typer.echo((await remote.snapshot(container_id, name))["id"])

    _with_server(context, take)


@app.command("snapshots")
def list_snapshots(context: typer.Context, container_id: Id) -> None:
    """List a container's snapshots, newest first."""

    async def show(remote: "Remote") -> None:
        table = _table("ID", "NAME", "TAKEN", "BYTES", "BY")
        async for entry in remote.snapshots(container_id):
            by = "server" if entry["automatic"] else "you"
            table.add_row(entry["id"], shown(entry["name"]), _when(entry["created_at"]), f"{entry['bytes']:,}", by)
        _print(table)

    _with_server(context, show)


@app.command("fork")
def fork(context: typer.Context, container_id: Id, name: Name = "") -> None:
    """Copy a container; print the new one's id."""

    async def make(remote: "Remote") -> None:
        typer.echo((await remote.fork(container_id, name or None))["id"])

    _with_server(context, make)


@app.command("restore")
def restore(
    context: typer.Context,
    container_id: Id,
    snapshot_id: Annotated[str | None, typer.Option("--snapshot", "-s", help="A snapshot's id.")] = None,
    response_id: Annotated[
        str | None, typer.Option("--response", "-r", help="… or a response after which it was taken.")
    ] = None,
) -> None:
    """Put a container back: later changes of its files are lost, its processes end."""
    _with_server(context, lambda remote: remote.restore(container_id, snapshot_id=snapshot_id, response_id=response_id))


@app.command("rm")
def remove(
    context: typer.Context,
    container_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Containers to end.")],
) -> None:
    """End containers and delete their files. Snapshots stay."""

    async def end(remote: "Remote") -> None:
        for container_id in container_ids:
            await remote.delete(container_id)
            typer.echo(container_id)

    _with_server(context, end)


def _with_server(context: typer.Context, act: Callable[["Remote"], Awaitable[T]]) -> T:
    """Do something with the server; what it refuses is one line."""
    from .remote import RemoteError, reach

    connection: Connection = context.obj

    async def acting() -> T:
        async with reach(connection.url, connection.key) as remote:
            return await act(remote)

    try:
        return run(acting())
    except RemoteError as exc:
        stop(str(exc))


async def _download(remote: "Remote", container_id: str, path: str, target: str) -> None:
    from .remote import RemoteError

    try:
        with _written(target, Path(path).name) as file:
            async for chunk in remote.download(container_id, path):
                file.write(chunk)
    except OSError as exc:
        raise RemoteError(f"cannot write {target!r}: {exc.strerror}") from exc


@contextmanager
def _written(target: str, name: str) -> Iterator[IO[bytes]]:
    """The file that `target` means, which gets its name when it is whole: `name` if that is a folder."""
    if target == "-":
        yield sys.stdout.buffer
        return
    goal = Path(target, name) if target.endswith("/") or Path(target).is_dir() else Path(target)
    draft = goal.with_name(f".{goal.name}.part")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(goal)
    finally:
        draft.unlink(missing_ok=True)


async def _upload(remote: "Remote", container_id: str, source: str, path: str) -> None:
    from .remote import RemoteError

    origin = Path("/dev/stdin") if source == "-" else Path(source)
    if not path or path.endswith("/"):
        path += origin.name
    try:
        await remote.upload(container_id, origin, path)
    except OSError as exc:
        raise RemoteError(f"cannot read {source!r}: {exc.strerror}") from exc


def _split(text: str) -> tuple[str, str] | None:
    """The container and the path of `ID:PATH`; None for a file of this machine."""
    container_id, colon, path = text.partition(":")
    return (container_id, path) if colon and "/" not in container_id else None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _address(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def _print(table: "Table") -> None:
    from rich.console import Console

    # An id that was cut could not be copied; a narrow terminal wraps the line.
    Console(highlight=False, markup=False, emoji=False, width=WIDEST).print(table)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
