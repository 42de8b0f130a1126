"""A system call filter as classic BPF, built without libseccomp, for x86-64 and arm64.

A deny list over a small kernel surface: what needs a capability is refused by the kernel anyway, so the filter removes
what an unprivileged process could still reach and what has a history of kernel bugs. Namespaces other than those that
already exist, key rings, io_uring, userfaultfd, bpf, perf, mount calls, exotic socket families. ptrace stays, because
debuggers are part of a computer, every process of the container has one uid, the agent is not dumpable, and since Linux
4.8 the filter is applied after a tracer's changes (seccomp(2)). What one uid would allow is refused: to change the
agent's limits and scheduling (prlimit(2) does not ask whether a process is dumpable), to signal it (Linux protects the
first process of a pid namespace, gVisor does not), and to be told when files are opened, for /usr is one for all:
inotify on it would tell what other containers and the host run.

Sources: seccomp(2), linux/audit.h, linux/filter.h, the kernel's syscall tables (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h).
"""

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LD_ABS, JEQ, JGE, JSET, AND, RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW: Final = 0x7FFF0000
NR, ARCH, ARGS = 0, 4, 16
X32_BIT: Final = 0x40000000
NEWEST_SYSCALL: Final = 470
"""Newer numbers answer ENOSYS: what this filter does not know, a container does not need."""

NAMESPACE_FLAGS: Final = 0x7E020080
"""CLONE_NEWUSER|NEWPID|NEWNET|NEWIPC|NEWUTS|NEWCGROUP|NEWNS|NEWTIME of clone(2)."""

CLONE_NAMESPACE_FLAGS: Final = 0x7E020000
"""The same without CLONE_NEWTIME, whose bit belongs to the exit signal in clone(2)."""

SOCKET_FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; AF_VSOCK is not covered by a network namespace."""

INTERNET_PROTOCOLS: Final = (0, 1, 6, 17, 58)
"""Chosen by the socket's type, ICMP, TCP, UDP, ICMPv6; not SCTP, DCCP, L2TP, UDP-Lite or MPTCP."""

SOL_TCP, TCP_ULP = 6, 31

TERMINAL_INJECTION: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX of ioctl_tty(2)."""

FOLDER_NOTICES: Final = (1026,)
"""F_NOTIFY of fcntl(2), the ancestor of inotify."""

AGENT_PID: Final = 1
SIGCHLD: Final = 17
"""The one signal that may be sent to the agent: it sends it to itself."""

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Machine:
    """A CPU architecture: its audit number and its system call numbers."""

    audit: int
    calls: Mapping[str, int]


# Calls that have the same number everywhere (424 and up, since Linux 5.1).
_COMMON: Final = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435,
    "mount_setattr": 442, "quotactl_fd": 443, "open_tree_attr": 467,
}  # fmt: skip

MACHINES: Final[Mapping[str, Machine]] = {
    "x86_64": Machine(
        0xC000003E,
        _COMMON | {
            "socket": 41, "socketpair": 53, "clone": 56, "ioctl": 16, "fcntl": 72, "setsockopt": 54,
            "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203, "inotify_init": 253,
            "inotify_init1": 294, "prlimit64": 302, "sched_setattr": 314, "unshare": 272, "modify_ldt": 154,
            "pivot_root": 155, "_sysctl": 156, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164,
            "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170,
            "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175,
            "delete_module": 176, "query_module": 178, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212,
            "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
            "vhangup": 153, "syslog": 103, "io_setup": 206, "uselib": 134, "ustat": 136, "sysfs": 139,
            "migrate_pages": 256, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300,
            "fanotify_mark": 301, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305,
            "setns": 308, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        _COMMON | {
            "socket": 198, "socketpair": 199, "clone": 220, "ioctl": 29, "fcntl": 25, "setsockopt": 208,
            "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "inotify_init1": 26, "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122,
            "prlimit64": 261, "sched_setattr": 274, "unshare": 97, "lookup_dcookie": 18,
            "io_setup": 0, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "chroot": 51, "vhangup": 58,
            "quotactl": 60, "acct": 89, "kexec_load": 104, "init_module": 105, "delete_module": 106,
            "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "setdomainname": 162,
            "settimeofday": 170, "adjtimex": 171, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224,
            "swapoff": 225, "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241, "fanotify_init": 262,
            "fanotify_mark": 263, "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266,
            "setns": 268, "kcmp": 272, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
        },
    ),
}  # fmt: skip

_ON_A_PROCESS: Final = (
    "prlimit64", "sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr", "tkill", "tgkill",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open",
)  # fmt: skip
"""Calls whose first argument is the pid of the process that they change or signal."""

_CONDITIONAL: Final = (
    "socket", "socketpair", "clone", "ioctl", "unshare", "fcntl", "setsockopt", "kill", *_ON_A_PROCESS
)  # fmt: skip
_ABSENT: Final = frozenset(
    ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "bpf", "_sysctl",
     "create_module", "query_module", "nfsservctl", "uselib", "ustat", "sysfs", "lookup_dcookie", "inotify_init",
     "inotify_init1", "io_setup")
)  # fmt: skip
"""Answered with ENOSYS, so that callers fall back (glibc: clone3 to clone) as on an older kernel; the rest is EPERM."""


def supported(machine: str) -> bool:
    """Tell whether there is a filter for `machine` (as `os.uname().machine` names it)."""
    return machine in MACHINES


def program(machine: str) -> bytes:
    """Build the filter as an array of `struct sock_filter`. Raises `KeyError` for an unknown machine."""
    target = MACHINES[machine]
    code: list[Instruction] = [
        _load(ARCH),
        *_unless_equal(target.audit, errno.ENOSYS),
        _load(NR),
        *_if_at_least(X32_BIT, errno.ENOSYS),
        *_if_at_least(NEWEST_SYSCALL + 1, errno.ENOSYS),
    ]
    for name, number in sorted(target.calls.items(), key=lambda pair: pair[1]):
        if name not in _CONDITIONAL:
            code += _if_equal(number, errno.ENOSYS if name in _ABSENT else errno.EPERM)
    code += _for_call(target.calls["clone"], _refuse_bits(0, CLONE_NAMESPACE_FLAGS))
    code += _for_call(target.calls["unshare"], _refuse_bits(0, NAMESPACE_FLAGS))
    code += _for_call(target.calls["ioctl"], _refuse_values(1, TERMINAL_INJECTION))
    code += _for_call(target.calls["fcntl"], _refuse_values(1, FOLDER_NOTICES))
    code += _for_call(target.calls["setsockopt"], _layers())
    code += _for_call(target.calls["kill"], _signals())
    for name in _ON_A_PROCESS:
        code += _for_call(target.calls[name], _refuse_values(0, (AGENT_PID,)))
    for name in ("socket", "socketpair"):
        code += _for_call(target.calls[name], _sockets())
    code.append((RET, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _sockets() -> list[Instruction]:
    """Only the allowed families; of the internet's protocols TCP, UDP and ICMP; of netlink only NETLINK_ROUTE."""
    families: list[Instruction] = []
    for index, family in enumerate(SOCKET_FAMILIES):
        families.append((JEQ, len(SOCKET_FAMILIES) - index, 0, family))
    internet = [_load(_argument(2)), *_unless_one_of(INTERNET_PROTOCOLS, errno.EPROTONOSUPPORT)]
    netlink = [_load(_argument(2)), *_unless_equal(0, errno.EPROTONOSUPPORT)]
    return [
        _load(_argument(0)),
        *families,
        _refuse(errno.EAFNOSUPPORT),
        (JEQ, len(internet) + len(netlink) + 2, 0, 1),
        (JEQ, len(internet) + 1, 0, 16),
        *internet,
        (RET, 0, 0, ALLOW),
        *netlink,
    ]


def _layers() -> list[Instruction]:
    """Refuse TCP_ULP, which loads kernel modules (tls, espintcp) for anybody."""
    refused = [_load(_argument(2)), *_if_equal(TCP_ULP, errno.EPERM)]
    return [_load(_argument(1)), (JEQ, 0, len(refused), SOL_TCP), *refused]


def _signals() -> list[Instruction]:
    refused = [_load(_argument(1)), *_unless_equal(SIGCHLD, errno.EPERM)]
    return [_load(_argument(0)), (JEQ, 0, len(refused), AGENT_PID), *refused]


def _for_call(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body` if the call is `number`; a body that does not return allows the call."""
    return [(JEQ, 0, len(body) + 1, number), *body, (RET, 0, 0, ALLOW)]


def _refuse_bits(argument: int, bits: int) -> list[Instruction]:
    return [_load(_argument(argument)), (JSET, 0, 1, bits), _refuse(errno.EPERM)]


def _refuse_values(argument: int, values: Sequence[int]) -> list[Instruction]:
    code = [_load(_argument(argument))]
    for value in values:
        code += _if_equal(value, errno.EPERM)
    return code


def _argument(index: int) -> int:
    """Offset of the low half of an argument (both machines are little-endian); the flags tested all fit in it."""
    return ARGS + 8 * index


def _load(offset: int) -> Instruction:
    return (LD_ABS, 0, 0, offset)


def _refuse(code: int) -> Instruction:
    return (RET, 0, 0, 0x00050000 | code)


def _if_equal(value: int, code: int) -> list[Instruction]:
    return [(JEQ, 0, 1, value), _refuse(code)]


def _unless_equal(value: int, code: int) -> list[Instruction]:
    return [(JEQ, 1, 0, value), _refuse(code)]


def _unless_one_of(values: Sequence[int], code: int) -> list[Instruction]:
    jumps: list[Instruction] = [(JEQ, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [*jumps, _refuse(code)]


def _if_at_least(value: int, code: int) -> list[Instruction]:
    return [(JGE, 0, 1, value), _refuse(code)]
