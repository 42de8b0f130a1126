"""The pseudo terminals of a container, in an instance of devpts of its own, of which it can have only so many.

Source: the kernel's Documentation/filesystems/devpts.rst.
"""

from pathlib import Path
from typing import Final

from . import mounting

MOST: Final = 32
"""Those of all containers come out of one count of the kernel, kernel.pty.max."""

OPTIONS: Final = ("newinstance", "ptmxmode=0666", "mode=0620", f"max={MOST}")


def mount(target: Path) -> bool:
    """Mount an instance on `target`. False if this process may not."""
    target.mkdir(mode=0o755, exist_ok=True)
    try:
        mounting.mount("devpts", target, "devpts", mounting.NOSUID | mounting.NOEXEC, ",".join(OPTIONS))
    except OSError:
        return False
    return True
