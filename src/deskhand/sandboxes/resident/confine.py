"""What a process of Deskhand inside a container gives up before it touches anything hostile."""

from __future__ import annotations

import _ctypes
import _struct
import sys

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 3, 4, 22, 38
SECCOMP_MODE_FILTER = 2
INSTRUCTION_BYTES = 8


def hide_from_ptrace() -> None:
    """Keep this process's memory, descriptors and environment from the commands, which run as the same user."""
    prctl(PR_SET_DUMPABLE, 0)
    if prctl(PR_GET_DUMPABLE, 0) != 0:
        sys.exit("the agent could not make itself non-dumpable")


def apply_filter(program: bytes) -> None:
    """Put a classic BPF program between the kernel and this process with all that it will start (seccomp(2)).

    For launchers that cannot do it themselves. Nothing hostile runs yet.
    """

    class Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "B"

    class Program(_ctypes.Array):  # type: ignore[type-arg]
        _type_ = Byte
        _length_ = len(program)

    copy = Program.from_buffer_copy(program)
    header = _struct.pack("@HP", len(program) // INSTRUCTION_BYTES, _ctypes.addressof(copy))
    if prctl(PR_SET_NO_NEW_PRIVS, 1) != 0 or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header) != 0:
        sys.exit("the agent could not apply its system call filter")


def prctl(option: int, argument: int, pointer: bytes | int = 0) -> int:
    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    return int(_ctypes.call_function(function, (option, argument, pointer, 0, 0)))
