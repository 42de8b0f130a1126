"""A streamed and a non-streamed run of the same script give equal responses, ids and times aside."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import Server
from .oracle import normalised, stream

WORD = st.text(alphabet="abc é漢😀-", min_size=1, max_size=8).map(lambda w: f"w{w}w")
LINE = st.one_of(
    WORD.map(lambda w: f"@@ think {w}\n@@ say {w}"),
    WORD.map(lambda w: f"@@ say {w}"),
    WORD.map(lambda w: f"@@ refuse {w}"),
    WORD.map(lambda w: f"@@ shell printf '%s' '{w}'; exit 3"),
    WORD.map(lambda w: f"@@ shell echo '{w}' >&2"),
    st.just('@@ call shell {"commands": []}'),
    st.just("@@ incomplete max_output_tokens"),
    st.just("@@ fail server_error boom"),
    st.just('@@ call f {"a": 1}\n@@& call f {"a": 2}'),
)
TOOLS: list[Any] = [
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, min_size=1, max_size=3), st.booleans())
def test_streamed_and_not_streamed_are_equal(server: Server, lines: list[str], store: bool) -> None:
    body = {"model": "m", "input": "\n".join(lines), "tools": TOOLS, "store": store}
    with server.http() as http:
        events = stream(http, body)
        whole = http.post("/v1/responses", json=body).json()
        assert normalised(events[-1]["response"]) == normalised(whole)
        if store:
            kept = http.get(f"/v1/responses/{whole['id']}").json()
            assert kept == whole
