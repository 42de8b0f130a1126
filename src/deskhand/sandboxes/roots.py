"""Where a container's read-only files come from: the host's own /usr, or an image."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

from . import kit
from .layout import Layout
from .rootfs import PYTHON, PYTHON_MEND, python_version

ROOT_FOLDERS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""What lies beside /usr, as links into it or, before usr-merge, as folders (file-hierarchy(7))."""


@dataclass(frozen=True, slots=True)
class HostRoot:
    """The host's /usr, with its Python of this `version`, what of `ROOT_FOLDERS` it has, and the data packages."""

    version: str
    links: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    kit: Path | None
    python: str = PYTHON
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """An unpacked image: its folder on the host, its Python, and the environment that its configuration asks for."""

    path: Path
    version: str
    python: str
    environment: Mapping[str, str]


Root = HostRoot | ImageRoot


def from_host(_: Layout) -> Root:
    """The root of containers that are not made from an image."""
    return host_root()


def host_root() -> HostRoot:
    """Look at this host. Raises `SandboxUnavailable` if it has no Python that containers could use."""
    version = python_version()
    if version is None:
        raise SandboxUnavailable(f"containers need {PYTHON} 3.9 or newer on the host: {PYTHON_MEND}")
    folders = [Path("/", name) for name in ROOT_FOLDERS]
    return HostRoot(
        version,
        links=tuple((path.name, os.readlink(path)) for path in folders if path.is_symlink()),
        folders=tuple(path.name for path in folders if path.is_dir() and not path.is_symlink()),
        kit=kit.find(version),
    )
