"""The built-in offline model: a small, honest, rule-based stand-in that shows the whole loop without a key."""

import json
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, Final, assert_never

from ..core.errors import UpstreamError
from ..ports.model import (
    CallDelta,
    CallEnd,
    FreeTextDeclaration,
    FunctionDeclaration,
    ModelChunk,
    ModelEnd,
    ModelRequest,
    NamedTool,
    PromptCall,
    PromptMessage,
    PromptOutput,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from ..testing.schema import smallest
from ..testing.script import Action, Call, CutOff, Entry, Fail, Refuse, Say, Think, play, python_call, shell_call
from ..wire.parts import text_of
from ..wire.response import Usage
from . import demo_programs as programs

LABEL: Final = "(demo model: a small rule-based stand-in, not an LLM)"
LONGEST_QUOTE: Final = 2000

_TRY: Final = (
    "Run `uname -a`",
    "Write a python script that prints the first 20 primes",
    "Make a csv of the squares of 1 to 20, then tell me what files are there",
)
_BACKQUOTED = re.compile(r"(?:\brun|\bexecute|\bshell|\bbash|\bcommand)[^`\n]*`([^`]+)`", re.IGNORECASE)
_PLAIN_RUN = re.compile(
    r"^\s*(?:please\s+|can you\s+|could you\s+)*(?:run|execute)\s*:?\s+([^`\n]+?)\s*$", re.IGNORECASE | re.M
)
_FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_SCRIPT = re.compile(r"\b(?:python|script|program)\b", re.IGNORECASE)
_MAKING = re.compile(r"\b(?:write|make|create|generate|save|produce|give|build)\b", re.IGNORECASE)
_TABLE = re.compile(r"\bcsv\b|\bspreadsheet\b", re.IGNORECASE)
_FILES = re.compile(r"\b(?:what|which|list|show)\b[^.?!\n]{0,30}\bfiles?\b|\bls\b", re.IGNORECASE)
_NAMED_FILE = re.compile(
    r"\b(?:file|document)\s+(?:called\s+|named\s+)?[`\"']?([\w.-]+\.\w+)[`\"']?\s+"
    r"(?:with(?: the text)?|containing|that says|saying)\s*:?\s+[`\"']?(.+?)[`\"']?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_WHO = re.compile(r"\b(?:who|what) are you\b|\bwhat can you do\b|\byour name\b|\bhelp\b", re.IGNORECASE)
_VERBS: Final = frozenset({"get", "fetch", "find", "look", "lookup", "up", "the", "current", "query", "call", "do"})
"""What a function's name says besides the thing that it is about."""
_HELLO = re.compile(r"^\s*(?:hello|hi|hey|good (?:morning|day|evening))\b", re.IGNORECASE)


class DemoModel:
    """A `Model` that needs nothing. It plays `@@` scripts (`deskhand.testing.script`), or follows a few plain rules.

    It keeps no state: what comes next follows from the request alone. `mint_id` makes call ids.
    """

    def __init__(self, *, mint_id: Callable[[], str] = lambda: f"call_{uuid.uuid4().hex}") -> None:
        self._mint_id = mint_id

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """What the stand-in says; see `Model.stream`."""
        actions = decide(request)
        said = 0
        for action in actions:
            for chunk in _chunks(action, self._mint_id):
                said += 1
                yield chunk
        yield ModelEnd(_ending(actions), _usage(request, said))


def decide(request: ModelRequest) -> list[Action]:
    """What the stand-in does next."""
    entries = _entries(request)
    schema = request.text_format.get("schema")
    tools = [] if request.tool_choice == "none" else list(request.tools)
    played = play(entries, tools, schema)
    if played is not None:
        return played
    asked = max((i for i, entry in enumerate(entries) if entry.kind == "user"), default=-1)
    text = entries[asked].text if asked >= 0 else ""
    since = entries[asked + 1 :]
    outputs = [entry.text for entry in since if entry.kind == "output"]
    steps = _steps(text, tools)
    done = sum(entry.kind == "call" for entry in since)
    if not done and (forced := _forced(request, steps)):
        return [forced]
    if done < len(steps):
        return [Say(_announcement(steps[done], done), final=False), steps[done]]
    if schema is not None:
        return [Say(json.dumps(smallest(schema)))]
    answer = _report(outputs) if outputs else _reply(text, request)
    if request.text_format.get("type") == "json_object":
        return [Say(json.dumps({"answer": f"{answer} {LABEL}"}))]
    return [Say(f"{answer}\n\n{LABEL}")]


def _steps(text: str, tools: Sequence[FunctionDeclaration | FreeTextDeclaration]) -> list[Call]:
    """The calls that a plain request needs, in order; none if it is not understood or no tool can run commands."""
    calls: list[Call | None] = []
    if fenced := _FENCED.search(text):
        language, code = fenced[1].lower(), fenced[2]
        calls.append(python_call(code, tools) if language in {"python", "py"} else shell_call(code, tools))
    elif command := _BACKQUOTED.search(text) or _PLAIN_RUN.search(text):
        calls.append(shell_call(command[1].strip(), tools))
    elif _TABLE.search(text) and _MAKING.search(text):
        calls.append(shell_call(programs.run_and_show(programs.table(text)), tools))
    elif named := _NAMED_FILE.search(text):
        calls.append(shell_call(programs.save_text(named[1], named[2]), tools))
    elif _SCRIPT.search(text) and _MAKING.search(text):
        calls.append(shell_call(programs.save_and_run(programs.script(text)), tools))
    if _FILES.search(text) and not (calls and _BACKQUOTED.search(text)) and not _PLAIN_RUN.search(text):
        calls.append(shell_call("ls -la", tools))
    understood = [call for call in calls if call is not None]
    return understood or [call for call in [_named(text, tools)] if call is not None]


def _named(text: str, tools: Sequence[FunctionDeclaration | FreeTextDeclaration]) -> Call | None:
    """The call of a client's function that the text is about: all that its name names is in it (`get_weather`)."""
    said = set(re.findall(r"[a-z]+", text.lower()))
    for tool in tools:
        if isinstance(tool, FreeTextDeclaration) or shell_call("", [tool]) or python_call("", [tool]):
            continue
        about = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", tool.name).lower())) - _VERBS
        if about and about <= said:
            return Call(tool.name, json.dumps(smallest(tool.parameters) or {}))
    return None


def _forced(request: ModelRequest, steps: Sequence[Call]) -> Call | None:
    """The call that the request insists on, if it does."""
    match request.tool_choice:
        case NamedTool(name=name):
            wanted = [tool for tool in request.tools if tool.name == name]
        case "required":
            wanted = list(request.tools)
        case _:
            return None
    if step := next((step for step in steps if any(tool.name == step.name for tool in wanted)), None):
        return step
    match wanted:
        case [FunctionDeclaration(name="shell") as shell, *_]:
            return shell_call("pwd", [shell])
        case [FunctionDeclaration(name=name, parameters=parameters), *_]:
            return Call(name, json.dumps(smallest(parameters) or {}))
        case [FreeTextDeclaration(name=name), *_]:
            return Call(name, "text", free_text=True)
        case _:
            return None


def _announcement(call: Call, done: int) -> str:
    return f"{'First' if not done else 'Next'} I call `{call.name}`."


def _report(outputs: Sequence[str]) -> str:
    """What the tools really said, and which files they made by their own account."""
    quoted = "\n\n".join(f"```\n{_shortened(output.strip())}\n```" for output in outputs)
    lines = [line for output in outputs for line in output.split("\n")]
    made = [line.removeprefix(programs.MADE) for line in lines if line.startswith(programs.MADE)]
    failed = any(re.search(r"\[(?:exit code [1-9]\d*|timed out)\]", output) for output in outputs)
    files = f"Files made: {', '.join(f'`{path}`' for path in dict.fromkeys(made))}." if made else ""
    lead = "Not everything went well. The tool answered:" if failed else "Done. The tool answered:"
    return f"{lead}\n\n{quoted}\n\n{files}".rstrip()


def _shortened(output: str) -> str:
    return output if len(output) <= LONGEST_QUOTE else f"{output[:LONGEST_QUOTE]}\n… ({len(output)} characters in all)"


def _reply(text: str, request: ModelRequest) -> str:
    names = [tool.name for tool in request.tools] + [str(tool.get("type")) for tool in request.foreign_tools]
    offered = f"You offered me these tools: {', '.join(names)}." if names else "You offered me no tools."
    tries = "\n".join(f"- {prompt}" for prompt in _TRY)
    me = "I am Deskhand's built-in demo model. I follow a few rules and know nothing; I show that the computer is real."
    if _HELLO.search(text) and not _WHO.search(text):
        return f"Hello! {me} {offered} Try:\n{tries}"
    if _WHO.search(text):
        return f"{me} {offered} I understand:\n{tries}"
    if _steps(text, [_ANY_SHELL]):
        return f"{me} For that I need a tool that runs commands, such as `shell`. {offered}"
    return f"{me} I did not understand this request. {offered} Try:\n{tries}"


def _entries(request: ModelRequest) -> list[Entry]:
    found: list[Entry] = []
    for entry in request.prompt:
        match entry:
            case PromptMessage(role="user" | "assistant" as role, parts=parts):
                found.append(Entry(role, text_of(tuple(parts))))
            case PromptMessage(parts=parts):
                found.append(Entry("system", text_of(tuple(parts))))
            case PromptCall():
                found.append(Entry("call", entry.arguments, entry.name))
            case PromptOutput(output=output):
                found.append(Entry("output", output if isinstance(output, str) else text_of(tuple(output))))
            case _:
                pass
    return found


def _chunks(action: Action, mint_id: Callable[[], str]) -> Iterator[ModelChunk]:
    match action:
        case Say(text=text):
            yield from map(TextDelta, _words(text))
        case Think(text=text):
            yield from map(ReasoningDelta, _words(text))
        case Refuse(text=text):
            yield from map(RefusalDelta, _words(text))
        case Call(name=name, arguments=arguments):
            key = mint_id()
            yield CallDelta(key, call_id=key, name=name)
            for word in _words(arguments):
                yield CallDelta(key, word)
            yield CallEnd(key)
        case Fail(code=code, message=message):
            raise UpstreamError(message, code=code)
        case CutOff():
            return
        case _:
            assert_never(action)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+\Z", text)


def _ending(actions: Sequence[Action]) -> Any:
    for action in actions:
        if isinstance(action, CutOff):
            return "content_filter" if action.reason == "content_filter" else "length"
    return "stop"


def _usage(request: ModelRequest, said: int) -> Usage:
    """An estimate: words count as tokens."""
    given = len((request.instructions or "").split()) + sum(len(e.text.split()) for e in _entries(request))
    return Usage(input_tokens=given, output_tokens=said, total_tokens=given + said)


_ANY_SHELL: Final = FunctionDeclaration("shell", "", {"type": "object", "properties": {"commands": {"type": "array"}}})
