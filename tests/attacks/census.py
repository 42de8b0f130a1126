"""Everything on this host that belongs to an installation, by looking at the host and not at Deskhand's records."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deskhand.sandboxes.layout import layout

TOOLS = ("bwrap", "crun", "runc", "runsc", "setpriv", "resident")


def traces(root: Path) -> Sequence[str]:
    """Mounts, processes, loop devices, cgroups and files of the installation whose engines keep their things in `root`.

    What all containers share (the support tree) and the templates of disks are no traces of a container.
    """
    place = layout(root, as_root=os.geteuid() == 0)
    marks = (str(place.runtime), str(place.data), f"deskhand-{place.installation}")
    return [
        *_lines("mount", Path("/proc/self/mountinfo").read_text(), marks),
        *_processes(marks),
        *_loops(marks),
        *_cgroups(place.installation),
        *(f"folder {path}" for folder in (place.containers, place.running) for path in _entries(folder)),
    ]


TOLD: Final = re.compile(
    r"SandboxGone|OSError: \[Errno 5\]|(Base)?ExceptionGroup|"
    r"RuntimeError: Caught handled exception, but response already started"
)
"""How the end of a download reads whose container was deleted: its answer has begun and cannot be taken back."""


def crashes(log: str) -> set[str]:
    """What tracebacks of a log end in, but for what `TOLD` explains."""
    blocks = log.replace("\\n", "\n").split("Traceback (most recent call last):")[1:]
    ends = [re.search(r"^[\s|+-]*(?:\w+\.)*([A-Z]\w+(?:: .{0,200})?)$", block, re.MULTILINE) for block in blocks]
    found = {end[1] if end else block[:500] for end, block in zip(ends, blocks, strict=True)}
    return {words for words in found if not TOLD.match(words)}


def _lines(kind: str, text: str, marks: Sequence[str]) -> list[str]:
    return [f"{kind} {line}" for line in text.splitlines() if any(mark in line for mark in marks)]


def _processes(marks: Sequence[str]) -> list[str]:
    """Processes that name the installation, or that live in a control group of it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            groups = (entry / "cgroup").read_text()
        except OSError:
            continue
        ours = any(tool in words for tool in TOOLS) and any(mark in words for mark in marks)
        if ours or marks[-1] in groups:
            found.append(f"process {entry.name} {words[:200]}")
    return found


def _loops(marks: Sequence[str]) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += _lines("loop", backing.read_text(), marks)
        except OSError:
            continue
    return found


def _cgroups(installation: str) -> list[str]:
    name = f"deskhand-{installation}"
    return [
        f"cgroup {path}/{folder}"
        for path, folders, _ in os.walk("/sys/fs/cgroup")
        for folder in folders
        if folder == name
    ]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
