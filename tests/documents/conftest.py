"""Tests of documents run on asyncio, which Deskhand is written for."""

import pytest

from deskhand.documents.apart import ApartDocuments


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def documents() -> ApartDocuments:
    return ApartDocuments()
