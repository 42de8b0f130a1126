"""Arguments of a call while the model still writes them."""

from typing import Any

import jiter


class PartialArguments:
    """Collects the JSON text of a call's arguments and says what can be read of it so far.

    Reading again costs as much as the text is long, so it is done only when the text has grown by a fiftieth: the
    whole cost stays within a small multiple of one reading.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0
        self._read_at = 0

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self._pieces)

    def keep(self, piece: str) -> None:
        """Take in a piece that nobody asks about yet."""
        self._pieces.append(piece)
        self._size += len(piece)

    def add(self, piece: str) -> dict[str, Any] | None:
        """Take in a piece; the object so far, with a half-written last string, if it is worth reading again."""
        self.keep(piece)
        if self._size - self._read_at < self._size // 50:
            return None
        self._read_at = self._size
        return self._parse("trailing-strings")

    def whole(self) -> dict[str, Any]:
        """The complete object. Raises `ValueError` if it is not one."""
        value = jiter.from_json(self.text.encode("utf-8", "replace") or b"{}")
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        return value

    def _parse(self, mode: Any) -> dict[str, Any] | None:
        try:
            value = jiter.from_json(self.text.encode("utf-8", "replace"), partial_mode=mode)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None
