"""Tools as a response echoes them: never with a secret, also where nobody has resolved their container."""

from typing import Any

import pytest

from deskhand.engine.tools_in import normalised, read_tools, storable
from deskhand.wire.codec import plain
from deskhand.wire.items import OpaqueItem

POLICY: dict[str, Any] = {
    "type": "allowlist",
    "allowed_domains": ["a.test"],
    "domain_secrets": [{"domain": "a.test", "name": "KEY", "value": "s3cret"}],
}


@pytest.mark.parametrize(
    ("tool", "place"),
    [
        ({"type": "shell", "environment": {"type": "container_auto", "network_policy": POLICY}}, "environment"),
        ({"type": "apply_patch", "environment": {"type": "container_auto", "network_policy": POLICY}}, "environment"),
        ({"type": "code_interpreter", "container": {"type": "auto", "network_policy": POLICY}}, "container"),
    ],
)
def test_no_secret_of_a_domain_is_echoed(tool: dict[str, Any], place: str) -> None:
    (read,) = read_tools([tool])
    assert "s3cret" in str(plain(read))
    echoed = plain(normalised(read))
    assert "s3cret" not in str(echoed)
    assert echoed[place]["network_policy"]["allowed_domains"] == ["a.test"]


def test_an_argument_that_is_called_as_a_secret_field_is_kept() -> None:
    schema = {"type": "object", "properties": {"headers": {"type": "object"}}, "required": ["headers"]}
    function = {"type": "function", "name": "get", "parameters": schema}
    mcp = {"type": "mcp", "server_label": "s", "headers": {"x": "s3cret"}}
    item = storable(OpaqueItem({"type": "additional_tools", "tools": [function, mcp]}))
    assert isinstance(item, OpaqueItem)
    assert item.fields["tools"] == [function, {"type": "mcp", "server_label": "s"}]
