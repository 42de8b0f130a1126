"""Files that only the server may read, made once."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def keep_private(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file of mode 0600, made if it is missing; of several makers at once, the first one's."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600 from the start
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
    return path.read_bytes()
