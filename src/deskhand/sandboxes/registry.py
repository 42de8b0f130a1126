"""Every isolation engine. To add one: write its launcher, add its line."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..ports.sandbox import SandboxEngine
from .bubblewrap import Bubblewrap
from .engine import ResidentEngine
from .images import image_root
from .launcher import Launcher
from .none import NoEngine
from .oci import CRUN, RUNC, RUNSC, Oci
from .roots import from_host

LAUNCHERS: Mapping[str, Callable[[], Launcher]] = {
    "bubblewrap": Bubblewrap,
    "crun": lambda: Oci(CRUN),
    "runc": lambda: Oci(RUNC),
    "gvisor": lambda: Oci(RUNSC),
}
"""By the name of the `engine` setting."""


def build(names: Sequence[str], root: Path, image: str = "", images: Path | None = None) -> SandboxEngine:
    """The engine that keeps its things under `root` and starts containers as the first of `names` does, or as another
    of them on demand.

    Containers have the host's programs, or those of `image`, which is unpacked in the folder `images`.
    """
    if names[0] == "none":
        return NoEngine("isolation is switched off (engine = none)", "unset DESKHAND_ENGINE")
    choose_root = image_root(image, images or root / "images") if image else from_host
    return ResidentEngine(root, [LAUNCHERS[name]() for name in dict.fromkeys(names)], choose_root=choose_root)


def _alone(name: str, root: Path) -> SandboxEngine:
    return build([name], root)


ENGINES: Mapping[str, Callable[[Path], SandboxEngine]] = {name: partial(_alone, name) for name in (*LAUNCHERS, "none")}
"""Each engine alone, with the host's programs."""
