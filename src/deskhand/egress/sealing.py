"""Secrets at rest: sealed with the installation's key, and bound to the place where they are kept.

AES-256-GCM (NIST SP 800-38D) with a random nonce for each value. The first key seals; every key opens, so that keys can
be changed while old values are still there. The context (owner, container, name, domain) is authenticated: a row that
was moved to another container does not open.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..core.errors import DeskhandError
from .files import keep_private

KEY_FILE: Final = "secret_key"
SHORTEST_KEY: Final = 32
"""Characters of a key from the settings; 32 random hex digits are 128 bits."""

_VERSION: Final = b"\x01"
_ID_BYTES, _NONCE_BYTES = 4, 12


class BadKey(DeskhandError):
    """A key of the settings cannot be used."""


class Unsealable(DeskhandError):
    """What is kept cannot be opened: its key is gone, or somebody changed it."""


class Sealer:
    """Seals and opens values."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or any(len(key) < SHORTEST_KEY for key in keys):
            raise BadKey(
                f"secret_key: each key needs at least {SHORTEST_KEY} characters; `openssl rand -hex 32` makes one"
            )
        derived = [HKDF(SHA256(), 32, None, b"deskhand secrets").derive(key.encode()) for key in keys]
        self._keys = {hashlib.sha256(b"id" + key).digest()[:_ID_BYTES]: AESGCM(key) for key in reversed(derived)}
        self._newest = hashlib.sha256(b"id" + derived[0]).digest()[:_ID_BYTES]

    def seal(self, value: bytes, context: Sequence[str]) -> bytes:
        """`value` as it may be stored."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, value, _bound(context))
        return _VERSION + self._newest + nonce + sealed

    def open(self, sealed: bytes, context: Sequence[str]) -> bytes:
        """The value. Raises `Unsealable`."""
        key = self._keys.get(sealed[1 : 1 + _ID_BYTES]) if sealed[:1] == _VERSION else None
        if key is None:
            raise Unsealable("a stored secret was sealed with a key that this server does not have; see `secret_key`")
        rest = sealed[1 + _ID_BYTES :]
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(context))
        except (InvalidTag, ValueError):
            raise Unsealable("a stored secret was changed, or belongs elsewhere") from None


def load_sealer(given: str | None, data_dir: Path) -> Sealer:
    """The sealer with the keys of the settings (newest first, `a,b`), else with the key kept in the data directory.

    That key is made at the first start (mode 0600). Raises `BadKey`.
    """
    if given:
        return Sealer([key.strip() for key in given.split(",") if key.strip()])
    return Sealer([keep_private(data_dir / KEY_FILE, lambda: secrets.token_hex(32).encode()).decode().strip()])


def _bound(context: Sequence[str]) -> bytes:
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in context)
