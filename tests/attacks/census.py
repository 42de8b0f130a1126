"""Everything on this host that belongs to an installation, by looking at the host and not at Deskhand's records."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

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


def crashes(log: str) -> set[str]:
    """What tracebacks of a log end in. A download whose container is deleted may: its answer cannot be taken back."""
    blocks = log.split("Traceback (most recent call last):")[1:]
    ends = [re.search(r"^\s*(?:\w+\.)*([A-Z]\w+)(?::|$)", block, re.MULTILINE) for block in blocks]
    return {end[1] if end else "?" for end in ends}


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
