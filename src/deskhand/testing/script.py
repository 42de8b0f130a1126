"""`@@` scripts: what a stand-in model shall do, written into the user message that asks it.

The script travels inside the conversation, so whoever plays it keeps no state and works behind any client and any
translation: which line is next follows from the calls made since that message.

    @@ shell CMD              whichever shell-like tool is offered
    @@ python CODE            a code interpreter, or python through the shell
    @@ create PATH <<EOF      a new file, through apply_patch; also `update` (a V4A body) and `delete`
    @@ call NAME {json}       any tool by its name (free-text tools: the text as it is)
    @@ search | web | mcp     a tool whose name says so: `search QUERY`, `web QUERY`, `mcp NAME {json}`
    @@ say TEXT, @@ json {}   the final text of the turn
    @@ draft TEXT             a final text that will be asked for again; the next line is what comes then
    @@ computer [ACTIONS]     actions for a computer that the client runs
    @@ note TEXT              text before a call of the same turn
    @@ think TEXT             reasoning before what follows in the same turn
    @@ refuse TEXT            a refusal
    @@ fail CODE MESSAGE      the upstream fails
    @@ incomplete REASON      the answer is cut off (max_output_tokens, content_filter)
    @@& ...                   in the same turn as the line before

Any argument can be a heredoc: `<<EOF`, the lines, `EOF`. When the script is used up, the answer is
`RESULT: <the outputs shown>`, so a test can see that real output reached the model. Pure.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..ports.model import Declaration, FreeTextDeclaration, FunctionDeclaration
from .schema import smallest


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of a conversation, as much of it as scripts need. `name` is a call's."""

    kind: Literal["user", "assistant", "system", "call", "output"]
    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Text for the user. `final` is False for a remark before a call."""

    text: str
    final: bool = True


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A refusal."""

    text: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The model fails with this error code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CutOff:
    """The answer ends early."""

    reason: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an offered tool. `arguments` is JSON, or text if `free_text`."""

    name: str
    arguments: str
    free_text: bool = False


Action = Say | Think | Refuse | Fail | CutOff | Call

CALLS: Final = frozenset({"shell", "python", "create", "update", "delete", "call", "search", "web", "mcp", "computer"})

VERBS: Final = CALLS | {"say", "json", "draft", "note", "think", "refuse", "fail", "incomplete"}

_LINE = re.compile(r"^\s*@@(&?) ?([a-z_]+)(?: (.*))?$")
_HEREDOC = re.compile(r"<<(\w+)\s*$")
_SHELL = re.compile(
    r"(^|[._-])(exec_command|shell_command|local_shell|run_shell|run_command|execute_bash|execute_command"
    r"|container_exec|container\.exec|shell|bash|terminal|exec|run)([._-]|$)",
    re.IGNORECASE,
)
_PYTHON = re.compile(r"code_interpreter|python|execute_code|run_code|jupyter|ipython", re.IGNORECASE)
_SEARCH = re.compile(r"file_search|search_files|retriev|knowledge", re.IGNORECASE)
_WEB = re.compile(r"web_search|search_web", re.IGNORECASE)
_TEXT_PARAMETERS: Final = ("commands", "cmd", "command", "script", "code", "input", "patch", "keystrokes")
_QUERY_PARAMETERS: Final = ("queries", "query", "q", "search_query")
_GLUED: Final = frozenset({"think", "note"})


@dataclass(frozen=True, slots=True)
class Line:
    """One directive. `body` is its heredoc, if it has one."""

    verb: str
    head: str
    body: str | None = None

    @property
    def text(self) -> str:
        """The argument, wherever it was written."""
        return self.head if self.body is None else self.body


def parse(text: str) -> list[list[Line]]:
    """The turns of the script in `text`; none if there is no script, which needs at least one verb that exists."""
    turns: list[list[Line]] = []
    lines = text.split("\n")
    at, glued = 0, False
    while at < len(lines):
        match = _LINE.match(lines[at].rstrip("\r"))
        at += 1
        if match is None:
            continue
        head, body = match[3] or "", None
        if heredoc := _HEREDOC.search(head):
            end = next((i for i in range(at, len(lines)) if lines[i].strip() == heredoc[1]), len(lines))
            head, body, at = head[: heredoc.start()].rstrip(), "\n".join(lines[at:end]), end + 1
        line = Line(match[2], head, body)
        if turns and (match[1] or glued):
            turns[-1].append(line)
        else:
            turns.append([line])
        glued = line.verb in _GLUED
    # A patch hunk such as "@@ def f():" looks like a directive and is none.
    return turns if any(line.verb in VERBS for turn in turns for line in turn) else []


def play(
    entries: Sequence[Entry], tools: Sequence[Declaration], schema: Mapping[str, Any] | None = None
) -> list[Action] | None:
    """What the model does next, by the newest user message that holds a script; None if no message does.

    `schema` is the form that the final text must have, if one is asked for.
    """
    start = next(
        (i for i in reversed(range(len(entries))) if entries[i].kind == "user" and parse(entries[i].text)), None
    )
    if start is None:
        return None
    since = entries[start + 1 :]
    turns = parse(entries[start].text)
    turn = _next_turn(turns, _calls_made(since) + _drafts_said(turns, since))
    if turn is not None:
        return [action for line in turn for action in _act(line, tools)]
    if schema is not None:
        return [Say(json.dumps(smallest(schema)))]
    return [Say("RESULT: " + "\n".join(entry.text.strip() for entry in since if entry.kind == "output"))]


def hand_over(entries: Sequence[Entry]) -> str | None:
    """The summary of a conversation, if that is what is asked for; else None.

    It has what the conversation says within `REMEMBER(…)`, and how many calls were made since the newest script, so
    that the script goes on where it was. The server shows the conversation within its question, Codex before its own.
    """
    asked = entries[-1].text if entries else ""
    if asked.rstrip().endswith(HAND_OVER):
        lines = [_shown(line) for line in asked.split("\n") if line.startswith("{")]
    elif CODEX_HAND_OVER in asked and entries[-1].kind == "user":
        lines = list(entries[:-1])
    else:
        return None
    facts = dict.fromkeys(fact for line in lines for fact in _FACT.findall(line.text))
    start = max((i for i, line in enumerate(lines) if line.kind == "user" and parse(line.text)), default=0)
    made = _calls_made(lines[start:])
    return f"{' '.join(f'REMEMBER({fact})' for fact in facts)} Calls made so far: {made}."


def shell_call(command: str, tools: Sequence[Declaration]) -> Call | None:
    """A call that runs `command` with whichever shell-like tool is offered; None if there is none."""
    best = sorted((t for t in tools if _SHELL.search(t.name)), key=lambda t: (t.name not in _PREFERRED, t.name))
    if best and "tools.exec_command" in best[0].description:
        # Codex's own tool runs JavaScript, in which its others are functions.
        return _call(
            best[0], f"const r = await tools.exec_command({{cmd: {json.dumps(command)}}}); text(r.output ?? r)"
        )
    if best:
        return _call(best[0], command)
    python = next((tool for tool in tools if _PYTHON.search(tool.name)), None)
    if python is None:
        return None
    code = f"import subprocess\nprint(subprocess.run({command!r}, shell=True, capture_output=True, text=True).stdout)"
    return _call(python, code)


def python_call(code: str, tools: Sequence[Declaration]) -> Call | None:
    """A call that runs Python code; None if no offered tool can."""
    tool = next((tool for tool in tools if _PYTHON.search(tool.name)), None)
    return _call(tool, code) if tool else shell_call(f"python3 -c {shlex.quote(code)}", tools)


def _calls_made(since: Sequence[Entry]) -> int:
    """The calls since a script; a summary among what follows it counts those before."""
    made = 0
    for entry in since:
        if entry.kind == "call":
            made += 1
        elif entry.kind == "user" and (counted := _COUNTED.search(entry.text)):
            made = int(counted[1])
    return made


def _drafts_said(turns: Sequence[Sequence[Line]], since: Sequence[Entry]) -> int:
    said = {entry.text for entry in since if entry.kind == "assistant"}
    return sum(line.verb == "draft" and line.text in said for turn in turns for line in turn)


def _shown(line: str) -> Entry:
    """An entry of a conversation that is shown as JSON lines."""
    fields = json.loads(line)
    if "tool_call" in fields:
        return Entry("call", fields["arguments"], fields["tool_call"])
    if "tool_output" in fields:
        return Entry("output", fields["tool_output"])
    return Entry("user" if fields.get("role") == "user" else "system", fields.get("text") or "")


def _next_turn(turns: list[list[Line]], done: int) -> list[Line] | None:
    made = 0
    for turn in turns:
        if made >= done:
            return turn
        made += sum(line.verb in CALLS or line.verb == "draft" for line in turn)
    return None


def _act(line: Line, tools: Sequence[Declaration]) -> list[Action]:
    first, _, rest = line.text.partition(" ")
    match line.verb:
        case verb if verb in CALLS:
            call = _called(line, tools)
            names = sorted(tool.name for tool in tools)
            return [call or Say(f"NO TOOL OFFERED FOR: {line.verb} {line.text} (offered: {names})")]
        case "say" | "json" | "draft":
            return [Say(line.text)]
        case "note":
            return [Say(line.text, final=False)]
        case "think":
            return [Think(line.text)]
        case "refuse":
            return [Refuse(line.text)]
        case "fail":
            return [Fail(first or "server_error", rest or first or "scripted failure")]
        case "incomplete":
            return [CutOff(first or "max_output_tokens")]
        case _:
            return [Say(f"UNKNOWN DIRECTIVE: {line.verb}")]


def _called(line: Line, tools: Sequence[Declaration]) -> Call | None:
    match line.verb:
        case "shell":
            return shell_call(line.text, tools)
        case "python":
            return python_call(line.text, tools)
        case "create" | "update" | "delete":
            return _patch(line, tools)
        case "search":
            return _query(line.text, tools, _SEARCH)
        case "web":
            return _query(line.text, tools, _WEB)
        case "computer":
            tool = next((tool for tool in tools if tool.name.startswith("computer")), None)
            return Call(tool.name, json.dumps({"actions": json.loads(line.text)})) if tool else None
        case "mcp":
            name, _, arguments = line.text.partition(" ")
            pattern = re.compile(rf"(^|__|[._-]){re.escape(name)}$")
            found = next((tool.name for tool in tools if pattern.search(tool.name)), None)
            return Call(found, arguments.strip() or "{}") if found else None
        case _:
            name, _, arguments = line.head.partition(" ")
            arguments = arguments if line.body is None else line.body
            free = any(isinstance(tool, FreeTextDeclaration) and tool.name == name for tool in tools)
            return Call(name, arguments if free else arguments.strip() or "{}", free_text=free)


def _patch(line: Line, tools: Sequence[Declaration]) -> Call | None:
    word = {"create": "Add", "update": "Update", "delete": "Delete"}[line.verb]
    body = line.body or ""
    if line.verb == "create":
        body = "\n".join("+" + text for text in body.split("\n"))
    hunk = "" if line.verb == "delete" else body + "\n"
    patch = f"*** Begin Patch\n*** {word} File: {line.head}\n{hunk}*** End Patch"
    tool = next((tool for tool in tools if tool.name in {"apply_patch", "editor", "edit"}), None)
    if tool is None:
        return shell_call(f"apply_patch <<'PATCH'\n{patch}\nPATCH", tools)
    properties = tool.parameters.get("properties") or {} if isinstance(tool, FunctionDeclaration) else {}
    operation = {"type": f"{line.verb}_file", "path": line.head} | ({} if line.verb == "delete" else {"diff": body})
    if "operation" in properties:
        return Call(tool.name, json.dumps({"operation": operation}))
    if "diff" in properties:
        return Call(tool.name, json.dumps(operation))
    return _call(tool, patch)


def _query(text: str, tools: Sequence[Declaration], pattern: re.Pattern[str]) -> Call | None:
    tool = next((tool for tool in tools if pattern.search(tool.name)), None)
    return _call(tool, text, _QUERY_PARAMETERS) if tool else None


def _call(tool: Declaration, text: str, parameters: Sequence[str] = _TEXT_PARAMETERS) -> Call:
    match tool:
        case FreeTextDeclaration():
            return Call(tool.name, text, free_text=True)
        case FunctionDeclaration():
            return Call(tool.name, json.dumps(_filled(tool.parameters, text, parameters), ensure_ascii=False))


def _filled(schema: Mapping[str, Any], text: str, parameters: Sequence[str]) -> dict[str, Any]:
    """The smallest arguments that `schema` allows, with `text` where it belongs."""
    properties = schema.get("properties") or {}
    arguments = smallest(schema)
    arguments = arguments if isinstance(arguments, dict) else {}
    name = next((name for name in parameters if name in properties), next(iter(properties), parameters[0]))
    kind = properties.get(name, {}).get("type")
    if kind == "array" or (isinstance(kind, list) and "array" in kind):
        value: Any = [text] if name in {"commands", "queries"} else ["bash", "-lc", text]
    else:
        value = text
    optional = {key for key in arguments if key not in schema.get("required", ())}
    return {key: value for key, value in arguments.items() if key not in optional} | {name: value}


HAND_OVER: Final = "Now write the handover summary."
"""The last words of a request for a summary."""

CODEX_HAND_OVER: Final = "CONTEXT CHECKPOINT COMPACTION"
"""What Codex calls it when it compacts by itself."""

_FACT = re.compile(r"REMEMBER\(([^)]*)\)")
_COUNTED = re.compile(r"Calls made so far: (\d+)")
_PREFERRED: Final = frozenset({"shell", "exec_command", "shell_command", "bash"})
