"""Vectors of texts for vector stores, from the model that the operator has chosen."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..core.errors import ApiError, NotServed
from ..ports.chat import EmbeddingRequest
from ..ports.upstreams import Upstreams
from ..ports.vector_stores import VectorStoreRecord

NO_MODEL: Final = "no embedding model is set (DESKHAND_EMBEDDING_MODEL)"

NONE_YET: Final = "no embedding model was set when the store was made; its vectors are made in the background"
STILL_MADE: Final = "vectors of files that were indexed without an embedding model are still being made"


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Makes vectors. `model` is the name of the embedding model, or None if there is none."""

    upstreams: Upstreams
    model: str | None

    def unusable(self, made_with: str) -> str:
        """Why texts cannot be compared with vectors of the model `made_with` ("" for none); "" if they can."""
        if not made_with:
            return NONE_YET if self.model else NO_MODEL
        if self.model is None:
            return NO_MODEL
        if self.model != made_with:
            return f"the store's vectors are of the model '{made_with}', and '{self.model}' is set now"
        return ""

    def lacking(self, store: VectorStoreRecord) -> str:
        """Why a store cannot be searched by vectors; "" if it can."""
        return self.unusable(store.embedding_model) or (STILL_MADE if store.bare else "")

    async def of(self, texts: Sequence[str]) -> Sequence["array[float]"]:
        """Vectors of `texts`, all of one length. Raises `UpstreamError`."""
        assert self.model is not None, "asked only where there is a model"
        try:
            resolved = await self.upstreams.resolve(self.model)
        except ApiError as exc:
            raise NotServed(exc.message) from exc
        if resolved.embedder is None:
            raise NotServed(f"No upstream serves embeddings for the model '{self.model}'.")
        # Servers refuse an empty text, and vectors of blank ones say nothing.
        asked = [text if text.strip() else "-" for text in texts]
        return (await resolved.embedder.embed(EmbeddingRequest(resolved.upstream_name, asked))).vectors
