"""The files that the messages of one response may cite."""

import posixpath
from collections.abc import Sequence

from ..core.citations import Citable, is_worth_citing
from ..core.errors import ApiError
from ..ports.sandbox import WORKDIR, SandboxError
from .container_files import ContainerFiles


class CitableFiles:
    """The files of a response's container. What was not there when they were first listed counts as new."""

    def __init__(self, files: ContainerFiles, owner: str, container_id: str | None) -> None:
        self._files = files
        self._owner = owner
        self._container_id = container_id
        self._before: frozenset[str] | None = None

    async def list(self) -> Sequence[Citable]:
        """The files as they are now; none if there is no container, or none any more."""
        if self._container_id is None:
            return []
        try:
            found = await self._files.all(self._owner, self._container_id)
        except (ApiError, SandboxError):
            found = []
        if self._before is None:
            self._before = frozenset(file.id for file in found)
        return [
            Citable(
                self._container_id,
                file.id,
                file.path,
                new=file.source == "assistant"
                and file.id not in self._before
                and is_worth_citing(posixpath.relpath(file.path, WORKDIR)),
            )
            for file in found
        ]
