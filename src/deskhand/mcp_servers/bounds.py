"""How much of a remote MCP server is heard."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class McpBounds:
    """Seconds, bytes and counts of one server's connection.

    `bytes` is the longest body of one answer of the server, and `values` is how many values of JSON it may have, each
    of which takes the library some 20 µs and memory; `requests` is how many are sent to it in all, resumed streams
    included.
    """

    call_s: float = 120.0
    listing_s: float = 30.0
    closing_s: float = 2.0
    bytes: int = 16 << 20
    values: int = 100_000
    requests: int = 10_000
    calls_at_once: int = 8
    pages: int = 32
    tools: int = 512
    listing_characters: int = 1 << 20
    text_characters: int = 1 << 20
    picture_characters: int = 8 << 20
    name_characters: int = 256
    message_characters: int = 1000
