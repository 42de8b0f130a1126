"""What a process of Deskhand inside a container gives up before it touches anything hostile."""

from __future__ import annotations

import _ctypes
import sys

PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4


def hide_from_ptrace() -> None:
    """Keep this process's memory, descriptors and environment from the commands, which run as the same user."""
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    _ctypes.call_function(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0))
    if _ctypes.call_function(prctl, (PR_GET_DUMPABLE, 0, 0, 0, 0)) != 0:
        sys.exit("the agent could not make itself non-dumpable")
