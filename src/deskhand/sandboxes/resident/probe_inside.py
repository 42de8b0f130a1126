"""Try from inside a container what must not work there; print {check: [ok, words]}.

Arguments: a file that exists on the host, a port that listens on the host's loopback, the server's host pid, and the
names that the environment may have. Standard library, CPython 3.9 or newer.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys

CLONE_NEWUSER = 0x10000000
PTRACE_ATTACH = 16
PR_GET_NO_NEW_PRIVS = 39
KEYCTL = {"x86_64": 250, "aarch64": 219}
SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
           "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/user")  # fmt: skip
SECRETS = ("/etc/shadow", "/root", "/etc/ssh", "/etc/pip.conf", "/sys/kernel", "/home/agent/../../root/.ssh")
SWITCHES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/drop_caches",
)
OUTSIDE = (("8.8.8.8", 53), ("169.254.169.254", 80))

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    canary, port, server, names = sys.argv[1:5]
    status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    checks = {
        "host files": host_files(canary),
        "host processes": host_processes(server),
        "host sockets": none_of("host sockets", [path for path in SOCKETS if os.path.exists(path)]),
        "nested namespaces": nested(),
        "network": network(int(port)),
        "capabilities": capabilities(status),
        "no new privileges": no_new_privileges(),
        "system call filter": system_call_filter(status),
        "hidden agent": hidden_agent(),
        "agent out of sight": out_of_sight(),
        "environment": none_of("variables of the server", sorted(set(os.environ) - set(names.split(",")) - BENIGN)),
        "kernel settings": none_of("writable kernel settings", [path for path in SWITCHES if opens(path, os.O_WRONLY)]),
    }
    print(json.dumps(checks))


BENIGN = {"LC_CTYPE", "PWD", "SHLVL", "_"}


def none_of(what: str, found: list[str]) -> tuple[bool, str]:
    return (not found, "no " + what if not found else what + ": " + ", ".join(found)[:200])


def opens(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def host_files(canary: str) -> tuple[bool, str]:
    seen = [path for path in (canary, *SECRETS) if opens(path, os.O_RDONLY)]
    return none_of("files of the host beyond /usr and parts of /etc", seen)


def host_processes(server: str) -> tuple[bool, str]:
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    with open("/proc/1/comm") as file:
        first = file.read().strip()
    strange = [pid for pid in pids if int(pid) > 1000 or (pid == server and int(server) > 100)]
    if first.startswith("python") and not strange and len(pids) < 8:
        return True, "only the container's own processes are visible"
    return False, f"{len(pids)} processes are visible, the first is {first}"


def nested() -> tuple[bool, str]:
    if libc.unshare(CLONE_NEWUSER) == 0:
        return False, "a user namespace could be made"
    return True, "a user namespace is refused: " + os.strerror(ctypes.get_errno())


def network(port: int) -> tuple[bool, str]:
    names = [name for _, name in socket.if_nameindex()]
    reached = []
    for address in (("127.0.0.1", port), *OUTSIDE):
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(address) == 0:
                reached.append(f"{address[0]}:{address[1]}")
    if names == ["lo"] and not reached:
        return True, "there is a loopback of its own and nothing else"
    return False, f"interfaces {names}; reached {reached}"


def capabilities(status: dict[str, str]) -> tuple[bool, str]:
    # Ambient ones, which gVisor does not list, are among the permitted ones (capabilities(7)).
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd") if int(status.get(name, "1"), 16)]
    return none_of("capabilities", held)


def no_new_privileges() -> tuple[bool, str]:
    found = libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    return found == 1, "no_new_privs is " + str(found)


def system_call_filter(status: dict[str, str]) -> tuple[bool, str]:
    refused = []
    number = KEYCTL.get(os.uname().machine)
    if number is not None and libc.syscall(number, 0, -3, 0) == -1 and ctypes.get_errno() == 1:
        refused.append("keyctl")
    try:
        socket.socket(40, socket.SOCK_STREAM).close()  # AF_VSOCK, which no network namespace covers
    except OSError:
        refused.append("vsock")
    ok = status.get("Seccomp") == "2" and refused == ["keyctl", "vsock"]
    return ok, f"seccomp mode {status.get('Seccomp', '?')}, refused: {refused}"


def hidden_agent() -> tuple[bool, str]:
    ways = [name for name in ("mem", "cwd/.", "root/.", "fd/3") if opens("/proc/1/" + name, os.O_RDONLY)]
    if libc.ptrace(PTRACE_ATTACH, 1, 0, 0) == 0:
        ways.append("ptrace")
    return none_of("ways into the agent", ways)


def out_of_sight() -> tuple[bool, str]:
    seen = [name for name in ("environ", "maps") if opens("/proc/1/" + name, os.O_RDONLY)]
    try:
        seen += ["fd"] if os.listdir("/proc/1/fd") else []
    except OSError:
        pass
    return none_of("notes of the kernel about the agent can be read", seen)


if __name__ == "__main__":
    main()
