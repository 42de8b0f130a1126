"""The embedding model of a directory, if settings name one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..ports.chat import Embedder
from ..settings import Settings, needed_for

if TYPE_CHECKING:
    from ..models.model_directory import SentenceModel


@asynccontextmanager
async def local_embedders(settings: Settings) -> AsyncIterator[Mapping[str, Embedder]]:
    """The embedders of this process by their names. Raises `BadModelDirectory`, `MissingPackage`."""
    name, path = settings.embedding_name(), settings.embedding_model_path
    if name is None or path is None:
        yield {}
        return
    with needed_for("embedding_model_path", "embeddings"):
        from ..models.local_embeddings import local_embedder
    async with local_embedder(await asyncio.to_thread(load_local, path)) as embedder:
        yield {name: embedder}


def load_local(path: Path) -> "SentenceModel":
    """The model of a directory. Raises `BadModelDirectory`, and `MissingPackage` without the packages for it."""
    with needed_for("embedding_model_path", "embeddings"):
        from ..models.model_directory import load_model
    return load_model(path)
