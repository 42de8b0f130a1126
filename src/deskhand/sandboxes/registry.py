"""Every isolation engine. To add one: write its file, add its line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ..ports.sandbox import SandboxEngine
from .bubblewrap import BubblewrapEngine
from .none import NoEngine

ENGINES: Mapping[str, Callable[[Path], SandboxEngine]] = {
    "bubblewrap": BubblewrapEngine,
    "none": lambda _: NoEngine("isolation is switched off (engine = none)", "unset DESKHAND_ENGINE"),
}
"""By the name of the `engine` setting; each is given the directory that it may keep things in."""
