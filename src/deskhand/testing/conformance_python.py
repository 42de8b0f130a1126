"""What the Python of every isolation engine must do: checks over a `Bench`, as in `conformance_sandbox`.

They hold for an interpreter that the container started itself and for one that was ready before.

    python -m deskhand.testing.conformance_python deskhand.sandboxes.bubblewrap:BubblewrapEngine /an/empty/folder
"""

import asyncio
import base64
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from deskhand.ports.sandbox import (
    Cell,
    CellEnded,
    CellEvent,
    CellInterrupted,
    Dropped,
    Exited,
    InterpreterLost,
    InterpreterRenewed,
    Output,
    Picture,
    Sandbox,
)

from .conformance_sandbox import Check, main
from .conformance_sandbox_bench import Bench

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
DRAWING = f"""
import base64
class Drawing:
    def _repr_png_(self):
        return base64.b64decode({base64.b64encode(PIXEL).decode()!r})
"""
SEND = """
import os, struct
def send(kind, payload):
    os.write(3, struct.pack('>I', len(payload)) + kind + payload)
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished cell."""

    text: str
    end: CellEvent
    pictures: Sequence[bytes] = ()
    dropped: Sequence[Dropped] = ()
    renewed: bool = False


async def run(sandbox: Sandbox, code: str, timeout_s: float = 20.0, **bounds: int) -> Ran:
    """Run a cell to its end; assert that nothing comes after the end, and no renewal after anything else."""
    cell = Cell(code, timeout_s, bounds.pop("head_bytes", 1 << 20), bounds.pop("tail_bytes", 1 << 10), **bounds)
    events = [event async for event in sandbox.run_code(cell)]
    assert all(not isinstance(event, InterpreterRenewed) for event in events[1:])
    *middle, end = events
    assert isinstance(end, CellEnded | CellInterrupted | InterpreterLost)
    assert not any(isinstance(event, CellEnded | CellInterrupted | InterpreterLost) for event in middle)
    assert all(event.stream == "stdout" for event in middle if isinstance(event, Output | Dropped))
    return Ran(
        b"".join(event.data for event in middle if isinstance(event, Output)).decode(errors="replace"),
        end,
        tuple(event.data for event in middle if isinstance(event, Picture)),
        tuple(event for event in middle if isinstance(event, Dropped)),
        any(isinstance(event, InterpreterRenewed) for event in middle),
    )


async def a_cell_prints_and_shows_its_last_value(bench: Bench) -> None:
    async with bench.desk() as desk:
        assert await run(desk.sandbox, "print('a'); 6 * 7") == Ran("a\n42\n", CellEnded(False))
        assert await run(desk.sandbox, "6 * 7;") == Ran("", CellEnded(False))
        assert await run(desk.sandbox, "None") == Ran("", CellEnded(False))
        assert await run(desk.sandbox, "display(1, 'b')") == Ran("1\n'b'\n", CellEnded(False))
        assert await run(desk.sandbox, "import os; os.system('echo child'); os.getcwd()") == Ran(
            "child\n'/mnt/data'\n", CellEnded(False)
        )


async def what_cells_define_is_kept(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, "import math\ndef double(x): return 2 * x\nclass Point: pass\npoint = Point()")
        assert (await run(desk.sandbox, "double(math.floor(2.5))")).text == "4\n"
        assert (
            await run(desk.sandbox, "import pickle; type(pickle.loads(pickle.dumps(point))) is Point")
        ).text == "True\n"
        assert (await run(desk.sandbox, "import asyncio\nawait asyncio.sleep(0)\n'awaited'")).text == "'awaited'\n"
        assert (await run(desk.sandbox, "await asyncio.sleep(0, 'again')")).text == "'again'\n"
        assert (await run(desk.sandbox, "_ * 2")).text == "'againagain'\n"


async def an_uncaught_error_is_output(bench: Bench) -> None:
    async with bench.desk() as desk:
        failed = await run(desk.sandbox, "x = 1\nimport json\njson.loads('{')")
        assert failed.end == CellEnded(True)
        assert "line 3" in failed.text
        assert failed.text.endswith("(char 1)\n")
        assert "json/decoder.py" not in failed.text
        assert "interpreter.py" not in failed.text
        assert (await run(desk.sandbox, "x")).text == "1\n"
        assert "SyntaxError" in (await run(desk.sandbox, "for")).text
        assert (await run(desk.sandbox, "import sys; sys.exit(3)")) == Ran("SystemExit: 3\n", CellEnded(True))
        assert (await run(desk.sandbox, "sys.exit()")) == Ran("", CellEnded(False))
        assert "nobody is there to type" in (await run(desk.sandbox, "input('name? ')")).text
        deep = await run(desk.sandbox, "def f(): return f()\nf()")
        assert "RecursionError" in deep.text
        assert len(deep.text) < 10_000
        hostile = "class E(Exception):\n    def __str__(self): raise SystemExit(1)\nraise E"
        assert (await run(desk.sandbox, hostile)).end == CellEnded(True)
        assert (await run(desk.sandbox, "x")).text == "1\n"


async def printed_text_is_bounded(bench: Bench) -> None:
    async with bench.desk() as desk:
        ran = await run(desk.sandbox, "print('é' * 500_000)", head_bytes=4, tail_bytes=5)
        assert ran.text == "éé" + "éé\n"
        assert ran.dropped == (Dropped("stdout", 999_992, 499_996),)
        flood = "import os\nfor _ in range(2000): os.write(1, b'x' * 100_000)"
        ran = await run(desk.sandbox, flood, head_bytes=10, tail_bytes=10)
        assert ran.text == "x" * 20
        assert ran.dropped == (Dropped("stdout", 200_000_000 - 20, 200_000_000 - 20),)


async def a_deadline_interrupts_and_keeps_the_state(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, "kept = 1")
        for code in ("while True: pass", "import time; time.sleep(60)", "import os; os.system('sleep 60')"):
            assert (await run(desk.sandbox, code, 0.5)).end == CellInterrupted(), code
        assert await run(desk.sandbox, "kept") == Ran("1\n", CellEnded(False))


async def code_that_heeds_no_interruption_is_killed_and_that_is_told(bench: Bench) -> None:
    async with bench.desk() as desk:
        child = "import signal, subprocess; subprocess.Popen(['setsid', 'sleep', '977'])"
        code = f"{child}\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
        await run(desk.sandbox, "kept = 1")
        ran = await run(desk.sandbox, code, 0.5)
        assert isinstance(ran.end, InterpreterLost)
        assert "killed" in ran.end.reason
        assert await run(desk.sandbox, "'kept' in globals()") == Ran("False\n", CellEnded(False), renewed=True)
        assert (await run(desk.sandbox, "'told once'")).renewed is False
        assert (await desk.run("pgrep -x sleep || echo none")).text == "none"


async def an_end_of_the_interpreter_is_told(bench: Bench) -> None:
    async with bench.desk() as desk:
        for code, reason in (
            ("import os; print('bye'); os._exit(3)", "exit code 3"),
            ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
            ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
            ("import os; os.close(3)", "exit code 1"),
            ("import os; os.closerange(0, 100)", "exit code 1"),
            (
                "import threading, os, time\nthreading.Thread(target=lambda: os._exit(5)).start(); time.sleep(9)",
                "code 5",
            ),
        ):
            ran = await run(desk.sandbox, code)
            assert isinstance(ran.end, InterpreterLost), (code, ran)
            assert reason in ran.end.reason
            assert await run(desk.sandbox, "1") == Ran("1\n", CellEnded(False), renewed=True)
        assert (await run(desk.sandbox, "print('bye'); import os; os._exit(0)")).text == "bye\n"


async def out_of_memory_is_told_and_the_container_lives(bench: Bench) -> None:
    await bench.require("memory limit")
    async with bench.desk() as desk:
        await desk.run("echo kept > file")
        ran = await run(desk.sandbox, "held = []\nwhile True: held.append(bytearray(20_000_000))", 60)
        assert isinstance(ran.end, InterpreterLost)
        assert "out of memory" in ran.end.reason
        assert (await run(desk.sandbox, "open('file').read()")).text == "'kept\\n'\n"


async def cells_run_one_after_another(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, "order = []")
        code = "import time\norder.append('<'); time.sleep(0.2); order.append('>')"
        await asyncio.gather(*(run(desk.sandbox, code) for _ in range(3)))
        assert (await run(desk.sandbox, "''.join(order)")).text == "'<><><>'\n"


async def leaving_interrupts_the_cell_and_keeps_the_state(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, "kept = 1")
        cell = Cell("import time\nfor n in range(600):\n    print(n); time.sleep(0.1)", 60, 1 << 10, 1 << 10)
        async with aclosing(desk.sandbox.run_code(cell)) as events:
            async for event in events:
                assert isinstance(event, Output)
                break
        assert await run(desk.sandbox, "kept, n < 599") == Ran("(1, True)\n", CellEnded(False))


async def standard_output_is_mended(bench: Bench) -> None:
    async with bench.desk() as desk:
        assert (await run(desk.sandbox, "open('/dev/stdout', 'w').write('by name\\n');")).text == "by name\n"
        for code in (
            "import os; os.close(1); os.close(2)",
            "import sys; sys.stdout.close()",
            "import sys; sys.stdout = sys.stderr = None",
            "import os; null = os.open('/dev/null', os.O_WRONLY); os.dup2(null, 1)",
        ):
            await run(desk.sandbox, code)
            assert await run(desk.sandbox, "2 + 2") == Ran("4\n", CellEnded(False)), code


async def a_copy_of_the_interpreter_does_not_answer_for_it(bench: Bench) -> None:
    async with bench.desk() as desk:
        ran = await run(desk.sandbox, "import os\nif os.fork() == 0:\n    mine = 'child'\nelse:\n    mine = 'parent'")
        assert ran.end == CellEnded(False)
        assert (await run(desk.sandbox, "mine")).text == "'parent'\n"


async def pictures_are_shown_and_bounded(bench: Bench) -> None:
    async with bench.desk() as desk:
        ran = await run(desk.sandbox, f"{DRAWING}\nprint('one')\ndisplay(Drawing())\nDrawing()")
        assert ran == Ran("one\n", CellEnded(False), (PIXEL, PIXEL))
        ran = await run(desk.sandbox, "for _ in range(9): display(Drawing())", images=2)
        assert len(ran.pictures) == 2
        assert "too many" in ran.text
        ran = await run(desk.sandbox, "display(Drawing(), Drawing())", image_bytes=len(PIXEL) + 1)
        assert len(ran.pictures) == 1
        assert "not shown" in ran.text


async def words_out_of_form_harm_only_their_own_cell(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, f"{DRAWING}\n{SEND}\nnumber = 3")
        forged = "import inspect\nn = int(inspect.currentframe().f_code.co_filename[6:-1])\n"
        early = await run(desk.sandbox, f"{forged}send(b'F', struct.pack('>IB', n, 1)); print('later')")
        assert early.end == CellEnded(True), "the cell itself says how it ended"
        assert (await run(desk.sandbox, "'next'")).end == CellEnded(False)
        other = await run(desk.sandbox, "send(b'F', struct.pack('>IB', 9999, 1)); 'not mine'")
        assert (other.text, other.end) == ("'not mine'\n", CellEnded(False))
        junk = await run(desk.sandbox, f"{forged}send(b'I', struct.pack('>I', n) + b'<script>'); 'no picture'")
        assert (junk.text, junk.pictures) == ("'no picture'\n", ())
        many = f"{forged}for _ in range(99): send(b'I', struct.pack('>I', n) + Drawing()._repr_png_())"
        assert len((await run(desk.sandbox, many, images=3)).pictures) == 3
        for frame in ("struct.pack('>I', 1 << 31) + b'I'", "struct.pack('>I', 3) + b'?abc'", "b'F' * 64"):
            ran = await run(desk.sandbox, f"import os, struct, time; os.write(3, {frame}); time.sleep(9)")
            assert isinstance(ran.end, InterpreterLost), frame
        assert (await desk.run("echo alive")).end == Exited(0), "the container went with its interpreter"
        assert (await run(desk.sandbox, "1")).text == "1\n"


async def it_is_a_process_of_the_container_like_any_other(bench: Bench) -> None:
    async with bench.desk() as desk:
        seen = await run(desk.sandbox, "print(open('/proc/self/status').read())")
        command = await desk.run("cat /proc/self/status")

        def lines(text: str) -> list[str]:
            kinds = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:")
            return [line for line in text.splitlines() if line.startswith(kinds)]

        assert lines(seen.text) == lines(command.text)
        assert len(lines(seen.text)) >= 7, "gVisor shows this many"
        open_files = await run(desk.sandbox, "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))")
        assert open_files.text == "['0', '1', '2', '3', '4', '5']\n", "5 is the listing itself"
        limits = "sed '1d; /resident set/d' /proc/self/limits"
        assert (await run(desk.sandbox, f"import os; os.system({limits!r});")).text.strip() == (
            await desk.run(limits)
        ).text
        variables = await run(desk.sandbox, "import os; print(sorted(os.environ))")
        assert "'VIRTUAL_ENV'" in variables.text
        assert (await run(desk.sandbox, "import os; os.environ['PATH']")).text.strip("'\n") == (
            await desk.run("echo $PATH")
        ).text


CHECKS: Sequence[Check] = (
    a_cell_prints_and_shows_its_last_value,
    what_cells_define_is_kept,
    an_uncaught_error_is_output,
    printed_text_is_bounded,
    a_deadline_interrupts_and_keeps_the_state,
    code_that_heeds_no_interruption_is_killed_and_that_is_told,
    an_end_of_the_interpreter_is_told,
    out_of_memory_is_told_and_the_container_lives,
    cells_run_one_after_another,
    leaving_interrupts_the_cell_and_keeps_the_state,
    standard_output_is_mended,
    a_copy_of_the_interpreter_does_not_answer_for_it,
    pictures_are_shown_and_bounded,
    words_out_of_form_harm_only_their_own_cell,
    it_is_a_process_of_the_container_like_any_other,
)


if __name__ == "__main__":
    raise SystemExit(main(CHECKS))
