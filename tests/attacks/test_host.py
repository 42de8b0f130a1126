"""H: out of the container, to the host's files, processes, devices and kernel."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from deskhand.ports.sandbox import EngineReport, Exited
from deskhand.sandboxes.bubblewrap import Bubblewrap
from deskhand.sandboxes.engine import ResidentEngine
from deskhand.sandboxes.layout import Layout, layout
from deskhand.sandboxes.roots import Root
from deskhand.testing.conformance_sandbox_bench import Bench, Desk

from .attempts import inside, namespaced, outside, run
from .canaries import Canaries
from .cases import case
from .product import Product

pytestmark = pytest.mark.anyio

ABSENT: Final = {"ENOENT", "ENOTDIR", "EACCES", "EPERM"}
REFUSED: Final = ABSENT | {"EROFS", "ENOSYS", "EINVAL", "ENXIO", "ENODEV", "EOPNOTSUPP"}


def refused(found: Mapping[str, str], allowed: set[str] = REFUSED) -> None:
    """Assert that none of the attempts got anywhere, and that each was answered."""
    assert found
    assert {words: answer for words, answer in found.items() if answer not in allowed} == {}


def done(found: Mapping[str, str]) -> None:
    """Assert that all of the attempts worked: the control."""
    assert found
    assert {words: answer for words, answer in found.items() if answer != "done"} == {}


@case("H01", "read files of the host, the server's configuration and database, other containers' disks", "not there")
def test_no_file_of_the_host_can_be_read(product: Product, canaries: Canaries) -> None:
    other = product.shell("echo canary-of-a-neighbour > /mnt/data/f; sync")
    place = layout(product.root, as_root=os.geteuid() == 0).place(other.container_id)
    targets = [canaries.file, "/etc/shadow", "/root", product.server.data_dir / "deskhand.sqlite", product.server.log,
               place.disk / "data" / "f", place.record, place.image, place.socket]  # fmt: skip
    roots = ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../..", "/mnt/data/../..", "/proc/self/cwd/../..")
    script = "\n".join(f"cat '{root}{target}' 2>&1 | head -c 300" for root in roots for target in targets)
    said = product.shell(script, max_output_length=100_000)
    assert "canary" not in said.stdout.replace(str(canaries.folder), "")
    assert said.stdout.count("No such file") + said.stdout.count("Permission denied") == len(roots) * len(targets)
    done(outside(f"read={canaries.file}"))
    assert (place.disk / "data" / "f").read_text() == "canary-of-a-neighbour\n"


@case("H02", "connect to sockets of the host: a path, an abstract one, those of Docker, containerd, systemd, D-Bus",
      "absent, or nobody answers")  # fmt: skip
async def test_no_socket_of_the_host_can_be_reached(desk: Desk, canaries: Canaries) -> None:
    daemons = ["/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private",
               "/run/podman/podman.sock", "/run/dbus/system_bus_socket", "/run/systemd/journal/socket",
               "/run/crio/crio.sock", "/run/user"]  # fmt: skip
    own = [f"unix={canaries.unix}", f"unix={canaries.abstract}", f"tcp={canaries.tcp.address}"]
    found = await inside(desk, *own, *(f"unix={path}" for path in daemons))
    refused(found, ABSENT | {"ECONNREFUSED", "ENETUNREACH"})
    assert (await inside(desk, "list=/run"))["list=/run"] == "empty"
    done(outside(*own))


MOUNTED: Final = {
    "/", "/usr", "/etc", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp", "/run", "/home/agent",
    "/opt/venv", "/opt/deskhand", "/opt/agent", "/sys", "/opt/egress", "/opt/kit", "/mnt/data", "/mnt/skills", "/bin", "/sbin", "/lib",
    "/lib32", "/lib64", "/libx32",
}  # fmt: skip
BELOW: Final = ("/proc/", "/dev/", "/etc/")
WRITABLE: Final = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp", "/run", "/home/agent", "/opt/venv", "/mnt/data"}


@case("H03", "look for mounts of host folders beyond the declared ones, and write where nothing may be kept",
      "exactly the declared mounts; all but the container's own disk read-only and nosuid")  # fmt: skip
async def test_only_what_is_declared_is_mounted(desk: Desk, root: Path) -> None:
    text = (await desk.run("cat /proc/self/mountinfo")).text
    fields = [line.partition(" - ")[0].split() for line in text.splitlines()]
    points = {words[4]: words[5].split(",") for words in fields}
    assert {point for point in points if point not in MOUNTED and not point.startswith(BELOW)} == set()
    assert "/mnt/data" in points
    assert not [
        point
        for point, options in points.items()
        if "nosuid" not in options and not point.startswith(("/proc/", "/dev/"))
    ]
    assert str(root) not in text
    assert os.getcwd() not in text
    places = ["/", "/etc", "/usr", "/usr/bin", "/opt", "/opt/deskhand", "/opt/deskhand/resident", "/opt/egress",
              "/mnt", "/mnt/skills", "/home", "/proc", "/proc/sys/kernel", "/var", "/sys"]  # fmt: skip
    refused(await inside(desk, *(f"create={place}/canary" for place in places)))
    done(await inside(desk, *(f"create={place}/canary" for place in WRITABLE - {"/dev/pts", "/dev/mqueue"})))


SWITCHES: Final = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
    "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs", "/proc/1/oom_score_adj", "/proc/1/mem",
    "/proc/1/clear_refs", "/proc/irq/default_smp_affinity", "/proc/mtrr",
)  # fmt: skip
SECRETS: Final = (
    "/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/kallsyms", "/proc/1/environ", "/proc/1/mem", "/proc/1/maps",
    "/proc/1/stack", "/proc/1/syscall", "/proc/vmallocinfo", "/proc/kpagecount", "/proc/timer_list", "/sys/kernel/debug",
    "/sys/firmware", "/sys/class/dmi/id/product_uuid",
)  # fmt: skip


@case("H04", "open the kernel's switches for writing, and what tells its or the agent's memory for reading",
      "hidden, empty or read-only")  # fmt: skip
async def test_the_switches_of_the_kernel_are_out_of_reach(desk: Desk) -> None:
    refused(await inside(desk, *(f"write={path}" for path in SWITCHES)))
    refused(await inside(desk, *(f"read={path}" for path in SECRETS)), REFUSED | {"empty", "EIO"})
    refused(await inside(desk, "list=/proc/1/root", "list=/proc/1/cwd", "list=/proc/1/fd", "list=/proc/1/map_files"))
    for path in ("/proc/sys/kernel/ns_last_pid", "/proc/1/attr/current"):  # anybody may open these
        assert (await desk.run(f"echo 1 > {path}")).end != Exited(0)
    done(await inside(desk, "read=/proc/self/environ", "write=/proc/self/oom_score_adj", "list=/proc/self/root"))
    if os.geteuid() == 0:  # opened, not written: on the host it would be allowed
        os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


@case("H05", "use what the server left open, and overwrite the program that the server runs inside",
      "descriptors 0 to 2 and no more; the agent's files cannot be written")  # fmt: skip
async def test_no_descriptor_of_the_server_is_inherited(bench: Bench, canaries: Canaries) -> None:
    leak = os.open(canaries.file, os.O_RDONLY)
    os.set_inheritable(leak, True)
    listing = "import os; print(*sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    try:
        async with bench.desk() as desk:
            assert (await desk.python(listing)).text == "0 1 2 3"  # 3 reads the folder
            control = subprocess.run(
                ["/usr/bin/python3", "-c", listing], pass_fds=[leak], capture_output=True, text=True
            )
            assert str(leak) in control.stdout.split()
            agent = ["/usr/bin/python3", "/opt/deskhand/resident/agent.py", "/proc/1/exe", "/proc/self/exe"]
            refused(await inside(desk, *(f"write={path}" for path in agent)), REFUSED | {"ETXTBSY"})
            assert (await desk.run("cp /bin/true mine && : >> mine && echo written")).text == "written"
    finally:
        os.close(leak)


MOUNTING: Final = ("mount", "bind", "fsopen", "open_tree=/usr", "pivot_root", "chroot", "umount=/proc", "remount=/usr")


@case("H06", "mount, bind, remount, unmount, clone a mount, pivot_root, chroot", "EPERM")
async def test_the_mounts_cannot_be_changed(desk: Desk) -> None:
    refused(await inside(desk, *MOUNTING), {"EPERM", "ENOSYS"})
    allowed = ("mount", "bind", "fsopen", "chroot", "pivot_root")
    done(namespaced(*allowed))


KINDS: Final = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "uts": 0x4000000,
                "ipc": 0x8000000, "cgroup": 0x2000000, "time": 0x80}  # fmt: skip


@case("H07", "make further namespaces by unshare, clone and clone3; enter one by setns", "EPERM or ENOSYS")
async def test_no_namespace_can_be_made_or_entered(desk: Desk) -> None:
    flags = [f"unshare={flag}" for flag in KINDS.values()]
    flags += [f"clone={flag}" for kind, flag in KINDS.items() if kind != "time"]
    entries = [f"setns=/proc/self/ns/{name}" for name in ("user", "mnt", "net", "pid", "uts", "ipc")]
    refused(await inside(desk, *flags, "clone3", *entries), {"EPERM", "ENOSYS", "EACCES", "ENOENT"})
    done(outside(f"unshare={KINDS['user']}", f"clone={KINDS['user']}", "clone3"))
    done(namespaced("setns=/proc/self/ns/net", "setns=/proc/self/ns/uts"))


PRYING: Final = ("ptrace", "vm_read", "memory", "descriptors", "pidfd_getfd", "prlimit")


@case("H08", "ptrace, read the memory and take the descriptors of the agent, lower its limits", "EPERM or ESRCH")
async def test_the_agent_cannot_be_taken_over(desk: Desk) -> None:
    refused(await inside(desk, *(f"{how}=1" for how in PRYING)), REFUSED | {"ESRCH"})
    done(await inside(desk, *(f"{how}=child" for how in PRYING)))
    await desk.sandbox.ping()


CALLS: Final = (
    "call=keyctl,0,-3,0", "call=add_key,buf,buf,buf,1,-3", "call=request_key,buf,buf,0,-3", "call=userfaultfd,1",
    "call=io_uring_setup,4,buf", "call=perf_event_open,buf,0,-1,-1,0", "call=bpf,0,buf,64", "call=kexec_load,0,0,0,0",
    "call=init_module,buf,1,buf", "call=finit_module,0,buf,0", "call=swapon,buf,0", "call=acct,0",
    "call=reboot,0xfee1dead,672274793,0,0", "call=syslog,3,buf,64", "call=quotactl,0,0,0,0", "call=fanotify_init,0,0",
    "call=kcmp,1,1,0,0,0", "call=iopl,3", "call=mount_setattr,-100,buf,0,buf,32", "handle=/etc/passwd", "foreign",
)  # fmt: skip
FAMILIES: Final = ("socket=40,1,0", "socket=17,3,0", "socket=38,5,0", "socket=16,3,9", "socket=16,3,16", "socket=2,5,132",
                   "socket=2,1,262", "socket=21,5,0", "socket=31,3,1", "socket=44,3,0")  # fmt: skip
"""AF_VSOCK, AF_PACKET, AF_ALG, netlink's audit and generic families, SCTP, MPTCP, RDS, Bluetooth, XDP."""


@case("H09", "bpf, perf, io_uring, userfaultfd, key rings, kexec, modules, file handles, rare socket families, x32",
      "EPERM, ENOSYS, or no such protocol")  # fmt: skip
async def test_rare_calls_of_the_kernel_are_out_of_reach(desk: Desk) -> None:
    refused(await inside(desk, *CALLS), {"EPERM", "ENOSYS"})
    refused(await inside(desk, *FAMILIES), {"EPERM", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENOSYS"})
    done(await inside(desk, "socket=2,1,0", "socket=1,1,0", "socket=16,3,0"))
    control = outside(*CALLS, *FAMILIES)
    assert control["call=keyctl,0,-3,0"] == "done"
    assert [words for words in FAMILIES if control[words] == "done"], "no family that is refused inside exists outside"
    answers = {words: control[words] for words in CALLS if words not in ("foreign", "call=iopl,3")}
    assert [words for words, answer in answers.items() if answer not in ("EPERM", "ENOSYS")], "the host refuses all"


@case("H09", "the i386 table of calls, through int 0x80", "the process is refused or killed; nothing is done")
async def test_the_compatible_table_of_calls_is_no_way_round(desk: Desk) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("int 0x80 exists on x86-64 only")
    refused(await inside(desk, "compat"), {"ENOSYS", "EPERM", "signal 31", "signal 11", "EFAULT"})
    if outside("compat")["compat"] != "done":
        pytest.skip("this kernel has no i386 calls")


@case(
    "H09", "the flags of clone, ioctl and socket hidden in the high half of a 64-bit argument", "refused all the same"
)
async def test_high_bits_do_not_hide_an_argument(desk: Desk) -> None:
    high = 1 << 32
    words = [f"terminal={high | 0x5412}", f"terminal={high | 0x541C}", f"clone={high | KINDS['user']}",
             f"unshare={high | KINDS['user']}", f"call=prlimit64,{high | 1},7,buf,0"]  # fmt: skip
    refused(await inside(desk, *words), {"EPERM", "EINVAL", "ENOSYS"})


@case(
    "H10", "gain by a set-uid program, by a file of one's own with the bit, by setuid(2)", "no_new_privs; nobody gains"
)
async def test_no_program_gives_privileges(desk: Desk) -> None:
    su = "/usr/bin/su"
    if not os.stat(su).st_mode & 0o4000:
        pytest.skip("su is not set-uid here")
    assert await inside(desk, f"privileged={su}") == {f"privileged={su}": "not gained"}
    done(outside(f"privileged={su}"))
    assert (await inside(desk, "no_new_privileges"))["no_new_privileges"] == "1"
    refused(await inside(desk, "become=0", "become=1001"), {"EPERM", "EINVAL"})
    assert (await desk.run("cp /usr/bin/id i; chmod 6755 i; ./i -u")).text == "1000"
    done(namespaced("become=0"))


@case("H11", "hold a capability", "all five sets are empty")
async def test_there_is_no_capability(desk: Desk) -> None:
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    found = await inside(desk, *(f"status={name}" for name in sets))
    assert {int(value, 16) for value in found.values() if value != "absent"} == {0}
    assert int(namespaced("status=CapEff")["status=CapEff"], 16) != 0


DEVICES: Final = ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vda",
                  "/dev/loop0", "/dev/loop-control", "/dev/net/tun", "/dev/vhost-net", "/dev/uinput", "/dev/dri/card0",
                  "/dev/nvidia0", "/dev/cpu/0/msr", "/dev/vsock", "/dev/mapper/control")  # fmt: skip


@case("H12", "make a device node; open memory, disks, kvm, fuse, tun, GPUs", "EPERM or not there")
async def test_there_are_no_devices(desk: Desk) -> None:
    refused(await inside(desk, "device=c,1,3", "device=b,7,0", "device=c,1,1"), {"EPERM"})
    refused(await inside(desk, *(f"read={path}" for path in DEVICES), *(f"write={path}" for path in DEVICES)))
    done(await inside(desk, "read=/dev/zero", "write=/dev/null"))
    nodes = (await desk.run("find / -xdev \\( -type b -o -type c \\) 2> /dev/null; ls /dev")).text.split()
    known = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
             "tty", "urandom", "zero"}  # fmt: skip
    assert {node.removeprefix("/dev/") for node in nodes} - known == set()
    present = [path for path in DEVICES if Path(path).exists()]
    assert present, "the host has none of these devices, so that nothing was shown"


@case("H13", "raw sockets, ping, packet sockets; add an interface", "EPERM; the loopback is all there is")
async def test_the_network_cannot_be_changed(desk: Desk) -> None:
    refused(await inside(desk, "socket=2,3,1", "socket=2,3,255", "socket=10,3,58", "bound", "add_link"),
            {"EPERM", "EACCES", "EAFNOSUPPORT", "EOPNOTSUPP", "EPROTONOSUPPORT", "ENOTSUP"})  # fmt: skip
    assert (await inside(desk, "interfaces"))["interfaces"] == "lo"
    done(namespaced("socket=2,3,1", "bound"))


@case("H14", "push input into a terminal (TIOCSTI, TIOCLINUX); open the server's terminal", "EPERM; there is none")
async def test_no_input_can_be_pushed_into_a_terminal(desk: Desk) -> None:
    refused(await inside(desk, "terminal=0x5412", "terminal=0x541c"), {"EPERM", "EIO", "ENOTTY"})
    refused(await inside(desk, "controlling"), REFUSED | {"EIO"})
    assert (await desk.run("tty; ps -o tty= -p $$")).text.split()[-1] == "?"


@case(
    "H15", "kill -9 everything, stop and kill the agent", "the container answers on, or is told as gone; others live on"
)
async def test_signals_stay_inside(bench: Bench) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        async with bench.desk() as one, bench.desk() as two:
            quiet = asyncio.ensure_future(two.run("sleep 2; echo unharmed"))
            await one.run("kill -STOP 1; kill -KILL 1; kill -SEGV 1; kill -KILL -1")
            assert (await one.run("sleep 60 & kill -KILL $!; wait $!; echo $?")).text.endswith("137")
            assert (await quiet).text == "unharmed"
            await one.sandbox.ping()
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


FUZZER: Final = """
import ctypes, os, random, sys
seed, rounds = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None)
words = ctypes.create_string_buffer(1 << 16)
here = ctypes.addressof(words)
done = 0
for n in range(rounds):
    child = os.fork()
    if child == 0:
        chance = random.Random(seed * 100003 + n)
        os.setsid()
        for _ in range(200):
            kinds = (0, 1, -1, here + chance.randrange(1 << 15), chance.randrange(1 << 63), chance.randrange(64), 1 << chance.randrange(63))
            number = chance.randrange(471)
            if number not in (60, 231, 57, 58, 34, 35, 230, 7, 23, 61, 247, 270, 271, 232, 281, 128, 130, 202, 43, 288):
                libc.syscall(number, *(ctypes.c_long(chance.choice(kinds)) for _ in range(6)))
        os._exit(0)
    for _ in range(50):
        if os.waitpid(child, os.WNOHANG)[0]:
            done += 1
            break
        import time; time.sleep(0.002)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        done += 1
print(done)
"""


@case("H16", "thousands of random system calls with random arguments", "the host lives; nothing is left of it")
async def test_random_calls_hurt_nobody(bench: Bench, canaries: Canaries) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}")
    async with bench.desk() as desk, bench.desk() as neighbour:
        await desk.call("python3", "-c", FUZZER, str(seed), "120", timeout_s=60)
        assert (await desk.run("echo lives")).text == "lives"
        assert (await neighbour.run("echo lives")).text == "lives"
    assert canaries.file.read_text() == canaries.secret
    assert not canaries.tcp.heard


@case("H17", "set the clock and the host name", "EPERM")
async def test_the_clock_and_the_name_cannot_be_set(desk: Desk) -> None:
    refused(await inside(desk, "clock", "call=settimeofday,buf,0", "hostname"), {"EPERM", "ENOSYS"})
    assert namespaced("hostname")["hostname"] == "done"


@case("H18", "meet another container by System V shared memory, message queues, abstract sockets", "each has its own")
async def test_nothing_is_shared_through_the_kernel(bench: Bench) -> None:
    make = """
import ctypes, socket, time
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(0x4321, 4096, 0o1666), libc.msgget(0x4321, 0o1666), libc.semget(0x4321, 1, 0o1666))
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0meet"); listener.listen(); print("ready", flush=True)
time.sleep(3)
"""
    find = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(0x4321, 4096, 0), libc.msgget(0x4321, 0), libc.semget(0x4321, 1, 0), socket.socket(socket.AF_UNIX).connect_ex("\\0meet"))
"""
    async with bench.desk() as one, bench.desk() as two:
        maker = asyncio.ensure_future(one.python(make))
        await asyncio.sleep(1)
        same, other = (await one.python(find)).text.split(), (await two.python(find)).text.split()
        assert (await maker).text.endswith("ready")
    assert "-1" not in same
    assert same[3] == "0"
    assert other == ["-1", "-1", "-1", "111"]
    assert "-1" in run(find).split()


@case("H19", "find a neighbour's files, processes, shared memory, ports", "nothing is visible")
async def test_two_containers_see_nothing_of_each_other(bench: Bench) -> None:
    plant = "for d in /mnt/data /tmp /dev/shm ~ /run /opt/venv; do echo canary > $d/canary; done; " \
            "setsid -f python3 -m http.server 8077 > /dev/null 2>&1; sleep 1"  # fmt: skip
    look = "find / -xdev -name canary 2> /dev/null; find /mnt/data /tmp /dev/shm ~ /run /opt/venv -name canary; " \
           "ps ax -o args= | grep -c 'http.serve[r]'; (exec 3<> /dev/tcp/127.0.0.1/8077) 2> /dev/null && echo open"  # fmt: skip
    async with bench.desk() as one, bench.desk() as two:
        await one.run(plant)
        mine, theirs = await one.call("bash", "-c", look), await two.call("bash", "-c", look)
    assert mine.text.count("canary") >= 6
    assert "open" in mine.text
    assert theirs.text == "0"


@case("H20", "run on an engine with published holes", "the version is above the fixed one, or the report says so")
async def test_the_engine_is_not_older_than_its_fixes(engine_report: EngineReport) -> None:
    assert all(finding.mend for finding in engine_report.weaknesses)
    assert engine_report.usable


@case("H21", "leave a core dump on the host", "no core file, no limit above zero")
async def test_a_crash_leaves_no_core(desk: Desk) -> None:
    assert (await inside(desk, "core_limit"))["core_limit"].split(",")[1] in ("0", "1")
    result = await desk.run("ulimit -c unlimited; sh -c 'kill -SEGV $$'; echo $?; ls -A /mnt/data")
    assert result.text == "139"


@case("H22", "learn the host's ids and kernel log", "not there; names are the container's own")
async def test_the_host_cannot_be_recognised(desk: Desk) -> None:
    refused(await inside(desk, "read=/etc/machine-id", "read=/sys/class/dmi/id/product_uuid", "call=syslog,3,buf,64",
                         "read=/dev/kmsg", "read=/var/lib/dbus/machine-id"))  # fmt: skip
    assert (await desk.run("hostname; cat /etc/hostname")).text.split() != [os.uname().nodename] * 2


@case("H24", "read the server's environment", "only the variables that are declared")
def test_the_environment_of_the_server_is_not_inherited(product: Product) -> None:
    own = (Path("/proc") / str(product.server.process.pid) / "environ").read_bytes().decode().split("\0")
    names = {line.partition("=")[0] for line in own}
    assert any(name.startswith("DESKHAND_") for name in names), "the control has variables of its own"
    said = product.shell("env | cut -d= -f1; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n' | cut -d= -f1")
    shown = set(said.stdout.split())
    declared = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "VIRTUAL_ENV", "PWD", "SHLVL", "_",
                "OLDPWD"}  # fmt: skip
    own_prefixes = ("PIP_", "MPL", "MATPLOTLIB", "PYTHON")
    assert {name for name in shown if name not in declared and not name.startswith(own_prefixes)} == set()
    assert not {name for name in shown if name.startswith(("DESKHAND", "OPENAI", "LD_"))}


REQUIRED: Final = {"host files", "host processes", "host sockets", "nested namespaces", "network", "capabilities",
                   "no new privileges", "system call filter", "hidden agent", "environment",
                   "kernel settings"}  # fmt: skip


@case("H25", "start with an engine that does not isolate", "its self-test says so, and it is not used")
async def test_the_self_test_tries_what_matters(engine_report: EngineReport) -> None:
    tried = {finding.name for finding in engine_report.findings if finding.required and finding.ok}
    assert tried >= REQUIRED
    assert "process limit" in {finding.name for finding in engine_report.findings}


WEAKENED: Final = {
    "network": 'for word; do [ "$word" = --unshare-net ] || given+=("$word"); done',
    "host files": 'for word; do [ "$word" = --chdir ] && given+=(--ro-bind /tmp /tmp); given+=("$word"); done',
    "system call filter": 'while [ $# -gt 0 ]; do if [ "$1" = --seccomp ]; then shift; else given+=("$1"); fi; shift; done',
    "nested namespaces": 'while [ $# -gt 0 ]; do case "$1" in --seccomp) shift;; --disable-userns) ;; '
    '*) given+=("$1");; esac; shift; done',
}


@case(
    "H25",
    "weaken the engine: no network namespace, the host's /tmp, no system call filter",
    "the self-test names it; it is not used",
)
@pytest.mark.parametrize("weakness", WEAKENED)
async def test_an_engine_that_does_not_isolate_is_found_out(tmp_path: Path, canaries: Canaries, weakness: str) -> None:
    wrapper = canaries.folder / "bwrap"
    wrapper.write_text(f'#!/bin/bash\ngiven=()\n{WEAKENED[weakness]}\nexec /usr/bin/bwrap "${{given[@]}}"\n')
    wrapper.chmod(0o755)

    class Weak(Bubblewrap):
        def prepare(self, layout: Layout, root: Root) -> None:
            super().prepare(layout, root)
            assert self._host is not None
            self._host = replace(self._host, bwrap=str(wrapper))

    engine = ResidentEngine(tmp_path, [Weak()])
    report = await engine.probe()
    await engine.sweep(())
    assert not report.usable
    assert weakness in {finding.name for finding in report.findings if finding.required and not finding.ok}


@case("H26", "change the settings of the kernel that belong to the container's own namespaces (pid_max, msgmax, sem)",
      "read-only, as for any container")  # fmt: skip
async def test_no_setting_of_the_kernel_is_writable(desk: Desk) -> None:
    writable = (await desk.run("find /proc/sys -type f -writable -not -name ns_last_pid 2> /dev/null")).text
    assert writable == ""
