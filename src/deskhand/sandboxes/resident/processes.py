"""Finding the processes of a command again, and killing them.

The hard limit RLIMIT_RSS (without meaning since Linux 2.4.30, getrlimit(2); gVisor keeps it, too) carries the command's
number. It is inherited by fork, kept by execve and setsid, and an unprivileged process can lower it but never raise it.
Numbers descend, so a process that tampers can only name a command that does not exist yet (and is killed with the next
one that times out) or a younger one (and passes for what that left behind).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import posix as os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MARK_LIMIT = resource.RLIMIT_RSS
FREEZE_AFTER = 10
FILE_TYPE, FOLDER = 0o170000, 0o040000


def find_program(name: bytes, path: bytes) -> bytes:
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = (folder or b".") + b"/" + name
        if os.access(candidate, os.X_OK) and not is_folder(candidate):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "command not found")


def is_folder(path: bytes) -> bool:
    try:
        return os.stat(path).st_mode & FILE_TYPE == FOLDER
    except OSError:
        return False


def signal_all(number: int) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass


def kill_all(mark: int, youngest: int, root: int, passes: int) -> bool:
    """Make one of several `passes` at what carries `mark`. True if any was alive, and another pass is needed."""
    frozen = passes > FREEZE_AFTER
    if frozen:  # something forks faster than it is killed: stop the whole container for one pass
        signal_all(_signal.SIGSTOP)
    alive = kill_marked(mark, youngest, root)
    if frozen:
        signal_all(_signal.SIGCONT)
    return alive


def kill_marked(mark: int, youngest: int, root: int) -> bool:
    """Kill what carries `mark`, what descends from that, and what has tampered with its mark. True if any was alive."""
    doomed = set()
    parents: dict[int, int] = {}
    for pid, parent, hard in processes():
        parents[pid] = parent
        if hard == mark or hard < youngest or pid == root:
            doomed.add(pid)
    for pid in parents:
        line = []
        while pid in parents and pid not in doomed and pid not in line:
            line.append(pid)
            pid = parents[pid]
        if pid in doomed:
            doomed.update(line)
    for pid in doomed:
        try:
            os.kill(pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
    return bool(doomed)


def processes() -> Iterator[tuple[int, int, int]]:
    """Every process of the container but this one and the dead: pid, parent, mark."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open("/proc/" + name + "/stat", "rb", 0) as file:
                fields = file.read(1024).rpartition(b")")[2].split()
            hard = resource.prlimit(int(name), MARK_LIMIT)[1]
        except OSError:
            continue
        # A process whose first thread has ended is shown as a zombie while its other threads run on (num_threads > 1).
        if fields[0] not in (b"Z", b"X") or int(fields[17]) > 1:
            yield int(name), int(fields[1]), hard if hard >= 0 else 1 << 62
