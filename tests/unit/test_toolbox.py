"""Names by which the model knows the tools of a request."""

from typing import Any

import pytest

from deskhand.core.errors import ApiError
from deskhand.ports.model import NamedTool, PromptCall, PromptMessage
from deskhand.tools.commands import CommandLimits
from deskhand.tools.registry import Toolbox, offer
from deskhand.wire.tools import Tool, decode_tool


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


def space(name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "", "tools": list(members)}


def toolbox(*specs: dict[str, Any], added: tuple[dict[str, Any], ...] = ()) -> Toolbox:
    read: list[Tool] = [decode_tool(spec) for spec in specs]
    more = [decode_tool(spec) for spec in added]
    return offer(read, CommandLimits(), in_order=False, added=more)


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        ([space("n", function("f"))], ["f"]),
        ([space("n", function("f")), space("m", function("f"))], ["n__f", "m__f"]),
        ([function("f"), space("n", function("f"))], ["f", "n__f"]),
        ([function("n__f"), function("f"), space("n", function("f"))], ["n__f", "f", "n__f_"]),
        ([{"type": "shell"}, space("n", {"type": "custom", "name": "shell"})], ["shell", "n__shell"]),
        ([space("n", {"type": "shell"}, {"type": "function", "name": "a b"}, function("ok"))], ["ok"]),
    ],
)
def test_names_are_kept_unless_they_collide(specs: list[dict[str, Any]], names: list[str]) -> None:
    assert list(toolbox(*specs).tools) == names


@pytest.mark.parametrize(
    "specs",
    [
        [function("f"), function("f")],
        [function("shell"), {"type": "shell"}],
        [space("n", function("f")), space("n", function("f"))],
    ],
)
def test_one_name_for_two_tools_is_refused(specs: list[dict[str, Any]]) -> None:
    with pytest.raises(ApiError) as raised:
        toolbox(*specs)
    assert raised.value.param == "tools[1].name"


def test_a_tool_that_is_added_again_replaces_the_first() -> None:
    added = ({"type": "custom", "name": "f"}, function("g"), function("g"))
    found = toolbox(function("f"), added=added)
    assert [type(tool.declaration).__name__ for tool in found.tools.values()] == [
        "FreeTextDeclaration",
        "FunctionDeclaration",
    ]


def test_earlier_calls_and_choices_follow_the_names() -> None:
    found = toolbox(space("n", function("f")), space("m", function("f"), function("g")))
    assert found.addressed(PromptCall("c", "f", "{}", namespace="m")) == PromptCall("c", "m__f", "{}")
    assert found.addressed(PromptCall("c", "x", "{}", namespace="gone")) == PromptCall("c", "x", "{}")
    assert found.addressed(message := PromptMessage("user", ())) is message
    assert found.chosen(NamedTool("f")) == NamedTool("n__f")
    assert found.chosen(NamedTool("g")) == NamedTool("g")
    assert found.chosen("required") == "required"


def test_only_some_may_be_allowed() -> None:
    found = toolbox(space("n", function("f")), space("m", function("f")), {"type": "web_search"}, {"type": "shell"})
    assert found.only(None) is found
    allowed = found.only({"f", "web_search"})
    assert (list(allowed.tools), list(allowed.foreign)) == (["n__f", "m__f"], [{"type": "web_search"}])
