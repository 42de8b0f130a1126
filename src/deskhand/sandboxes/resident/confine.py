"""What a process of Deskhand inside a container gives up before it touches anything hostile."""

from __future__ import annotations

import _ctypes
import _struct
import os
import sys

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 3, 4, 22, 38
SECCOMP_MODE_FILTER = 2
INSTRUCTION_BYTES = 8
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
ATTRIBUTES_BYTES = 48
TURN_NS = 100_000


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


def take_short_turns() -> None:
    """Give way soon to whoever else wants a processor, with all that this process will start.

    A container of a hundred busy processes else keeps each neighbour waiting for a whole turn at every step of a
    command. Linux 6.12 and newer: the turn is `sched_runtime` (sched(7), include/uapi/linux/sched/types.h); an older
    kernel pays no attention.
    """
    number = SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _struct.pack("=IIQiIQQQ", ATTRIBUTES_BYTES, os.SCHED_OTHER, 0, nice, 0, TURN_NS, 0, 0)
    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall")  # type: ignore[arg-type]
    _ctypes.call_function(function, (number, 0, attributes, 0))


def prctl(option: int, argument: int, pointer: bytes | int = 0) -> int:
    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    return int(_ctypes.call_function(function, (option, argument, pointer, 0, 0)))
