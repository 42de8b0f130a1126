"""How large a document may be, and how long it may take to read it."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DocumentBounds:
    """Sizes in bytes, times in seconds. Text is counted in characters: 5,000,000 tokens are about 20 million."""

    input_bytes: int = 128 * MIB
    text_characters: int = 24_000_000
    picture_bytes: int = 2 * MIB
    """Of each picture."""
    pictures: int = 50
    memory_bytes: int = 1536 * MIB
    cpu_s: int = 30
    wall_s: float = 90.0
    at_once: int = 4
    """Files that are read at a time; others wait."""

    @property
    def output_bytes(self) -> int:
        """All that a reader says: text in UTF-8, escaped where JSON asks for it, and pictures in base64."""
        return 4 * self.text_characters + 2 * self.pictures * self.picture_bytes + MIB
