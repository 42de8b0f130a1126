"""The stateful Python of a container: runs one cell after another and keeps what they define.

It runs as the container's user beside everything else that the model starts, so nothing here is a wall: whatever a cell
does to this process ends or confuses this process only. The agent (`kernel.py`) gives it a socket as descriptor 3, on
which cells come in and pictures and endings go out, and a pipe for all that is printed. It is either started by the
agent, or it is a copy of a process in which numpy, pandas and matplotlib are loaded already (`zygote.py`).

Rules of this file: standard library only, CPython 3.9 or newer, and few imports, for each costs the first cell time.
"""

from __future__ import annotations

import ast
import builtins
import io
import os
import re
import signal
import struct
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

CONTROL = 3
HEADER = struct.Struct(">IB")
MAX_TRACEBACK_FRAMES = 40
CO_COROUTINE = 0x80
NOT_THE_USERS = ("/usr/", "/opt/", "<frozen ", "<string>")
MAGIC = re.compile(r"^(\s*)([!%])(.*)$", re.MULTILINE)
PYPLOT = "matplotlib.pyplot"


def main() -> None:
    """Serve cells until the agent is gone. `sys.path` holds the agent's folder first; cells do not see it."""
    del sys.path[0]
    Interpreter(CONTROL, os.dup(1)).serve()


class Interpreter:
    """What a cell runs in: one namespace, one event loop, one standard output."""

    def __init__(self, control: int, output: int) -> None:
        os.set_inheritable(control, False)
        os.set_inheritable(output, False)
        self.control = control
        self.output = output
        self.pid = os.getpid()
        self.module = types.ModuleType("__main__")
        self.namespace = self.module.__dict__
        self.namespace.update(__builtins__=builtins, display=self.display)
        self.number = 0
        self.images_left = 0
        self.image_bytes = 0
        self.running = False
        self.loop: Any = None

    def serve(self) -> None:
        """Say who this is, then run cells until the agent is gone, or the cells have cut themselves off from it."""
        self.settle()
        try:
            self.send(b"H", struct.pack(">I", self.pid))
            self.listen()
        except OSError as exc:
            try:
                self.say(f"[descriptor {self.control} belongs to the interpreter and was closed: {exc}]\n")
            finally:
                os._exit(1)

    def listen(self) -> None:
        while True:
            kind, payload = self.receive()
            if kind == ord("E"):
                set_environment(payload)
            elif kind == ord("C"):
                self.number, self.images_left, self.image_bytes = struct.unpack_from(">III", payload)
                failed = self.run(payload[12:].decode("utf-8", "surrogateescape"))
                if os.getpid() != self.pid:
                    os._exit(0)  # a copy that the cell made by fork and did not end
                self.send(b"F", struct.pack(">IB", self.number, failed))

    def settle(self) -> None:
        """Make the process look as a script sees it."""
        sys.modules["__main__"] = self.module
        if "" not in sys.path:
            sys.path.insert(0, "")
        sys.argv = [""]
        builtins.input = refuse_input
        os.environ.setdefault("MPLBACKEND", "agg")
        signal.signal(signal.SIGINT, self.on_interrupt)
        self.renew_streams()
        import faulthandler

        faulthandler.enable(self.output, all_threads=False)
        if PYPLOT in sys.modules:
            self.tame_pyplot(sys.modules[PYPLOT])
        else:
            sys.meta_path.insert(0, PyplotHook(self.tame_pyplot))

    def on_interrupt(self, _number: int, _frame: object) -> None:
        if self.running:
            raise KeyboardInterrupt

    # Frames

    def receive(self) -> tuple[int, bytes]:
        size, kind = HEADER.unpack(self.take(HEADER.size))
        return kind, self.take(size)

    def take(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = os.read(self.control, count - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return bytes(data)

    def send(self, kind: bytes, payload: bytes) -> None:
        write_all(self.control, struct.pack(">I", len(payload)) + kind + payload)

    # One cell

    def run(self, code: str) -> bool:
        """Run a cell to its end, whatever that is. True if it ended with an uncaught exception."""
        self.renew_streams()
        failed = False
        try:
            self.running = True
            self.execute(code)
            self.flush()
        except BaseException as exc:
            failed = self.tell(exc)
        finally:
            self.running = False
        try:
            self.running = True
            self.show_figures()
        except BaseException as exc:
            self.tell(exc)
        finally:
            self.running = False
        self.flush()
        return failed

    def execute(self, code: str) -> None:
        name = f"<cell {self.number}>"
        tree, source = parse(code, name)
        remember(name, source)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        self.evaluate(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True))
        if last is not None:
            value = self.evaluate(compile(last, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True))
            if value is not None:
                self.namespace["_"] = value
                self.display(value)

    def evaluate(self, code: types.CodeType) -> Any:
        value = eval(code, self.namespace)  # noqa: S307 - to run what it is given is what this program is for
        if not code.co_flags & CO_COROUTINE:
            return value
        import asyncio

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(value)

    def display(self, *values: object) -> None:
        """Show values as a notebook does: pictures as pictures, all else by its `repr`."""
        for value in values:
            if not self.show_picture(value):
                self.say(repr(value) + "\n")

    def tell(self, exc: BaseException) -> bool:
        """Print an uncaught exception. False for `sys.exit()` and `sys.exit(0)`."""
        try:
            if isinstance(exc, SystemExit):
                if exc.code in (None, 0):
                    return False
                self.say(f"SystemExit: {exc.code}\n")
            else:
                self.say(describe(exc))
        except BaseException as worse:  # its __str__, or too deep a stack
            self.say(f"{type(exc).__name__} (and it cannot be shown: {type(worse).__name__})\n")
        return True

    # Output

    def say(self, text: str) -> None:
        """Print past whatever the cell has made of `sys.stdout`, and after what that holds."""
        self.flush()
        write_all(self.output, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:  # closed or replaced by the cell
                pass

    def renew_streams(self) -> None:
        """Mend what an earlier cell has closed."""
        for number, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(number)
            except OSError:
                os.dup2(self.output, number)
                setattr(sys, name, None)
            stream = getattr(sys, name, None)
            if stream is None or getattr(stream, "closed", False) or not isinstance(stream, io.TextIOWrapper):
                renew = stream is None or getattr(stream, "closed", False)
            else:
                renew = stream.encoding != "utf-8" or not stream.line_buffering
            if renew:
                raw = io.FileIO(number, "w", closefd=False)
                buffer = io.BufferedWriter(raw, 1 << 16)
                fresh = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
                setattr(sys, name, fresh)
                setattr(sys, f"__{name}__", fresh)

    # Pictures

    def show_picture(self, value: object) -> bool:
        """Send `value` if it is a picture: a figure of matplotlib, or what knows how to become a PNG."""
        figures = sys.modules.get("matplotlib.figure")
        if figures is not None and isinstance(value, figures.Figure):
            self.send_figure(value)
            pyplot = sys.modules.get(PYPLOT)
            if pyplot is not None:
                pyplot.close(value)
            return True
        method = getattr(type(value), "_repr_png_", None)
        data = method(value) if method is not None else None
        if not isinstance(data, bytes):
            return False
        self.send_picture(data)
        return True

    def show_figures(self) -> None:
        """Send and close every open figure of pyplot."""
        pyplot = sys.modules.get(PYPLOT)
        if pyplot is None:
            return
        for number in pyplot.get_fignums():
            self.send_figure(pyplot.figure(number))
        pyplot.close("all")

    def send_figure(self, figure: Any) -> None:
        if self.images_left <= 0:
            self.say("[a figure is not shown: too many in one call]\n")
            return
        if not figure.get_children()[1:] and not figure.axes:
            return  # nothing was drawn
        file = io.BytesIO()
        figure.savefig(file, format="png", bbox_inches="tight")
        self.send_picture(file.getvalue())

    def send_picture(self, data: bytes) -> None:
        if self.images_left <= 0:
            self.say("[a picture is not shown: too many in one call]\n")
        elif len(data) > self.image_bytes:
            self.say(f"[a picture of {len(data)} bytes is not shown: at most {self.image_bytes} are left]\n")
        else:
            self.images_left -= 1
            self.image_bytes -= len(data)
            self.flush()
            running, self.running = self.running, False  # half a frame would end this interpreter
            self.send(b"I", struct.pack(">I", self.number) + data)
            self.running = running

    def tame_pyplot(self, pyplot: Any) -> None:
        """Let `plt.show()` show: there is no window, and the default would only warn of that."""

        def show(*_args: object, **_options: object) -> None:
            self.show_figures()

        pyplot.show = show


class PyplotHook:
    """An import hook (PEP 451) that calls `then` with pyplot once that is loaded, and steps aside."""

    def __init__(self, then: Callable[[Any], None]) -> None:
        self.then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != PYPLOT:
            return None
        sys.meta_path.remove(self)
        import importlib.util

        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                self.then(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def parse(code: str, name: str) -> tuple[ast.Module, str]:
    """Parse a cell; a notebook's `!command` and `%magic` lines are read as such if it is not Python otherwise."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        return compile(code, name, "exec", flags, True), code
    except SyntaxError:
        plain = MAGIC.sub(without_magic, code)
        if plain == code:
            raise
        try:
            return compile(plain, name, "exec", flags, True), plain
        except SyntaxError:
            pass
        raise


def without_magic(found: re.Match[str]) -> str:
    """`!pip list` and `%pip list` as Python; other magics do nothing."""
    indent, sign, rest = found.groups()
    if sign == "%" and rest.split(" ")[0] not in ("pip", "conda"):
        return indent + "pass"
    return f"{indent}__import__('subprocess').run({rest!r}, shell=True, check=False);"


def remember(name: str, source: str) -> None:
    """Let tracebacks and `inspect` show the lines of a cell."""
    import linecache

    linecache.cache[name] = (len(source), None, source.splitlines(True), name)


def describe(exc: BaseException) -> str:
    """The traceback as its author reads it: the frames of cells and of the user's files, and where it was raised."""
    import traceback

    told = traceback.TracebackException(type(exc), exc, exc.__traceback__, limit=-MAX_TRACEBACK_FRAMES * 10)
    for part in chain(told):
        part.stack[:] = [frame for frame in part.stack if is_users(frame.filename)][-MAX_TRACEBACK_FRAMES:]
    return "".join(told.format())


def chain(told: Any) -> Iterator[Any]:
    seen: list[Any] = []
    waiting = [told]
    while waiting and len(seen) < 100:
        part = waiting.pop()
        if part is None or part in seen:
            continue
        seen.append(part)
        waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
        yield part


def is_users(filename: str) -> bool:
    return filename.startswith("<cell ") or not filename.startswith(NOT_THE_USERS)


def refuse_input(prompt: object = "") -> str:
    raise EOFError("input() cannot be used here: nobody is there to type. Put the value into the code.")


def set_environment(payload: bytes) -> None:
    """Take over the container's environment (`settings.Reader` has the same format)."""
    count = struct.unpack_from(">I", payload)[0]
    at, words = 4, []
    for _ in range(count):
        size = struct.unpack_from(">I", payload, at)[0]
        words.append(payload[at + 4 : at + 4 + size])
        at += 4 + size
    given = dict(zip(words[::2], words[1::2]))  # noqa: B905 - strict= is newer than 3.9
    for name in set(os.environb) - set(given):
        del os.environb[name]
    os.environb.update(given)
    os.environ.setdefault("MPLBACKEND", "agg")


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: 1 << 20]) :]
