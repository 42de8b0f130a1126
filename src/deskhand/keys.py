"""The keys that clients send: from the settings, or one made at first start and kept in the data directory."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .settings import ApiKey, Settings

FILE = "api_key"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in force. `made` is the one made just now, to be shown once."""

    keys: Sequence[ApiKey]
    made: str | None = None


def load_keys(settings: Settings) -> Keyring:
    """The keys of `settings`; with none, the kept one, made now if there is none yet (mode 0600)."""
    keys = [*settings.keys, *([ApiKey(settings.api_key)] if settings.api_key else [])]
    if keys:
        return Keyring(keys)
    path = settings.data_dir / FILE
    if kept := kept_key(settings.data_dir):
        return Keyring([ApiKey(kept)])
    made = f"sk-deskhand-{secrets.token_urlsafe(32)}"
    _write_private(path, made)
    return Keyring([ApiKey(made)], made)


def kept_key(data_dir: Path) -> str | None:
    """The key kept in a data directory, if there is one."""
    try:
        return (data_dir / FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
