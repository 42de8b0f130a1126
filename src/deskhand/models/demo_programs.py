"""The few programs and tables that the demo model can really write. Pure."""

import re
import shlex
from dataclasses import dataclass
from typing import Final

MADE: Final = "made: "
"""Begins a line of output that names a file that was made."""


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program, and the file that it is saved as or makes."""

    file: str
    text: str


def script(request: str) -> Program:
    """The Python script that `request` asks for, or a template that says that it is one."""
    n = _number(request, 10)
    for pattern, file, text in _SCRIPTS:
        if re.search(pattern, request, re.IGNORECASE):
            return Program(_named(request, "py") or file, text.replace("{n}", str(n)))
    said = f"The demo model cannot write this one, so this is a template. You asked: {' '.join(request.split())[:200]}"
    return Program(_named(request, "py") or "script.py", f"print({said!r})\n")


def table(request: str) -> Program:
    """A Python program that writes the CSV file that `request` asks for."""
    n = _number(request, 10)
    for pattern, file, header, rows in _TABLES:
        if re.search(pattern, request, re.IGNORECASE):
            return _table(_named(request, "csv") or file, header, rows.replace("{n}", str(n)))
    rows = f"[(i, f'placeholder {{i}}') for i in range(1, {n} + 1)]"
    return _table(_named(request, "csv") or "table.csv", ("number", "label"), rows)


def save_and_run(program: Program) -> str:
    """The command that saves a script under its name and runs it."""
    name = shlex.quote(program.file)
    return f'{_here_document(name, program.text)}\npython3 {name} && echo {MADE}"$PWD"/{name}'


def run_and_show(program: Program) -> str:
    """The command that runs a program which makes its file, and shows the beginning of that."""
    name = shlex.quote(program.file)
    return f"python3 - <<'PY'\n{program.text}PY\nhead -n 5 {name} && echo {MADE}\"$PWD\"/{name}"


def save_text(file: str, text: str) -> str:
    """The command that saves `text` as `file`."""
    name = shlex.quote(file)
    return f"printf '%s\\n' {shlex.quote(text)} > {name} && cat {name} && echo {MADE}\"$PWD\"/{name}"


def _table(file: str, header: tuple[str, ...], rows: str) -> Program:
    text = (
        "import csv\n"
        f"rows = {rows}\n"
        f"with open({file!r}, 'w', newline='') as f:\n"
        f"    csv.writer(f).writerows([{header!r}, *rows])\n"
    )
    return Program(file, text)


def _here_document(name: str, text: str) -> str:
    return f"cat > {name} <<'PY'\n{text}PY"


def _number(request: str, default: int) -> int:
    """How many, or up to how much: the last number of the request, within reason."""
    numbers = re.findall(r"(?<![\w.])\d{1,6}(?![\w.]\d)", request)
    return max(1, min(int(numbers[-1]), 10_000)) if numbers else default


def _named(request: str, suffix: str) -> str | None:
    match = re.search(rf"(?<![\w/.])([\w-]+\.{suffix})\b", request)
    return match[1] if match else None


_SCRIPTS: Final = (
    (
        r"\bprimes?\b",
        "primes.py",
        "found = []\ncandidate = 2\nwhile len(found) < {n}:\n    if all(candidate % p for p in found):\n"
        "        found.append(candidate)\n    candidate += 1\nprint(*found)\n",
    ),
    (
        r"fibonacci",
        "fibonacci.py",
        "a, b = 0, 1\nfor _ in range({n}):\n    print(a, end=' ')\n    a, b = b, a + b\nprint()\n",
    ),
    (
        r"multiplication|times table",
        "multiplication.py",
        "n = {n}\nfor row in range(1, n + 1):\n    print(*(f'{row * column:4}' for column in range(1, n + 1)))\n",
    ),
    (r"count ?down", "countdown.py", "for i in range({n}, 0, -1):\n    print(i)\nprint('Lift-off!')\n"),
    (
        r"factorial",
        "factorial.py",
        "import math\nfor i in range(1, {n} + 1):\n    print(f'{i}! = {math.factorial(i)}')\n",
    ),
    (r"squares?\b", "squares.py", "for i in range(1, {n} + 1):\n    print(i, i * i)\n"),
    (
        r"fizz ?buzz",
        "fizzbuzz.py",
        "for i in range(1, {n} + 1):\n    print('Fizz' * (i % 3 == 0) + 'Buzz' * (i % 5 == 0) or i)\n",
    ),
    (
        r"\b(date|time|clock)\b",
        "now.py",
        "import datetime\nprint(datetime.datetime.now().isoformat(timespec='seconds'))\n",
    ),
    (r"\b(hello|greet)", "hello.py", "print('Hello, world!')\n"),
)
_TABLES: Final = (
    (r"squares?\b", "squares.csv", ("n", "square"), "[(i, i * i) for i in range(1, {n} + 1)]"),
    (r"cubes?\b", "cubes.csv", ("n", "cube"), "[(i, i**3) for i in range(1, {n} + 1)]"),
    (
        r"\bprimes?\b",
        "primes.csv",
        ("position", "prime"),
        "list(enumerate([i for i in range(2, 110_000) if all(i % d for d in range(2, int(i**0.5) + 1))][:{n}], 1))",
    ),
    (
        r"planets?",
        "planets.csv",
        ("planet", "moons"),
        "[('Mercury', 0), ('Venus', 0), ('Earth', 1), ('Mars', 2), ('Jupiter', 97), ('Saturn', 274), "
        "('Uranus', 28), ('Neptune', 16)]",
    ),
    (r"months?", "months.csv", ("number", "month"), "list(enumerate(__import__('calendar').month_name[1:], 1))"),
    (r"(week)?days", "days.csv", ("number", "day"), "list(enumerate(__import__('calendar').day_name, 1))"),
)
