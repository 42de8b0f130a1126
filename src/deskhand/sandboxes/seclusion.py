"""Start a container where only its own mounts are to be seen.

bubblewrap copies the mounts of whoever starts it and reads the list of them again for each of its forty own: beside a
hundred containers, whose disks are mounts, that took a third of the processor time of a start.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from deskhand.ports.sandbox import SandboxUnavailable

from . import mounting

T = TypeVar("T")


def secluded(hidden: Path, shown: Sequence[Path], step: Callable[[], T]) -> T:
    """Do `step` in a thread, and start what it starts, without the mounts at and below `hidden` but those at `shown`.

    Where `hidden` is no mount, or this process may not have other mounts, all of them are there: nothing but speed
    depends on it. Raises `SandboxUnavailable` if one of `shown` cannot be had, and what `step` raises.
    """

    def alone() -> T:
        _hide(hidden, shown)
        return step()

    with ThreadPoolExecutor(1) as thread:  # of its own: there is no way back to the mounts of the others
        return thread.submit(alone).result()


def _hide(hidden: Path, shown: Sequence[Path]) -> None:
    try:
        mounting.leave_namespace()
    except OSError:
        return
    with ExitStack() as copies:
        try:
            kept = [(mounting.copy(path), path) for path in shown]
            for made, _ in kept:
                copies.callback(os.close, made)
            if _detached(hidden):
                for made, path in kept:
                    mounting.put(made, path)
        except OSError as exc:
            raise SandboxUnavailable(f"cannot show a new container {exc.filename}: {exc.strerror}") from exc


def _detached(hidden: Path) -> bool:
    try:
        mounting.detach(hidden)
    except OSError:
        return False
    return True
