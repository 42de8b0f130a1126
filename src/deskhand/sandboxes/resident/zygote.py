"""Warm interpreters: one clean process on the host with the data packages loaded, copied into containers by fork(2).

It runs as root with few capabilities and no network, where `/opt` looks as it does in a container, so that what it has
loaded has the right paths. It knows nothing of the server. For each container it makes a copy that takes on everything
that the container's first process has: cgroups, namespaces, identity, ceilings, system call filter. Only when the
kernel shows the copy and the first process alike does the copy become an interpreter; else it ends.

The server passes, over the sequenced-packet socket that is descriptor 3, a request with three descriptors: a pidfd of
the container's first process, the interpreter's end of its socket, and the writing end of its pipe. There is no answer
but the interpreter's own first word on its socket.

Sources: setns(2), pid_namespaces(7), user_namespaces(7), capabilities(7), seccomp(2), proc_pid_status(5).
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import time

from .confine import PR_SET_DUMPABLE, apply_filter, prctl
from .interpreter import CONTROL, Interpreter

SERVER = 3
INIT = 1
MAX_REQUEST = 64 << 10
PACKAGES = ("numpy", "numpy.random", "pandas", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "asyncio")
READY = b"ready"
LIFTED = 64
"""Descriptors are moved above this, clear of the numbers that they will have."""

NAMESPACES = {
    "user": 0x10000000, "mnt": 0x00020000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000,
    "cgroup": 0x02000000,
}  # fmt: skip
CLONE_NEWPID = 0x20000000
PR_SET_NAME, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 15, 24, 38, 47, 4
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63
ALIKE = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask")
"""Lines of /proc/PID/status that must be the same for the copy and for the container's first process."""
LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU, "Max file size": resource.RLIMIT_FSIZE, "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK, "Max core file size": resource.RLIMIT_CORE,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE, "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS, "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE, "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO, "Max realtime timeout": resource.RLIMIT_RTTIME,
}  # fmt: skip
"""As /proc/PID/limits names them. `processes.MARK_LIMIT` is left out: it is the agent that marks what it adopts."""

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Load the packages, say so, and serve until the server is gone. `sys.path` holds the folder of this package."""
    del sys.path[0]
    prctl(PR_SET_DUMPABLE, 0)
    os.umask(0o022)
    os.set_inheritable(SERVER, False)
    for name in PACKAGES:
        __import__(name)
    gc.collect()
    gc.freeze()
    server = socket.socket(fileno=SERVER)
    server.send(READY)
    signal.signal(signal.SIGCHLD, reap)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    while True:
        message, fds, _, _ = socket.recv_fds(server, MAX_REQUEST, 3)
        if not message:
            os._exit(0)
        if len(fds) == 3:
            try:
                copy_into(json.loads(message), *fds, own=own)
            except (OSError, ValueError, KeyError) as exc:  # the container has died: its socket closes now
                print("no interpreter:", exc, file=sys.stderr, flush=True)
        for fd in fds:
            os.close(fd)


def reap(_number: int, _frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def copy_into(request: dict[str, object], init: int, control: int, output: int, *, own: int) -> None:
    """Make a copy in the container's pid namespace. Raises `OSError`."""
    setns(init, CLONE_NEWPID)
    if os.fork() != 0:
        setns(own, CLONE_NEWPID)
    else:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control, output = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LIFTED) for fd in (control, output))
            enter(request, init)
            # The copy's copy is the interpreter: when its parent ends, the container's first process is its parent.
            if os.fork() == 0:
                settle(request, control, output)
                become(control)
        except BaseException as exc:
            complain(control, exc)
        finally:
            os._exit(0)


def complain(control: int, exc: BaseException) -> None:
    """Tell the server, instead of the interpreter's first word, why there is none."""
    words = repr(exc).encode()[:1000]
    os.write(control, struct.pack(">IB", len(words), ord("X")) + words)


def enter(request: dict[str, object], init: int) -> None:
    """Join the container's cgroups and namespaces, those of which it has its own."""
    pid = int(str(request["pid"]))
    raise_oom_score()
    take_limits(pid)
    for folder in str(request["groups"]).split("\n"):
        if folder:
            with open(folder + "/cgroup.procs", "w") as file:
                file.write("0")
    kinds = [kind for kind in NAMESPACES if namespace(pid, kind) != namespace("self", kind)]
    os.setgroups([])
    setns(init, sum(NAMESPACES[kind] for kind in kinds))


def raise_oom_score() -> None:
    """Let the OOM killer prefer this to the agent, as it does commands (proc_pid_oom_score_adj(5))."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def take_limits(pid: int) -> None:
    with open(f"/proc/{pid}/limits") as file:
        rows = [re.split(r"\s{2,}", line.strip()) for line in file.readlines()[1:]]
    for row in rows:
        if row[0] in LIMITS:
            soft, hard = (resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in row[1:3])
            resource.setrlimit(LIMITS[row[0]], (soft, hard))


def settle(request: dict[str, object], control: int, output: int) -> None:
    """Become what everything else in the container is, keep no other descriptor, and check that. Raises `OSError`."""
    os.setsid()
    os.chdir("/mnt/data")
    model = status(INIT)
    uid, gid = int(model["Uid"].split()[0]), int(model["Gid"].split()[0])
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(CONTROL, control)
    os.closerange(control + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    drop_capabilities(int(model["CapBnd"], 16))
    apply_filter(bytes.fromhex(str(request["filter"])))
    prctl_bytes(PR_SET_NAME, b"python3\0")
    mine = status("self")
    different = [name for name in ALIKE if mine.get(name) != model.get(name)]
    if different:
        raise PermissionError("not as the container's first process in " + ", ".join(different))


def drop_capabilities(bounding: int) -> None:
    for number in range(LAST_CAPABILITY + 1):
        if not bounding >> number & 1:
            LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # refused for numbers that the kernel does not have
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header, nothing = struct.pack("@Ii", CAPABILITY_VERSION_3, 0), bytes(24)
    if LIBC.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def become(control: int) -> None:
    """Be the interpreter of the container. What earlier was not to be looked into is now."""
    sys.modules["numpy"].random.seed()  # every copy would draw the same numbers
    importlib.invalidate_caches()
    while os.getppid() != INIT:
        time.sleep(0.0002)
    prctl(PR_SET_DUMPABLE, 1)
    os.dup2(control, CONTROL)
    os.close(control)
    Interpreter(CONTROL, os.dup(1)).serve()


def status(pid: int | str) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        pairs = [line.partition(":") for line in file]
    return {name: value.strip() for name, _, value in pairs}


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def setns(fd: int, kinds: int) -> None:
    if LIBC.setns(fd, kinds) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def prctl_bytes(option: int, text: bytes) -> None:
    LIBC.prctl(option, text, 0, 0, 0)
