"""A running server's containers over HTTP, for the command line."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from .core.errors import DeskhandError
from .ports.sandbox import WORKDIR

CHUNK = 1 << 20
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
LARGEST_MESSAGE = 16 << 20


class RemoteError(DeskhandError):
    """The server refused, or does not answer. The message is for the one who typed the command."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command has written to a stream."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A command's exit code; None if its time was up."""

    code: int | None


class Remote:
    """The containers of one project."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def list(self) -> AsyncIterator[Mapping[str, Any]]:
        """Every container, newest first."""
        async for container in self._pages("/v1/containers"):
            yield container

    async def snapshots(self, container_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """A container's snapshots, newest first."""
        async for snapshot in self._pages(f"{_at(container_id)}/snapshots"):
            yield snapshot

    async def snapshot(self, container_id: str, name: str) -> Mapping[str, Any]:
        """Take a snapshot."""
        return await self._call("POST", f"{_at(container_id)}/snapshots", {"name": name})

    async def fork(self, container_id: str, name: str | None) -> Mapping[str, Any]:
        """Copy a container."""
        return await self._call("POST", f"{_at(container_id)}/fork", {"name": name} if name else {})

    async def restore(self, container_id: str, *, snapshot_id: str | None, response_id: str | None) -> None:
        """Put a container back."""
        body = {"snapshot_id": snapshot_id, "response_id": response_id}
        await self._call("POST", f"{_at(container_id)}/restore", {k: v for k, v in body.items() if v is not None})

    async def delete(self, container_id: str) -> None:
        """End a container."""
        await self._call("DELETE", _at(container_id), None)

    async def exec(
        self, container_id: str, command: str | Sequence[str], env: Mapping[str, str], timeout_s: float | None
    ) -> AsyncIterator[Printed | Ended]:
        """Run a command; its output as it comes, then its end. Leaving the iterator ends the command."""
        body: dict[str, Any] = {"command": command, "env": dict(env), "stream": True, "max_output_length": 1 << 30}
        if timeout_s is not None:
            body["timeout_ms"] = max(1, int(timeout_s * 1000))
        async with self._request("POST", f"{_at(container_id)}/exec", json=body) as answer:
            async for event in _events(answer):
                match event:
                    case {"type": "container.exec.output", "stream": stream, "delta": text}:
                        yield Printed(stream, text)
                    case {"type": "container.exec.done", "outcome": outcome}:
                        yield Ended(outcome.get("exit_code"))
                    case {"error": error}:
                        raise RemoteError(error["message"])

    async def upload(self, container_id: str, source: Path, path: str) -> None:
        """Put a file of this machine at `path` in a container."""
        form = aiohttp.FormData()
        form.add_field("path", path)
        with source.open("rb") as file:
            form.add_field("file", file, filename=source.name)
            async with self._request("POST", f"{_at(container_id)}/files", data=form):
                return

    async def download(self, container_id: str, path: str) -> AsyncIterator[bytes]:
        """The file at `path` in a container."""
        wanted = path if path.startswith("/") else f"{WORKDIR}/{path}"
        async for file in self._pages(f"{_at(container_id)}/files"):
            if file["path"] == wanted:
                break
        else:
            raise RemoteError(f"There is no file {wanted!r}; only those under {WORKDIR} can be copied.")
        async with self._request("GET", f"{_at(container_id)}/files/{file['id']}/content") as answer:
            async for chunk in answer.content.iter_chunked(CHUNK):
                yield chunk

    @asynccontextmanager
    async def terminal(self, container_id: str, **query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a terminal (`api.terminal` describes the messages)."""
        url = f"{self._url}{_at(container_id)}/pty"
        try:
            async with self._session.ws_connect(url, params=query, max_msg_size=LARGEST_MESSAGE) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as exc:
            raise RemoteError(await self._why(container_id, exc)) from exc
        except aiohttp.ClientConnectionError as exc:
            raise self._silent(exc) from exc

    async def _why(self, container_id: str, exc: aiohttp.WSServerHandshakeError) -> str:
        """aiohttp drops the body of a refused upgrade, so ask for the container as such."""
        await self._call("GET", _at(container_id), None)
        return f"The server refused the terminal ({exc.status})."

    async def _pages(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        after = ""
        while True:
            query = f"?limit=100{f'&after={after}' if after else ''}"
            page = await self._call("GET", path + query, None)
            for entry in page["data"]:
                yield entry
            if not page["has_more"]:
                return
            after = page["last_id"]

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        async with self._request(method, path, json=body) as answer:
            found: Mapping[str, Any] = await answer.json()
            return found

    @asynccontextmanager
    async def _request(self, method: str, path: str, **content: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, self._url + path, **content) as answer:
                if answer.status != 200:
                    raise RemoteError(await _refusal(answer))
                yield answer
        except aiohttp.ClientError as exc:
            raise self._silent(exc) from exc

    def _silent(self, exc: Exception) -> RemoteError:
        return RemoteError(
            f"no Deskhand server answers at {self._url} ({exc}). Start one with `deskhand serve`, or name another with "
            "--url."
        )


@asynccontextmanager
async def reach(url: str, key: str) -> AsyncIterator[Remote]:
    """The server at `url`, spoken to with `key`."""
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, timeout=TIMEOUT) as session:
        yield Remote(session, url.rstrip("/").removesuffix("/v1"))


def _at(container_id: str) -> str:
    return f"/v1/containers/{quote(container_id, safe='')}"


async def _refusal(answer: aiohttp.ClientResponse) -> str:
    try:
        return str((await answer.json())["error"]["message"])
    except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
        return f"The server answered {answer.status} {answer.reason}."


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The data of server-sent events, whose lines may be of any length."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
