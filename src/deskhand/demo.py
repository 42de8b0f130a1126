"""`deskhand demo`: the whole loop in one terminal, with the official SDK, no key and no internet."""

import tempfile
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from rich.console import Console

from .compose import end_containers
from .keys import load_keys
from .server import serving
from .settings import Settings, load

PROMPT = "Make a csv of the squares of 1 to 20, then tell me what files are there."


async def run_demo(out: Path) -> int:
    """Serve, ask, show, download. Returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="deskhand-demo-") as scratch:
        # Nothing of the user's settings: the demo must show the same on every machine.
        settings = load({}, port=0, data_dir=Path(scratch), log_level="warning")
        console.print("[bold]Deskhand demo[/]: starting a server on the built-in offline model …")
        try:
            return await _serve_and_ask(settings, console, out)
        finally:
            await end_containers(settings)


async def _serve_and_ask(settings: Settings, console: Console, out: Path) -> int:
    keyring = load_keys(settings)
    async with serving(settings, keyring) as listening:
        report = listening.served.report
        if not report.usable:
            missing = next(f for f in report.findings if f.required and not f.ok)
            console.print(f"[red]This host cannot isolate commands:[/] {missing.detail}\n{missing.mend}")
            console.print("`deskhand doctor` says more.")
            return 1
        console.print(f"It listens on {listening.url}/v1; commands are isolated at level [bold]{report.level}[/].\n")
        async with AsyncOpenAI(base_url=f"{listening.url}/v1", api_key=keyring.keys[0].key) as client:
            return await _ask(client, console, out)


async def _ask(client: AsyncOpenAI, console: Console, out: Path) -> int:
    console.print(f"[bold cyan]you[/]    {PROMPT}")
    tools: list[Any] = [{"type": "shell", "environment": {"type": "container_auto"}}]
    screen = _Screen(console)
    async with client.responses.stream(model="demo", input=PROMPT, tools=tools) as stream:
        async for event in stream:
            screen.show(event)
    response = screen.response
    if response is None or response.status != "completed":
        console.print(f"[red]The response ended as {response.status if response else 'nothing'}.[/]")
        return 1
    return await _download(client, console, response, out)


async def _download(client: AsyncOpenAI, console: Console, response: Any, out: Path) -> int:
    container_id = next(item.environment.container_id for item in response.output if item.type == "shell_call")
    made = [file async for file in client.containers.files.list(container_id) if file.source == "assistant"]
    if not made:
        console.print("[red]The agent made no file.[/]")
        return 1
    console.print()
    for file in made:
        content = await client.containers.files.content.retrieve(file.id, container_id=container_id)
        target = _save(out, Path(file.path).name, await content.aread())
        console.print(f"[bold green]saved[/]  {target.resolve()}  ({file.bytes} bytes, made in the container)")
    console.print(
        "\nThat was one POST /v1/responses: the model asked for commands, Deskhand ran them in an isolated\n"
        "container, and the model answered. Your own model: DESKHAND_UPSTREAM_URL=… make serve"
    )
    return 0


def _save(out: Path, name: str, content: bytes) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    target = out / name
    target.write_bytes(content)
    return target


class _Screen:
    """Shows the events of a stream as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.response: Any = None

    def show(self, event: Any) -> None:
        match event.type:
            case "response.shell_call_command.added":
                self._console.print("[bold magenta]agent[/]  $ ", end="")
            case "response.shell_call_command.delta":
                self._write(event.delta.replace("\n", "\n       > "))
            case "response.shell_call_command.done":
                self._console.print()
            case "response.shell_call_output_content.delta":
                self._write((event.delta.stdout or "") + (event.delta.stderr or ""), style="dim")
            case "response.content_part.added":
                self._console.print("[bold magenta]agent[/]  ", end="")
            case "response.output_text.delta":
                self._write(event.delta)
            case "response.output_text.done":
                self._console.print()
            case "response.completed" | "response.failed" | "response.incomplete":
                self.response = event.response

    def _write(self, text: str, style: str | None = None) -> None:
        self._console.print(text, end="", markup=False, style=style, soft_wrap=True)
