"""A streamed and a non-streamed run of the same script give equal responses, ids and times aside."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .heard import Heard
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
    WORD.map(lambda w: f"@@ think {w}\n@@ call free {w}"),
    WORD.map(lambda w: f"@@ create {w} <<E\n{w}\nE"),
    st.just("@@ call made_up {}"),
    st.just("@@ call apply_patch {}"),
)
TOOLS: list[Any] = [
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "free"},
    {"type": "apply_patch"},
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, min_size=1, max_size=3), st.booleans())
def test_streamed_and_not_streamed_are_equal(heard: Heard, lines: list[str], store: bool) -> None:
    include = ["reasoning.encrypted_content"]
    body = {"model": "m", "input": "\n".join(lines), "tools": TOOLS, "store": store, "include": include}
    events = stream(heard.http, body)
    whole = heard.http.post("/v1/responses", json=body).json()
    assert normalised(events[-1]["response"]) == normalised(whole)
    if store:
        kept = heard.http.get(f"/v1/responses/{whole['id']}").json()
        assert kept == whole
