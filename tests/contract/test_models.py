"""The shipped model dialects against their conformance suite, over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from deskhand.core.errors import ApiError
from deskhand.models.chat import ChatModel
from deskhand.models.demo import DemoModel
from deskhand.models.http import Endpoint, Retries
from deskhand.models.registry import Models
from deskhand.models.responses import ResponsesModel
from deskhand.ports.model import Model
from deskhand.settings import Settings, Upstream
from deskhand.testing import conformance_model as suite
from deskhand.testing import conformance_model_network as network
from deskhand.testing.scripted import ScriptedModel, calls, says
from deskhand.testing.upstream import Faults, ScriptedUpstream, Status, serve_upstream

pytestmark = pytest.mark.anyio

DIALECTS = {"chat": ChatModel, "responses": ResponsesModel}
KEY = "sk-never-shown"
QUICK = Retries(first_wait_s=0.01, longest_wait_s=0.05)


def _name(check: Callable[..., Awaitable[None]]) -> str:
    return check.__name__.removeprefix("check_")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with serve_upstream() as served:
        yield served


@asynccontextmanager
async def endpoint(url: str, idle_s: float = network.IDLE_S) -> AsyncIterator[Endpoint]:
    made = Endpoint(Upstream(url, name="scripted", key=KEY, idle_timeout_s=idle_s), retries=QUICK)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_scripts_over_http(dialect: str, upstream: ScriptedUpstream) -> None:
    async with endpoint(upstream.url) as wire:
        for check in suite.SCRIPT_CHECKS:
            await check(DIALECTS[dialect](wire))


@pytest.mark.parametrize("check", suite.SCRIPT_CHECKS, ids=_name)
async def test_scripts_on_the_demo_model(check: suite.ScriptCheck) -> None:
    await check(DemoModel())


@pytest.mark.parametrize("check", network.NETWORK_CHECKS, ids=_name)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_network(dialect: str, check: network.NetworkCheck, upstream: ScriptedUpstream) -> None:
    async with endpoint(upstream.url) as wire:
        await check(DIALECTS[dialect](wire), upstream)
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in upstream.requests)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_server_that_is_down_is_named_without_its_secrets(dialect: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with endpoint(f"http://user:{KEY}@127.0.0.1:{port}/v1") as wire:
            _, exc = await suite.failure(DIALECTS[dialect](wire), suite.ask("hi"))
    assert exc.message == f"cannot reach the model server 'scripted' at http://127.0.0.1:{port}/v1: connection refused"


async def test_errors_never_show_the_key(upstream: ScriptedUpstream) -> None:
    said = f"no such key {KEY}, see https://user:pw@example.com/" + "x" * 5000
    async with endpoint(upstream.url) as wire:
        for status in (401, 403, 404, 422, 500):
            upstream.faults = Faults(statuses=[Status(status, message=said)] * 99)
            _, exc = await suite.failure(ChatModel(wire), suite.ask("hi"))
            assert KEY not in exc.message
            assert "user:pw" not in exc.message
            assert len(exc.message) < 800


async def test_the_first_upstream_that_matches_serves() -> None:
    async with serve_upstream() as one, serve_upstream() as two:
        settings = Settings(
            upstreams=(
                Upstream(one.url, name="one", models=("alpha", "gpt-5*")),
                Upstream(two.url, name="two", api="responses", models=("beta",)),
            ),
            model_aliases={"fast": "alpha", "*": "beta"},
        )
        async with Models(settings) as models:
            assert [(await models.resolve(name)).upstream_name for name in ("fast", "alpha", "beta", "else")] == [
                "alpha",
                "alpha",
                "beta",
                "beta",
            ]
            first, second = await models.resolve("alpha"), await models.resolve("beta")
            assert isinstance(first.model, ChatModel)
            assert isinstance(second.model, ResponsesModel)
            assert await models.names() == ["fast", "alpha", "gpt-5.6", "beta"]


async def test_an_unknown_model_is_refused_with_what_is_served() -> None:
    async with Models(Settings()) as models:
        assert isinstance((await models.resolve("demo")).model, DemoModel)
        with pytest.raises(ApiError, match=r"The model 'gpt-9' does not exist.*Served: demo\.") as caught:
            await models.resolve("gpt-9")
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    async with Models(Settings(model_aliases={"*": "demo"})) as models:
        assert (await models.resolve("gpt-9")).upstream_name == "demo"


async def test_listings_are_kept_for_a_minute_and_a_server_that_is_down_lists_nothing() -> None:
    now = 0.0
    settings = Settings(model_aliases={"a": "b"})
    async with serve_upstream() as served:
        models = Models(replace(settings, upstream_url=served.url), retries=QUICK, clock=lambda: now)
        assert "scripted" in await models.names()
    async with models:
        now = 59.0
        assert "scripted" in await models.names()
        now = 60.0
        assert await models.names() == ["a"]


async def test_many_calls_at_once_share_the_upstream(upstream: ScriptedUpstream) -> None:
    async with endpoint(upstream.url, idle_s=20) as wire, asyncio.TaskGroup() as group:
        model: Model = ChatModel(wire)
        tasks = [group.create_task(suite.hear(model, suite.ask(f"@@ say {n}"))) for n in range(40)]
        assert [(await task).text for task in tasks] == [str(n) for n in range(40)]


async def test_a_scripted_model_says_what_it_is_told_and_nothing_else() -> None:
    with ScriptedModel([calls("shell", '{"commands": []}'), says("a b")]) as model:
        assert (await suite.hear(model, suite.ask("x"))).calls == [("shell", '{"commands": []}')]
        assert (await suite.hear(model, suite.ask("y"))).text == "a b"
        with pytest.raises(AssertionError, match="unexpected model call, number 3"):
            await suite.hear(model, suite.ask("z"))
    with pytest.raises(AssertionError, match="1 scripted turns"), ScriptedModel([says("x")]):
        pass


async def test_a_server_that_refuses_usage_is_asked_without(upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(rejects=["stream_options"])
    async with endpoint(upstream.url) as wire:
        heard = await suite.hear(ChatModel(wire), suite.ask("@@ say hi"))
    assert heard.end is not None
    assert heard.end.usage is None
    assert [("stream_options" in seen.body) for seen in upstream.requests] == [True, False]


async def test_the_token_limit_is_renamed_for_servers_that_ask_for_it(upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(rejects=["max_tokens"])
    async with endpoint(upstream.url) as wire:
        model = ChatModel(wire)
        for _ in range(2):
            await suite.hear(model, suite.ask("@@ say hi", max_output_tokens=9))
    bodies: list[Any] = [seen.body for seen in upstream.requests]
    assert [(b.get("max_tokens"), b.get("max_completion_tokens")) for b in bodies] == [(9, None), (None, 9), (None, 9)]
