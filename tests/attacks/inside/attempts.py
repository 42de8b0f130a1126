"""Attempts at what a container must not allow, for running inside and, as the control, where it is allowed.

    python3 attempts.py NAME[=ARGUMENT] ...        prints {"NAME=ARGUMENT": "done" | "ERRNO" | words}

Every attempt opens, connects or asks; none writes, kills or mounts over anything that was not made for it. Standard
library, CPython 3.9 or newer, x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
import tempfile
import time

libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
BUFFER = ctypes.create_string_buffer(4096)
AT_FDCWD = -100
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x10000000, 0x40000000, 0x20000000
CLONE_NEWTIME, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x80, 0x2000000, 0x4000000, 0x8000000
SIGCHLD = 17

NUMBERS = {
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "perf_event_open": (298, 241), "bpf": (321, 280), "clone3": (435, 435),
    "fsopen": (430, 430), "open_tree": (428, 428), "move_mount": (429, 429), "mount": (165, 40), "umount2": (166, 39),
    "mount_setattr": (442, 442), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "clone": (56, 220), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "kexec_load": (246, 104), "init_module": (175, 105),
    "finit_module": (313, 273), "swapon": (167, 224), "acct": (163, 89), "reboot": (169, 142),
    "sethostname": (170, 161), "clock_settime": (227, 112), "settimeofday": (164, 170), "adjtimex": (159, 171),
    "syslog": (103, 116), "quotactl": (179, 60), "ioctl": (16, 29), "mknodat": (259, 33), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "fanotify_init": (300, 262), "setuid": (105, 146), "prlimit64": (302, 261),
    "landlock_create_ruleset": (444, 444), "iopl": (172, None), "io_setup": (206, 0),
}  # fmt: skip


class Refused(Exception):
    """An attempt that failed in words of its own."""


def call(name: str, *args: object) -> int:
    """Make a system call by its number, so that no wrapper of libc stands between."""
    number = NUMBERS[name][0 if X86 else 1]
    if number is None:
        raise Refused("ENOSYS")
    result: int = libc.syscall(number, *(ctypes.c_long(word) if isinstance(word, int) else word for word in args))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def read(path: str) -> str:
    with open(path, "rb") as file:
        return "done" if file.read(1) else "empty"


def see(path: str) -> str:
    os.lstat(path)
    return "done"


def listing(path: str) -> str:
    return "done" if os.listdir(path) else "empty"


def write(path: str) -> str:
    """Open for writing, and write nothing."""
    os.close(os.open(path, os.O_WRONLY))
    return "done"


def create(path: str) -> str:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)
    return "done"


def unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as dialled:
        dialled.settimeout(2)
        dialled.connect("\0" + path[1:] if path.startswith("@") else path)
    return "done"


def tcp(address: str) -> str:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as dialled:
        dialled.settimeout(2)
        dialled.connect((host, int(port)))
    return "done"


def udp(address: str) -> str:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as dialled:
        dialled.sendto(b"canary", (host, int(port)))
    return "done"


def resolve(name: str) -> str:
    try:
        socket.getaddrinfo(name, 80)
    except socket.gaierror:
        raise Refused("unresolved") from None
    return "done"


def make_socket(words: str) -> str:
    family, kind, protocol = (int(word) for word in words.split(","))
    socket.socket(family, kind, protocol).close()
    return "done"


def mount(_: str) -> str:
    """Mount an empty file system on a folder of one's own."""
    call("mount", b"none", tempfile.mkdtemp().encode(), b"tmpfs", 0, 0)
    return "done"


def bind(_: str) -> str:
    call("mount", b"/usr", tempfile.mkdtemp().encode(), 0, 4096, 0)
    return "done"


def remount(path: str) -> str:
    call("mount", 0, path.encode(), 0, 32 | 4096, 0)
    return "done"


def umount(path: str) -> str:
    call("umount2", path.encode(), 2)
    return "done"


def fsopen(_: str) -> str:
    os.close(call("fsopen", b"tmpfs", 0))
    return "done"


def open_tree(path: str) -> str:
    os.close(call("open_tree", AT_FDCWD, path.encode(), 1))  # OPEN_TREE_CLONE
    return "done"


def pivot_root(_: str) -> str:
    folder = tempfile.mkdtemp().encode()
    call("mount", b"none", folder, b"tmpfs", 0, 0)
    call("pivot_root", folder, folder)
    return "done"


def chroot(_: str) -> str:
    call("chroot", tempfile.mkdtemp().encode())
    return "done"


def unshare(flag: str) -> str:
    call("unshare", int(flag, 0))
    return "done"


def clone(flag: str) -> str:
    if call("clone", int(flag, 0) | SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    return "done"


def clone3(_: str) -> str:
    arguments = (ctypes.c_uint64 * 11)(CLONE_NEWUSER, 0, 0, 0, SIGCHLD)
    if call("clone3", arguments, ctypes.sizeof(arguments)) == 0:
        os._exit(0)
    return "done"


def setns(path: str) -> str:
    """Enter a namespace; its own, for which nothing but the right to call is needed, says EPERM or EINVAL."""
    handle = os.open(path, os.O_RDONLY)
    call("setns", handle, 0)
    return "done"


def ptrace(pid: str) -> str:
    """PTRACE_SEIZE, which stops nobody."""
    call("ptrace", 0x4206, own_child(pid), 0, 0)
    return "done"


def vm_read(pid: str) -> str:
    span = (ctypes.c_uint64 * 2)(ctypes.addressof(BUFFER), 8)  # a forked child has it at the same address
    call("process_vm_readv", own_child(pid), span, 1, span, 1, 0)
    return "done"


def memory(pid: str) -> str:
    os.close(os.open(f"/proc/{own_child(pid)}/mem", os.O_RDWR))
    return "done"


def descriptors(pid: str) -> str:
    return "done" if os.listdir(f"/proc/{own_child(pid)}/fd") else "empty"


def pidfd_getfd(pid: str) -> str:
    handle = os.pidfd_open(own_child(pid))
    os.close(call("pidfd_getfd", handle, 0, 0))
    return "done"


def prlimit(pid: str) -> str:
    """Lower the number of files of a process to what it has: harmless to a child, fatal to a server."""
    limit = (ctypes.c_uint64 * 2)(64, 64)
    call("prlimit64", own_child(pid), 7, limit, 0)
    return "done"


def own_child(pid: str) -> int:
    """The pid, or that of a child made for the attempt ("child")."""
    if pid != "child":
        return int(pid)
    child = os.fork()
    if child == 0:
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG: it goes with the attempt
        os.closerange(0, 256)
        time.sleep(5)
        os._exit(0)
    return child


def sys_call(words: str) -> str:
    """A system call with arguments that the kernel itself would answer with success or another error than EPERM."""
    name, *numbers = words.split(",")
    arguments = [BUFFER if word == "buf" else int(word, 0) for word in numbers]
    call(name, *arguments)
    return "done"


def handle(path: str) -> str:
    """Make a handle of a file, and open it by that: around every mount."""
    own = ctypes.create_string_buffer(8 + 128)
    ctypes.memmove(own, (128).to_bytes(4, sys.byteorder), 4)
    mount_id = ctypes.c_int()
    call("name_to_handle_at", AT_FDCWD, path.encode(), own, ctypes.byref(mount_id), 0)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.close(call("open_by_handle_at", folder, own, os.O_RDONLY))
    return "done"


def device(words: str) -> str:
    """Make a device node: kind, major and minor number."""
    kind, major, minor = words.split(",")
    path = os.path.join(tempfile.mkdtemp(), "node")
    os.mknod(path, (0o020000 if kind == "c" else 0o060000) | 0o600, os.makedev(int(major), int(minor)))
    os.unlink(path)
    return "done"


def terminal(request: str) -> str:
    """Inject into a terminal of one's own: TIOCSTI and TIOCLINUX of ioctl_tty(2); also with high bits set."""
    leader, follower = os.openpty()
    call("ioctl", follower, ctypes.c_uint64(int(request, 0)), BUFFER)
    return "done"


def controlling(_: str) -> str:
    os.close(os.open("/dev/tty", os.O_RDWR))
    return "done"


def foreign(_: str) -> str:
    """getpid(2) by its x32 number: another table of calls beside the filter's."""
    if libc.syscall(0x40000000 | 39) >= 0:
        return "done"
    raise OSError(ctypes.get_errno(), "")


def compat(_: str) -> str:
    """getpid(2) of the i386 table through int 0x80; runs machine code from a page of its own, in a child."""
    import mmap

    code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    child = os.fork()
    if child == 0:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0 if result > 0 else min(255, -result & 0xFF) or 1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise Refused(f"signal {os.WTERMSIG(status)}")
    if os.WEXITSTATUS(status):
        raise OSError(os.WEXITSTATUS(status), "")
    return "done"


def privileged(path: str) -> str:
    """Start a set-uid program. With LD_SHOW_AUXV the loader (ld.so(8)) tells who it runs as, unless it gained."""
    import subprocess

    shown = subprocess.run([path, "--version"], env={"LD_SHOW_AUXV": "1"}, capture_output=True, text=True).stdout
    if "AT_EUID" in shown:
        raise Refused("not gained")
    return "done"


def become(uid: str) -> str:
    call("setuid", int(uid))
    return "done"


def status(field: str) -> str:
    with open("/proc/self/status") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(field + ":")), "absent")


def no_new_privileges(_: str) -> str:
    """PR_GET_NO_NEW_PRIVS of prctl(2)."""
    return str(libc.prctl(39, 0, 0, 0, 0))


def hostname(_: str) -> str:
    call("sethostname", b"canary", 6)
    return "done"


def clock(_: str) -> str:
    """Set the clock to what it shows."""
    now = (ctypes.c_uint64 * 2)(int(time.time()), 0)
    call("clock_settime", 0, now)
    return "done"


def tcp_layer(name: str) -> str:
    """Load a protocol on top of TCP (TCP_ULP), which loads a module of the kernel."""
    server = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(server.getsockname()) as dialled:
        dialled.setsockopt(socket.IPPROTO_TCP, 31, name.encode())
    return "done"


def bound(_: str) -> str:
    """Listen on a raw device of the network: AF_PACKET."""
    socket.socket(17, 3, 0).close()
    return "done"


def interfaces(_: str) -> str:
    return ",".join(sorted(name for _, name in socket.if_nameindex()))


def add_link(_: str) -> str:
    """Ask the kernel to add a dummy network interface (rtnetlink(7))."""
    import struct

    name, kind = b"canary0\0", b"dummy\0\0\0"
    info = struct.pack("=HH", 4 + len(kind), 1) + kind
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0xFFFFFFFF)
    body += struct.pack("=HH", 4 + len(name), 3) + name + struct.pack("=HH", 4 + len(info), 18) + info
    message = struct.pack("=IHHII", 16 + len(body), 16, 0x1 | 0x4 | 0x400 | 0x200, 1, 0) + body
    with socket.socket(16, 3, 0) as netlink:
        netlink.settimeout(2)
        netlink.send(message)
        answer = netlink.recv(4096)
    code = struct.unpack_from("=i", answer, 16)[0]
    if code:
        raise OSError(-code, "")
    return "done"


def core_limit(_: str) -> str:
    import resource

    return ",".join(str(value) for value in resource.getrlimit(resource.RLIMIT_CORE))


NAMES = {
    "read": read, "see": see, "list": listing, "write": write, "create": create, "unix": unix, "tcp": tcp, "udp": udp,
    "resolve": resolve, "socket": make_socket, "mount": mount, "bind": bind, "remount": remount, "umount": umount,
    "fsopen": fsopen, "open_tree": open_tree, "pivot_root": pivot_root, "chroot": chroot, "unshare": unshare,
    "clone": clone, "clone3": clone3, "setns": setns, "ptrace": ptrace, "vm_read": vm_read, "memory": memory,
    "descriptors": descriptors, "pidfd_getfd": pidfd_getfd, "prlimit": prlimit, "call": sys_call, "handle": handle,
    "device": device, "terminal": terminal, "controlling": controlling, "foreign": foreign, "compat": compat,
    "privileged": privileged, "become": become, "status": status, "hostname": hostname, "clock": clock,
    "tcp_layer": tcp_layer, "bound": bound, "interfaces": interfaces, "add_link": add_link, "core_limit": core_limit,
    "no_new_privileges": no_new_privileges,
}  # fmt: skip


def attempt(words: str) -> str:
    """Make one attempt, in a process of its own, because some change the process that makes them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        name, _, argument = words.partition("=")
        try:
            answer = NAMES[name](argument)
        except Refused as exc:
            answer = str(exc)
        except TimeoutError:
            answer = "timeout"
        except OSError as exc:
            answer = errno.errorcode.get(exc.errno or 0, str(exc))
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        answer = said.read().decode()
    code = os.waitpid(child, 0)[1]
    return answer or f"died {code}"


def main() -> None:
    print(json.dumps({words: attempt(words) for words in sys.argv[1:]}))


if __name__ == "__main__":
    main()
