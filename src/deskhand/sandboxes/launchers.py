"""The launchers of one engine: which of them starts a container, and what they have found out about this host."""

import threading
from collections.abc import Iterator, Sequence

from deskhand.ports.sandbox import SandboxUnavailable

from .launcher import Launcher
from .layout import Layout
from .roots import Root


class Launchers:
    """Launchers with different names. The first one starts what asks for none of them. Safe to use in threads."""

    def __init__(self, launchers: Sequence[Launcher], layout: Layout) -> None:
        self._launchers = {launcher.name: launcher for launcher in launchers}
        self._default = launchers[0].name
        self._layout = layout
        self._armed: set[str] = set()
        self._arming = threading.Lock()

    def __iter__(self) -> Iterator[Launcher]:
        return iter(self._launchers.values())

    def name(self, engine: str) -> str:
        """What the launcher is called that starts containers of `engine`: "" is the first."""
        return engine or self._default

    def find(self, engine: str) -> Launcher | None:
        """The launcher of this name, "" for the first; None if this server has none such (any more)."""
        return self._launchers.get(self.name(engine))

    def require(self, engine: str) -> Launcher:
        """The same. Raises `SandboxUnavailable` if there is none."""
        launcher = self.find(engine)
        if launcher is None:
            has = ", ".join(self._launchers)
            raise SandboxUnavailable(f"the container needs the engine {engine!r}, and this server has: {has}")
        return launcher

    def armed(self, engine: str, root: Root) -> Launcher:
        """The same, once it has looked at this host. Blocking; raises `SandboxUnavailable`."""
        launcher = self.require(engine)
        with self._arming:
            if launcher.name not in self._armed:
                launcher.prepare(self._layout, root)
                self._armed.add(launcher.name)
        return launcher

    def disarm(self) -> None:
        """Have every launcher look at this host again before its next start."""
        self._armed.clear()
