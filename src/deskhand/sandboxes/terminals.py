"""The pseudo terminals of a container, in an instance of devpts of its own, of which it can have only so many.

Source: the kernel's Documentation/filesystems/devpts.rst.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

MOST: Final = 32
"""Those of all containers come out of one count of the kernel, kernel.pty.max."""

OPTIONS: Final = ("newinstance", "ptmxmode=0666", "mode=0620", f"max={MOST}")
MS_NOSUID, MS_NOEXEC = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def mount(target: Path) -> bool:
    """Mount an instance on `target`. False if this process may not."""
    target.mkdir(mode=0o755, exist_ok=True)
    options = ",".join(OPTIONS).encode()
    return bool(_libc.mount(b"devpts", os.fsencode(target), b"devpts", MS_NOSUID | MS_NOEXEC, options) == 0)
