"""How much of everything one container's way out may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections at the same time, seconds, and bytes in both directions (0: not limited)."""

    connections: int = 256
    head_s: float = 120.0
    """For the next request of a connection to begin and its head to be whole."""
    handshake_s: float = 10.0
    answer_s: float = 300.0
    """Of silence while an answer is awaited or read."""
    tunnel_s: float = 600.0
    """Of silence in a tunnel or WebSocket."""
    container_bytes: int = 0
    container_records: int = 200_000
    """Attempts of one container that are recorded, until the server restarts; then it may make no more."""
