"""What a reader gives up before it looks at a file: it can compute, and write to its pipe.

Sources: setrlimit(2), unshare(2), user_namespaces(7), prctl(2), capset(2), and the kernel's
Documentation/userspace-api/landlock.rst.
"""

import ctypes
import os
import resource
import signal
import struct
from typing import Final

NOBODY: Final = 65534
DESCRIPTORS: Final = 32
CLONE_NEWUSER, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWNET = 0x10000000, 0x08000000, 0x04000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
EVERY_FILE_ACCESS: Final = (1 << 13) - 1
"""What Landlock's first version (Linux 5.13) can refuse: reading, writing, executing, making and removing."""
CAPABILITY_VERSION: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process can use. It writes no files, and dumps no core."""
    bounds = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: DESCRIPTORS,
    }
    for what, most in bounds.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def confine() -> None:
    """Leave the network, the user and the files. Everything that will be imported has to be there already.

    Namespaces and Landlock are taken where the kernel has them; the rest must work. Raises `OSError`.
    """
    root = os.geteuid() == 0
    _libc.unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (0 if root else CLONE_NEWUSER))
    if root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _drop_capabilities()
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user has forgotten it
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _leave_files()


def _leave_files() -> None:
    """Open no file from now on. Descriptors that are open stay so."""
    handled = struct.pack("@Q", EVERY_FILE_ACCESS)
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return
    _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _drop_capabilities() -> None:
    header, nothing = struct.pack("@Ii", CAPABILITY_VERSION, 0), bytes(24)
    if _libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
