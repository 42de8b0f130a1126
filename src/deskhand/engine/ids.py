"""Ids: a prefix and 48 random hex digits, as the API's own look (API reference, "Id prefixes")."""

import secrets


def new_id(prefix: str) -> str:
    """A new id: `resp_…`, `msg_…`; files use a hyphen."""
    return f"{prefix}{'-' if prefix == 'file' else '_'}{secrets.token_hex(24)}"
