"""What every `Model` behind a network must do when it misbehaves, as checks to run against an implementation.

`NETWORK_CHECKS` take a model behind a fresh `ScriptedUpstream` that it knows by the name "scripted". The model waits
`IDLE_S` at most between two reads, tries three times and pauses briefly in between. A check raises `AssertionError`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final

from ..core.errors import ContextTooLong
from ..ports.model import Model, ModelEnd, TextDelta
from .conformance_model import ask, failure, hear
from .upstream import ScriptedUpstream
from .upstream_faults import Faults, Status

NetworkCheck = Callable[[Model, ScriptedUpstream], Awaitable[None]]

IDLE_S: Final = 0.4


async def check_retries_before_the_first_token(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(statuses=[Status(500), Status(429, retry_after="0")])
    assert (await hear(model, ask("@@ say hi"))).text == "hi"
    assert len(upstream.requests) == 3


async def check_gives_up_after_three_tries(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(statuses=[Status(503)] * 9)
    _, exc = await failure(model, ask("@@ say hi"))
    assert exc.code == "server_error"
    assert "503" in exc.message
    assert "scripted failure" in exc.message
    assert len(upstream.requests) == 3


async def check_no_retry_after_the_first_token(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(die_after=7)
    said, exc = await failure(model, ask("@@ say one two three four five six seven eight nine ten"))
    assert any(isinstance(chunk, TextDelta) for chunk in said)
    assert not exc.retryable
    assert len(upstream.requests) == 1


async def check_a_connection_lost_early_is_retried(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(die_after=1, die_times=1)
    assert (await hear(model, ask("@@ say hi"))).text == "hi"
    assert len(upstream.requests) == 2


async def check_refusals_are_not_retried(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(statuses=[Status(400, message="messages[0] is odd")])
    _, exc = await failure(model, ask("@@ say hi"))
    assert (exc.code, exc.retryable) == ("invalid_prompt", False)
    assert "messages[0] is odd" in exc.message
    assert len(upstream.requests) == 1


async def check_too_long_is_told_apart(model: Model, upstream: ScriptedUpstream) -> None:
    said = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
    upstream.faults = Faults(statuses=[Status(400, message=said, error_code="context_length_exceeded")])
    _, exc = await failure(model, ask("@@ say hi"))
    assert isinstance(exc, ContextTooLong)
    assert len(upstream.requests) == 1


async def check_quota_is_not_retried(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(statuses=[Status(429, message="You exceeded your quota", error_code="insufficient_quota")])
    _, exc = await failure(model, ask("@@ say hi"))
    assert (exc.code, len(upstream.requests)) == ("rate_limit_exceeded", 1)


async def check_a_long_retry_after_is_handed_on(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(statuses=[Status(429, retry_after="3600")])
    _, exc = await failure(model, ask("@@ say hi"))
    assert (exc.code, exc.retry_after, len(upstream.requests)) == ("rate_limit_exceeded", 3600.0, 1)


async def check_html_is_named(model: Model, upstream: ScriptedUpstream) -> None:
    page = b"<html><head><style>p {}</style></head><body>Sign in to the hotel's network</body></html>"
    upstream.faults = Faults(raw=page, raw_type="text/html")
    _, exc = await failure(model, ask("@@ say hi"))
    assert "HTML" in exc.message
    assert "hotel's network" in exc.message


async def check_garbage_is_named(model: Model, upstream: ScriptedUpstream) -> None:
    for raw in (b"data: {not json\n\n", b"\xff\xfe\x00\x01" * 50, b"", b"data: [DONE", b'{"cut": ', b"data: 7\n\n"):
        upstream.faults = Faults(raw=raw)
        said, exc = await failure(model, ask("@@ say hi"))
        assert not said
        assert "'scripted'" in exc.message


async def check_silence_ends(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(silent_after=5)
    async with asyncio.timeout(IDLE_S * 5):
        _, exc = await failure(model, ask("@@ say one two three four five six"))
    assert "said nothing" in exc.message
    assert not exc.retryable
    assert len(upstream.requests) == 1


async def check_slow_is_not_silent(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(delay_s=IDLE_S / 4)
    assert (await hear(model, ask("@@ say one two three four"))).text == "one two three four"


async def check_closing_closes_the_connection(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(silent_after=6)
    async with aclosing(model.stream(ask("@@ say one two three four five six"))) as chunks:
        async for _ in chunks:
            break
    async with asyncio.timeout(2):
        await upstream.disconnected.wait()


async def check_cancelling_closes_the_connection(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(silent_after=6)
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S / 2):
            await hear(model, ask("@@ say one two three four five six"))
    async with asyncio.timeout(2):
        await upstream.disconnected.wait()


async def check_connections_are_used_again(model: Model, upstream: ScriptedUpstream) -> None:
    for _ in range(4):
        await hear(model, ask("@@ say hi"))
    assert len(upstream.connections) == 1


async def check_line_ends_and_no_done(model: Model, upstream: ScriptedUpstream) -> None:
    for faults in (Faults(line_end="\r\n"), Faults(done=False), Faults(cuts=range(1, 4000, 7))):
        upstream.faults = faults
        heard = await hear(model, ask("@@ think hm\n@@ shell ls\n@@& call note naïve 日本"))
        assert heard.reasoning == "hm"
        assert [name for name, _ in heard.calls] == ["shell", "note"]
        assert heard.calls[1][1] == "naïve 日本"


async def check_a_whole_answer_is_read(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(whole=True)
    heard = await hear(model, ask("@@ think hm\n@@ note hi\n@@ shell ls\n@@& call note two"))
    assert (heard.reasoning, heard.text) == ("hm", "hi")
    assert [name for name, _ in heard.calls] == ["shell", "note"]
    assert heard.calls[1][1] == "two"
    assert heard.end is not None
    assert heard.end.usage is not None


async def check_usage_may_be_missing(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(usage_on="never")
    assert (await hear(model, ask("@@ say hi"))).end == ModelEnd("stop")


async def check_malformed_arguments_are_handed_on(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(malformed_arguments=True)
    heard = await hear(model, ask("@@ shell ls"))
    assert heard.calls == [("shell", '{"commands": ["ls"]')]


async def check_refused_extras_are_left_out(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(rejects=["prompt_cache_key", "parallel_tool_calls"])
    for _ in range(2):
        assert (await hear(model, ask("@@ say hi", prompt_cache_key="k"))).text == "hi"
    assert len(upstream.requests) == 4, "what was refused once must be remembered"


async def check_unknown_demands_are_refused(model: Model, upstream: ScriptedUpstream) -> None:
    upstream.faults = Faults(rejects=["temperature"])
    _, exc = await failure(model, ask("@@ say hi", temperature=0.5))
    assert exc.code == "invalid_prompt"
    assert "temperature" in exc.message


NETWORK_CHECKS: Final[Sequence[NetworkCheck]] = (
    check_retries_before_the_first_token,
    check_gives_up_after_three_tries,
    check_no_retry_after_the_first_token,
    check_a_connection_lost_early_is_retried,
    check_refusals_are_not_retried,
    check_too_long_is_told_apart,
    check_quota_is_not_retried,
    check_a_long_retry_after_is_handed_on,
    check_html_is_named,
    check_garbage_is_named,
    check_silence_ends,
    check_slow_is_not_silent,
    check_closing_closes_the_connection,
    check_cancelling_closes_the_connection,
    check_connections_are_used_again,
    check_line_ends_and_no_done,
    check_a_whole_answer_is_read,
    check_usage_may_be_missing,
    check_malformed_arguments_are_handed_on,
    check_refused_extras_are_left_out,
    check_unknown_demands_are_refused,
)
