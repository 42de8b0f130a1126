"""Ids: a prefix and 48 random hex digits, as the API's own look (API reference, "Id prefixes")."""

import secrets

_HYPHENED = frozenset({"file", "chatcmpl", "cmpl"})


def new_id(prefix: str) -> str:
    """A new id: `resp_…`, `msg_…`; files and the older resources use a hyphen."""
    return f"{prefix}{'-' if prefix in _HYPHENED else '_'}{secrets.token_hex(24)}"
