"""A server per upstream dialect, with an upstream that tells what it heard."""

from collections.abc import Iterator

import pytest

from ..conftest import launched
from .heard import Heard, listening


@pytest.fixture(scope="session", params=["chat", "responses"])
def shared_heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    data = tmp_path_factory.mktemp("heard") / "data"
    with (
        listening() as upstream,
        launched(data, upstream.url, upstream_api=request.param) as server,
        server.http() as http,
    ):
        yield Heard(server, upstream, request.param, http)


@pytest.fixture(scope="module")
def heard(shared_heard: Heard) -> Iterator[Heard]:
    yield shared_heard
    shared_heard.server.end_containers()
