"""Run one response to its end: decide, act, append. Nothing else."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, assert_never

import structlog

from ..core.citations import Citable, Source, sources
from ..core.drafts import Closed, Draft, Opened, Revised
from ..core.errors import ContextTooLong, StoreUnavailable, ToolFailure, UpstreamError
from ..core.turn import Budget, CallModel, Finish, RunTools, Turn, call_ids, next_step
from ..ports.mcp import RemoteConnections, RemoteResult
from ..ports.model import Model, ModelEnd, ModelRequest, PromptMessage
from ..ports.runs import ClaimLost, ModelCall
from ..ports.sandbox import SandboxError, SandboxUnavailable
from ..ports.tool import ToolContext
from ..tools.registry import Toolbox
from ..wire.items import CallOutput, Compaction, Item, McpCall, McpListTools, WholeCall
from ..wire.response import IncompleteDetails, Response, ResponseError, Usage
from .assembly import Assembler
from .compaction import Compactor
from .history import prompt, without_oldest
from .ledger import Unsettled
from .recorder import Recorder
from .remote_run import call_approved, list_tools
from .remote_tools import Remote, chosen, of_choice, with_remote
from .text_format import complaint
from .window import latest

log = structlog.get_logger()

STOPPED = "The server was stopped while this response was running."

MAX_SANDBOX_FAILURES = 2
"""Failures of the isolation machinery after which a run ends: the model cannot mend them."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The operator's limits of one run: model calls, wall time in seconds, tokens."""

    turns: int = 100
    seconds: float = 3600.0
    tokens: int = 5_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """Everything one run needs. `request` is a model call without its prompt; `history` comes before the output.

    `briefing` is what the model is told before all that, at each call, and what is never stored; `news` is the same,
    said between the two. `citable` lists the files that a message may cite. `spent` are the model calls that were made
    before the run was taken up again. `compactor` makes the context shorter, if the request wants that. `remote` are
    the servers whose tools the toolbox gets when the run begins.
    """

    response: Response
    history: Sequence[Item]
    toolbox: Toolbox
    model: Model
    request: ModelRequest
    context: ToolContext
    ceilings: Ceilings = field(default_factory=Ceilings)
    briefing: Sequence[PromptMessage] = ()
    citable: Callable[[], Awaitable[Sequence[Citable]]] | None = None
    news: Sequence[PromptMessage] = ()
    spent: Sequence[ModelCall] = ()
    compactor: Compactor | None = None
    remote: Remote | None = None

    def window(self, produced: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """What of the history, and then of what was produced, the model reads."""
        return self.compactor.context(self.history, produced) if self.compactor else (self.history, produced)


Stop = Literal["cancelled", "shutdown", "left"]
"""Why a run is cancelled: its client wants no more of it, the server stops, or another process goes on with it."""


@dataclass(slots=True)
class _Progress:
    """What a run has used up; `summary_tokens` are those of its output that the client does not get."""

    turns: int = 0
    tool_calls: int = 0
    sandbox_failures: int = 0
    usage: Usage = field(default_factory=Usage)
    summary_tokens: int = 0
    turn: Turn | None = None


async def run_response(run: Run, recorder: Recorder, stop: Callable[[], Stop]) -> None:
    """Run to the end and record exactly one ending, whatever happens. Re-raises cancellation after recording it.

    `stop` says why the run is cancelled. One that another process goes on with has no ending here.
    """
    progress = _begun(run, recorder.produced)
    try:
        await recorder.start()
        async with asyncio.timeout(run.ceilings.seconds):
            ending = await _conduct(run, recorder, progress)
        wrong = await _complaint(run, recorder, ending)
    except asyncio.CancelledError:
        match stop():
            case "cancelled":
                await recorder.finish("cancelled", usage=progress.usage)
            case "shutdown":
                await _fail(recorder, progress, "server_error", STOPPED)
            case "left":
                pass
        raise
    except (ClaimLost, Unsettled):
        # Whoever has the claim now, or takes it next, also has the ending.
        raise
    except TimeoutError:
        reason = f"The run reached this server's limit of {run.ceilings.seconds:g} s (max_run_seconds)."
        await _fail(recorder, progress, "server_error", reason)
    except UpstreamError as exc:
        code = "invalid_prompt" if exc.code == "context_length_exceeded" else exc.code
        await _fail(recorder, progress, code, exc.message)
    except SandboxError as exc:
        await _fail(recorder, progress, "server_error", f"The computer of this response failed: {exc}")
    except Exception as exc:
        if run.response.background and all(isinstance(leaf, StoreUnavailable) for leaf in _leaves(exc)):
            # Nobody waits: it goes on once the store is there again.
            raise
        log.exception("run.failed", response_id=run.response.id)
        await _fail(recorder, progress, "server_error", "The server had an error while running this response.")
    else:
        # Out of reach of the handlers above: an ending that cannot be stored must not be told a second time.
        await _end(recorder, progress, ending, wrong)


async def _complaint(run: Run, recorder: Recorder, ending: Finish) -> str:
    """What is wrong with the final text of a run that has completed. To see it may take a while, so on a thread."""
    if ending.status != "completed":
        return ""
    return await asyncio.to_thread(complaint, run.request.text_format, recorder.produced)


def _begun(run: Run, produced: Sequence[Item]) -> _Progress:
    """What a run has used up before it was taken up again; nothing for a new one."""
    # Those of remote servers have no tool before their servers are connected to.
    tool_calls = sum(isinstance(item, McpCall) or run.toolbox.runner(item) is not None for item in produced)
    turn = last_turn(produced, run.spent)
    summaries = used([call for call in run.spent if call.turn.compacted]).output_tokens
    return _Progress(len(run.spent), tool_calls, usage=used(run.spent), summary_tokens=summaries, turn=turn)


def used(calls: Sequence[ModelCall]) -> Usage:
    """What model calls have used together."""
    return sum((call.usage for call in calls if call.usage is not None), Usage())


def last_turn(produced: Sequence[Item], calls: Sequence[ModelCall]) -> Turn | None:
    """How the model's last turn ended; None if there was none, or a later one has begun and was cut off."""
    if not calls or calls[-1].turn.compacted:
        return None
    after = produced[calls[-1].produced :]
    return calls[-1].turn if all(isinstance(item, CallOutput) for item in after) else None


async def _conduct(run: Run, recorder: Recorder, progress: _Progress) -> Finish:
    """The loop, connected to the remote servers of the request for as long as it takes."""
    if run.remote is None or (run.compactor is not None and run.compactor.forced):
        return await _loop(run, recorder, progress)
    async with run.remote.servers.connected() as connections:
        return await _loop(await _equipped(run, run.remote, recorder, connections), recorder, progress)


async def _equipped(run: Run, remote: Remote, recorder: Recorder, connections: RemoteConnections) -> Run:
    """The run with the tools of its remote servers. What the user has approved of them waits to be called."""
    new_id = run.context.new_id
    lists = await list_tools(remote, run.history, recorder, connections, new_id)
    toolbox = with_remote(run.toolbox, remote, lists)
    await call_approved(run.history, toolbox, recorder, new_id)

    async def call(label: str, name: str, arguments: Mapping[str, Any]) -> RemoteResult:
        return await connections.call(remote.spec(label).server, name, arguments)

    request = run.request if remote.choice is None else replace(run.request, tool_choice=chosen(toolbox, remote.choice))
    return replace(run, toolbox=toolbox, context=replace(run.context, remote=call), request=request)


async def _loop(run: Run, recorder: Recorder, progress: _Progress) -> Finish:
    if run.compactor is not None and run.compactor.forced:
        if latest(recorder.produced) is None:
            await _compact(run, recorder, progress, run.compactor)
        return Finish("completed")
    runs = run.toolbox.runner
    while True:
        step = next_step(recorder.produced, progress.turn, _budget(run, progress), lambda item: runs(item) is not None)
        match step:
            case CallModel(hosted_tools):
                progress.turns += 1
                progress.turn = await _ask(run, recorder, progress, hosted_tools)
            case RunTools(calls):
                progress.tool_calls += len(calls)
                await _use_tools(run, recorder, progress, calls)
            case Finish():
                return step
            case _:
                assert_never(step)


def _budget(run: Run, progress: _Progress) -> Budget:
    response, used = run.response, progress.usage
    said = used.output_tokens - progress.summary_tokens
    return Budget(
        turns=run.ceilings.turns - progress.turns,
        tokens=run.ceilings.tokens - used.total_tokens,
        tool_calls=None if response.max_tool_calls is None else response.max_tool_calls - progress.tool_calls,
        output_tokens=None if response.max_output_tokens is None else response.max_output_tokens - said,
    )


async def _ask(run: Run, recorder: Recorder, progress: _Progress, hosted_tools: bool) -> Turn:
    """One model call: everything it says is recorded, also when it is cut off. A long context is compacted before."""
    await _keep_short(run, recorder, progress, hosted_tools)
    budget = _budget(run, progress)
    begun = len(recorder.produced)
    request = _request(run, recorder, budget, hosted_tools)
    taken = call_ids([*run.history, *recorder.produced])
    files: list[Citable | Source] = [*sources(_items(run, recorder))]
    if run.citable is not None:
        files += await run.citable()
    compacted = False
    await recorder.flush()
    while True:
        assembler = Assembler(
            run.toolbox,
            run.context.new_id,
            taken,
            tool_calls_left=budget.tool_calls,
            show_logprobs=request.logprobs,
            seal=request.seal_reasoning,
            files=files,
        )
        try:
            end = await _listen(run.model, request, assembler, recorder)
            break
        except ContextTooLong:
            if assembler.seen:
                raise
            if not compacted and await _shorten(run, recorder, progress, request):
                compacted, request = True, _request(run, recorder, budget, hosted_tools)
                continue
            shorter = without_oldest(request.prompt) if request.truncation == "auto" else None
            if shorter is None:
                raise
            request = replace(request, prompt=shorter)
    closing = assembler.end("completed" if end.reason == "stop" else "incomplete")
    if end.wrong:
        progress.usage, progress.turn = progress.usage + (end.usage or Usage()), Turn(end.reason)
        await recorder.record(closing)
        raise UpstreamError(end.wrong)
    said = [*recorder.produced[begun:], *(draft.item for draft in closing if isinstance(draft, Opened))]
    called = any(isinstance(item, WholeCall) for item in said)
    turn = Turn(end.reason, assembler.ignored, hosted_tools, called)
    await recorder.record_turn(closing, ModelCall(turn, begun + len(said), end.usage))
    progress.usage += end.usage or Usage()
    return turn


async def _keep_short(run: Run, recorder: Recorder, progress: _Progress, hosted_tools: bool) -> None:
    """Compact the context if it has become longer than the request wants it."""
    compactor = run.compactor
    if compactor is None:
        return
    request = _request(run, recorder, _budget(run, progress), hosted_tools)
    if await compactor.due(request, _items(run, recorder)):
        await _compact(run, recorder, progress, compactor)


async def _shorten(run: Run, recorder: Recorder, progress: _Progress, request: ModelRequest) -> bool:
    """Compact a context that the upstream has found too long; False if that is not wanted, or is no use."""
    compactor = run.compactor
    if compactor is None or not await compactor.helps(request, _items(run, recorder)):
        return False
    await _compact(run, recorder, progress, compactor, compactor.tight_room(request))
    return True


async def _compact(
    run: Run, recorder: Recorder, progress: _Progress, compactor: Compactor, tokens: int | None = None
) -> None:
    """Compact the context for a window of so many tokens; the summary is one of the run's model calls."""
    progress.turns += 1
    request = _request(run, recorder, _budget(run, progress), hosted_tools=True)
    room = compactor.room(request) if tokens is None else tokens
    usage = await compactor.compact(request, _items(run, recorder), recorder, room)
    progress.usage += usage
    progress.summary_tokens += usage.output_tokens


def _items(run: Run, recorder: Recorder) -> list[Item]:
    """The items that the model reads."""
    history, produced = run.window(recorder.produced)
    return [*history, *produced]


async def _listen(model: Model, request: ModelRequest, assembler: Assembler, recorder: Recorder) -> ModelEnd:
    """Record what the model says, but for its last drafts, unless it is cut off."""
    end = ModelEnd("stop")
    try:
        async with aclosing(model.stream(request)) as chunks:
            async for chunk in chunks:
                await recorder.record(assembler.feed(chunk))
                if isinstance(chunk, ModelEnd):
                    end = chunk
    except BaseException:
        await recorder.record(assembler.end("incomplete"))
        raise
    return end


def _request(run: Run, recorder: Recorder, budget: Budget, hosted_tools: bool) -> ModelRequest:
    history, produced = run.window(recorder.produced)
    said = [*prompt(history), *run.news, *prompt(produced)]
    entries = [*run.briefing, *(run.toolbox.addressed(entry) for entry in said)]
    tools = run.toolbox.offered([*history, *produced], hosted=hosted_tools)
    request = replace(run.request, prompt=entries, tools=tools, max_output_tokens=budget.output_tokens)
    said_before = any(not isinstance(item, Compaction | McpListTools) for item in recorder.produced)
    if said_before and request.tool_choice not in ("auto", "none"):
        # A forced tool is forced once: else the loop could never end with an answer.
        request = replace(request, tool_choice="auto")
    elif run.remote is not None and run.remote.choice is not None:
        request = replace(request, tools=[tool.declaration for tool in of_choice(run.toolbox, run.remote.choice)])
    return request


async def _use_tools(run: Run, recorder: Recorder, progress: _Progress, calls: Sequence[Item]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_use_tool(run, recorder, call)) for call in calls]
    for task in tasks:
        if (failure := task.result()) is not None:
            progress.sandbox_failures += 1
            if progress.sandbox_failures >= MAX_SANDBOX_FAILURES:
                raise failure
    await recorder.flush()


async def _use_tool(run: Run, recorder: Recorder, call: Item) -> SandboxUnavailable | None:
    """Run one call. Its failure becomes its output; a failure of the machinery is returned as well, to be counted."""
    tool = run.toolbox.runner(call)
    assert tool is not None
    opened: list[Item] = [call] if isinstance(call, WholeCall) else []

    async def say(draft: Draft) -> None:
        await recorder.record([draft])
        match draft:
            case Opened(item):
                opened.append(item)
                await recorder.flush()
            case Revised():
                await recorder.flush()
            case _:
                pass

    failures: list[Exception] = []
    try:
        await tool.run(call, replace(run.context, sandbox=partial(run.context.sandbox, call_id=_call_id(call))), say)
    except* (ToolFailure, SandboxError) as group:
        failures = _leaves(group)
    if not failures:
        return None
    log.warning("tool.failed", response_id=run.response.id, error=str(failures[0]))
    output = tool.refuse(call, opened[0].id if opened else run.context.new_id("sho"), str(failures[0]))
    await recorder.record([Closed(output)] if opened else [Opened(output), Closed(output)])
    return next((exc for exc in failures if isinstance(exc, SandboxUnavailable)), None)


def _call_id(call: Item) -> str:
    """What a call is known by: its output refers to it, or it is its own output."""
    return next(iter(call_ids([call])), "") or call.id or ""


def _leaves(exc: Any) -> list[Exception]:
    """The exceptions of a group, or a single one."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for inner in exc.exceptions for leaf in _leaves(inner)]


async def _end(recorder: Recorder, progress: _Progress, ending: Finish, wrong: str) -> None:
    """Record how the loop ended; `wrong` is what is wrong with the final text, if anything is."""
    if ending.status == "incomplete":
        assert ending.reason is not None
        details = IncompleteDetails(ending.reason)
        await recorder.finish("incomplete", usage=progress.usage, incomplete=details)
    elif wrong:
        await _fail(recorder, progress, "server_error", wrong)
    else:
        await recorder.finish("completed", usage=progress.usage)


async def _fail(recorder: Recorder, progress: _Progress, code: str, message: str) -> None:
    # Null if the model never got to answer (recorded).
    usage = progress.usage if progress.turn else None
    await recorder.finish("failed", usage=usage, error=ResponseError(code, message))
