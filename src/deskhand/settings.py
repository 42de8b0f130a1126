"""Every setting, once: its name, default and meaning. `DESKHAND_*` variables win over the TOML file.

The table in `docs/reference/settings.md` is printed from here (`deskhand settings`), and a test fails when it lags.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs

from .core.errors import DeskhandError

DEFAULT_PROJECT = "proj_default"
_DEFAULT_WORDS = {"data_dir": "the user's data directory", "model_aliases": "none", "network_hosts": "none"}


class SettingsError(Exception):
    """A setting cannot be used; the message names it, its value and what it should be."""


class MissingPackage(DeskhandError):
    """A setting needs packages that are not installed with Deskhand by themselves."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model provider. `models` are name patterns (`*` any) that it serves, first match wins."""

    url: str
    name: str = "upstream"
    api: Literal["chat", "responses"] = "chat"
    key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ("*",)
    structured_outputs: bool = False
    """It holds models to JSON schemas itself (guided decoding), so what they say is shown as they say it."""
    calls_mcp_servers: bool | None = None
    """It calls the servers of `mcp` tools itself, with `api = "responses"`. None: only OpenAI and Azure do."""
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    """Longest silence while a model answers, before the call counts as failed."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that clients send, and the project that owns what they make with it."""

    key: str = field(repr=False)
    project: str = DEFAULT_PROJECT


def _setting(default: Any, meaning: str) -> Any:
    metadata = {"meaning": meaning}
    return (
        field(default_factory=dict, metadata=metadata) if default is dict else field(default=default, metadata=metadata)
    )


def _secret(meaning: str) -> Any:
    return field(default=None, repr=False, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration of a server."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8080, "Port to listen on; 0 picks a free one.")
    data_dir: Path = _setting(
        Path(platformdirs.user_data_dir("deskhand")), "Everything that Deskhand keeps: database, files, containers."
    )
    database_url: str | None = _secret(
        "PostgreSQL, `postgresql://user:password@host/database`, for several servers. Unset: SQLite in `data_dir`."
    )
    blob_url: str | None = _setting(
        None, "S3 for the bytes of files and skills, `s3://bucket/prefix`. Unset: in `data_dir`."
    )
    s3_endpoint: str | None = _setting(
        None, "URL of an S3-compatible store. Unset: what `AWS_*` variables say, or AWS."
    )
    s3_region: str | None = _setting(None, "Its region. Unset: what `AWS_*` variables say.")
    s3_access_key: str | None = _secret("Access key for it. Unset: what `AWS_*` variables say.")
    s3_secret_key: str | None = _secret("Secret key for it. Unset: what `AWS_*` variables say.")
    upstream_url: str | None = _setting(
        None, "Base URL of an OpenAI-compatible model server, with its `/v1`. Unset: the offline `demo` model."
    )
    upstream_api: Literal["chat", "responses"] = _setting("chat", "What that server speaks: `chat` or `responses`.")
    upstream_key: str | None = _secret("Key for that server.")
    upstream_structured_outputs: bool = _setting(
        False,
        "That server holds models to JSON schemas itself: such answers stream as they are made, not checked first.",
    )
    upstreams: tuple[Upstream, ...] = _setting((), "Several upstreams, each with its `models` (TOML file only).")
    embedding_model: str | None = _setting(
        None, "Model that makes the vectors of vector stores, of an upstream or local. Unset: they search by words."
    )
    embedding_model_path: Path | None = _setting(
        None, "Folder of a local embedding model (BERT, safetensors), served as `embedding_model`, else by its name."
    )
    model_aliases: Mapping[str, str] = _setting(dict, "`asked=served,…`; `*=served` for every other name.")
    api_key: str | None = _secret("Key that clients must send. Unset: one is made at first start.")
    keys: tuple[ApiKey, ...] = _setting((), "Several keys, each of a `project` (TOML file only).")
    allow_private_hosts: tuple[str, ...] = _setting(
        (), "Hosts with private addresses that the server may call, for itself or for a container, `a,b`."
    )
    mcp_allowed_hosts: tuple[str, ...] = _setting(
        (), "Hosts of MCP servers that requests may name: `host`, `*.host`. None: any public one."
    )
    mcp_timeout_seconds: float = _setting(120.0, "Deadline of a call of an MCP server's tool; listing gets 30 at most.")
    network_allowed_domains: tuple[str, ...] = _setting(
        (), "What containers' policies may name at most: `host`, `*.host`, `host:port`, `*`. None: no network."
    )
    network_mirrors: tuple[str, ...] = _setting(
        (), "Package mirrors that policies may name: GET and HEAD only, without credentials."
    )
    network_hosts: Mapping[str, str] = _setting(
        dict, "`host=address,…`: addresses of hosts that containers reach, instead of what the resolver says."
    )
    network_max_bytes: int = _setting(20 << 30, "Bytes in and out of one container through its proxy; 0 for no limit.")
    network_record_days: int = _setting(30, "Days for which the record of what left containers is kept.")
    secret_key: str | None = _secret("Seals secrets at rest, `new,old` to change it. Unset: one is made and kept.")
    advertise_url: str = _setting(
        "", "Where other hosts of the same database reach this server, as `http://10.0.0.5:8080`. Unset: they cannot."
    )
    engine: Literal["bubblewrap", "crun", "runc", "gvisor", "none"] = _setting(
        "bubblewrap", "Isolation engine: how containers are started. `none` refuses hosted tools."
    )
    more_engines: tuple[Literal["bubblewrap", "crun", "runc", "gvisor"], ...] = _setting(
        (), "Further engines, `a,b`, for containers that ask for a stronger `isolation`."
    )
    min_isolation: Literal["namespace", "gvisor"] = _setting(
        "namespace", "Weakest isolation that engines may have; with a weaker one the server does not start."
    )
    container_image: str = _setting(
        "", "Containers' programs: an OCI layout folder, image tarball or registry reference. Unset: the host's `/usr`."
    )
    response_retention_days: float = _setting(
        30.0, "Age at which ended responses, kept completions and traces go; 0 for never. Items of conversations stay."
    )
    max_live_containers: int = _setting(50, "Live containers per project; more are answered 429.")
    max_concurrent_runs: int = _setting(256, "Concurrent runs per project; more are answered 429.")
    max_background_runs: int = _setting(256, "Background runs under way at once; more wait in a queue.")
    max_queued_runs: int = _setting(1000, "Background runs per project that wait; more are answered 429.")
    max_turns: int = _setting(100, "Model calls in one run.")
    max_run_seconds: float = _setting(3600.0, "Wall time of one run.")
    max_run_tokens: int = _setting(5_000_000, "Input and output tokens of one run, added up.")
    max_body_bytes: int = _setting(128 << 20, "Largest JSON request body, or WebSocket message.")
    max_websockets: int = _setting(100, "Open WebSockets of `/v1/responses` per project; more are answered 429.")
    websocket_seconds: float = _setting(3600.0, "Age at which such a WebSocket is closed; what it runs ends first.")
    max_file_bytes: int = _setting(512 << 20, "Largest uploaded file.")
    max_upload_bytes: int = _setting(8 << 30, "Largest file that is uploaded in parts, each of at most 64 MiB.")
    document_pictures: int = _setting(
        10, "Pages of a PDF that a model sees as pictures, beside its text; 0 for models that see nothing."
    )
    command_timeout_seconds: float = _setting(120.0, "Deadline of a shell call that names none.")
    command_max_timeout_seconds: float = _setting(1800.0, "Longest deadline that a shell call may ask for.")
    command_output_characters: int = _setting(16_384, "Output kept of each command when the call names no cap.")
    command_max_output_characters: int = _setting(
        1_000_000, "Largest output cap that a call may ask for; its commands share it."
    )
    warm_containers: int = _setting(2, "Started containers kept ready, of each memory tier in use; 0 for none.")
    container_idle_minutes: int = _setting(20, "Inactivity after which a container expires, unless it says otherwise.")
    container_on_expired: Literal["error", "restore", "recreate"] = _setting(
        "error", "What the next use of an expired container gets, unless the container says otherwise."
    )
    auto_snapshots: bool = _setting(True, "Take a snapshot after each stored response that ran something.")
    snapshots_per_container: int = _setting(20, "Automatic snapshots kept of one container; the oldest go.")
    snapshot_retention_days: float = _setting(7.0, "Age at which automatic snapshots go.")
    snapshot_max_bytes: int = _setting(20 << 30, "Room of one project's snapshots together.")
    container_max_memory: Literal["1g", "4g", "16g", "64g"] = _setting("4g", "Largest memory tier served.")
    container_pids: int = _setting(512, "Processes and threads in one container.")
    container_cpus: float = _setting(2.0, "CPU share of one container.")
    container_disk_bytes: int = _setting(4 << 30, "Disk of one container.")
    container_disk_inodes: int = _setting(200_000, "Files of one container.")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "How much is logged, to stderr.")

    def embedding_name(self) -> str | None:
        """What the model for vectors of texts is called, if there is one."""
        path = self.embedding_model_path
        return self.embedding_model or (path.resolve().name if path is not None else None)

    def all_upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams of the TOML file, then the one of `upstream_url`."""
        if self.upstream_url is None:
            return self.upstreams
        one = Upstream(
            url=self.upstream_url,
            api=self.upstream_api,
            key=self.upstream_key,
            structured_outputs=self.upstream_structured_outputs,
        )
        return (*self.upstreams, one)


def load(environ: Mapping[str, str], config: Path | None = None, **given: Any) -> Settings:
    """Settings from, in rising order: defaults, the TOML file, `DESKHAND_*` variables, `given` (None counts as unset).

    Raises `SettingsError`.
    """
    known = {f.name for f in fields(Settings)}
    values: dict[str, Any] = _from_file(config, known) if config else {}
    for name in known:
        text = environ.get(f"DESKHAND_{name.upper()}")
        if text is not None and text != "":
            values[name] = _parse(name, text)
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"bad setting: {exc}") from None


def table() -> str:
    """The settings as a Markdown table."""
    rows = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for f in fields(Settings):
        default = _DEFAULT_WORDS.get(f.name) or _show(f.default)
        variable = "" if f.name in {"upstreams", "keys"} else f"`DESKHAND_{f.name.upper()}`"
        rows.append(f"| `{f.name}` | {variable} | {default} | {f.metadata['meaning']} |")
    return "\n".join(rows)


@contextmanager
def needed_for(name: str, extra: str) -> Iterator[None]:
    """Raise `MissingPackage` if an import in the block fails: a setting needs packages that are an extra."""
    try:
        yield
    except ImportError as exc:
        raise MissingPackage(
            f"DESKHAND_{name.upper()} needs packages that are not installed ({exc}): "
            f"pip install 'deskhand[{extra}]', or in a checkout .venv/bin/pip install -e '.[{extra}]'"
        ) from exc


def from_process(config: Path | None = None, **given: Any) -> Settings:
    """Settings of this process: its environment, and the file that `DESKHAND_CONFIG` or `config` names."""
    named = config or (Path(os.environ["DESKHAND_CONFIG"]) if os.environ.get("DESKHAND_CONFIG") else None)
    return load(os.environ, named, **given)


def _from_file(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {str(path)!r}: {exc.strerror}") from None
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"the configuration file {str(path)!r} is not TOML: {exc}") from None
    if unknown := sorted(set(values) - known):
        raise SettingsError(f"unknown setting {unknown[0]!r} in {str(path)!r}; known: {', '.join(sorted(known))}")
    return values


def _parse(name: str, text: str) -> Any:
    match name:
        case (
            "allow_private_hosts" | "mcp_allowed_hosts" | "network_allowed_domains" | "network_mirrors" | "more_engines"
        ):
            return [part.strip() for part in text.split(",") if part.strip()]
        case "model_aliases" | "network_hosts":
            pairs = [part.partition("=") for part in text.split(",") if part.strip()]
            if bad := [p for p in pairs if not p[1] or not p[0].strip() or not p[2].strip()]:
                form = "asked=served" if name == "model_aliases" else "host=address"
                raise SettingsError(f"DESKHAND_{name.upper()}: {bad[0][0]!r} is not of the form {form}")
            return {asked.strip(): served.strip() for asked, _, served in pairs}
        case "upstreams" | "keys":
            raise SettingsError(f"{name!r} can only be set in the TOML file")
        case _:
            return text


def _path(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value).expanduser()
    raise NotImplementedError(kind)


def _show(value: Any) -> str:
    match value:
        case None:
            return ""
        case ():
            return "none"
        case _:
            return f"`{value}`"
