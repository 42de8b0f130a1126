"""Vector stores, put together: what is kept, indexed and searched."""

from dataclasses import dataclass

from ..engine.files import Files
from ..engine.indexing import Indexing
from ..engine.late_vectors import LateVectors
from ..engine.searches import Searches
from ..engine.text_vectors import TextVectors
from ..engine.vector_stores import VectorStores
from ..store.indexing import SqlIndexingJobs
from ..store.search import search_index
from ..store.vector_stores import SqlVectorStores
from .backing import Backing


@dataclass(frozen=True, slots=True)
class Library:
    """What files say, and what finds it."""

    stores: VectorStores
    searches: Searches
    indexing: Indexing
    late_vectors: LateVectors
    vectors: TextVectors


def library(base: Backing, files: Files) -> Library:
    """Put it together."""
    index, kept = search_index(base.database)
    records, vectors = SqlVectorStores(base.database), TextVectors(base.upstreams, base.settings.embedding_name())
    searches = Searches(records, index, vectors)
    jobs = SqlIndexingJobs(base.database, kept)
    indexing = Indexing(jobs, files, base.documents, vectors)
    stores = VectorStores(records, files, searches, vectors, indexing.wake)
    return Library(stores, searches, indexing, LateVectors(jobs, vectors), vectors)
