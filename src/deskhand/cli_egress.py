"""`deskhand egress`: what left the containers of a running server, and what was not let out."""

import datetime
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from .keys import kept_key
from .settings import Settings, SettingsError, from_process
from .shown import shown

app = typer.Typer(help="What left the containers of a running server, and what was not let out.", no_args_is_help=True)

Container = Annotated[str, typer.Argument(help="The container's id, also of one that is gone.")]
Url = Annotated[str | None, typer.Option("--url", help="The server [default: host and port of the settings].")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the server keeps its key.")]
Config = Annotated[Path | None, typer.Option("--config", help="The server's TOML file of settings.")]

PATIENCE_S = 60.0


@app.command("ls")
def list_records(
    container: Container,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the newest first.")] = 20,
    url: Url = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the newest attempts of a container to reach something."""
    with _get(f"/v1/containers/{quote(container, safe='')}/egress?limit={limit}", url, data_dir, config) as answer:
        records = json.load(answer)["data"]
    table = Table("time", "decision", "request", "status", "out", "in", "secrets", "reason", "call")
    for record in records:
        table.add_row(*map(shown, _row(record)))
    Console(highlight=False, markup=False, emoji=False).print(table)


@app.command()
def export(container: Container, url: Url = None, data_dir: DataDir = None, config: Config = None) -> None:
    """Write every attempt of a container to standard output, oldest first, a JSON object a line."""
    with _get(f"/v1/containers/{quote(container, safe='')}/egress?format=jsonl", url, data_dir, config) as answer:
        for line in answer:
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _row(record: Mapping[str, Any]) -> Iterator[str]:
    moment = datetime.datetime.fromtimestamp(record["created_at"]).astimezone()
    yield moment.strftime("%Y-%m-%d %H:%M:%S")
    yield record["decision"] if record["verified"] else f"{record['decision']}, unverified"
    yield f"{record['method']} {record['host']}:{record['port']}{record['path']}"
    yield str(record["status"] or "")
    yield str(record["bytes_out"])
    yield str(record["bytes_in"])
    yield ", ".join(record["secrets"])
    yield record["reason"] or ""
    yield record["call_id"] or ""


def _get(path: str, url: str | None, data_dir: Path | None, config: Path | None) -> HTTPResponse:
    try:
        settings = from_process(config, data_dir=data_dir)
    except SettingsError as exc:
        _stop(str(exc))
    base = (url or f"http://{settings.host}:{settings.port}").removesuffix("/").removesuffix("/v1")
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {_key(settings)}"})
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE_S)
        return answer
    except urllib.error.HTTPError as exc:
        with exc:
            _stop(_words(exc))
    except (urllib.error.URLError, ValueError) as exc:
        _stop(f"no server answers at {base}: {getattr(exc, 'reason', exc)}. Name it with --url.")


def _key(settings: Settings) -> str:
    key = settings.api_key or next((known.key for known in settings.keys), None) or kept_key(settings.data_dir)
    if key is None:
        _stop("there is no key: set DESKHAND_API_KEY, or name the server's --data-dir")
    return key


def _words(answer: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.code}"


def _stop(message: str) -> NoReturn:
    typer.echo(f"deskhand: {message}", err=True)
    raise typer.Exit(1)
