"""What every isolation engine must do about terminals; part of the checks of `conformance_sandbox`."""

from collections.abc import Sequence

from deskhand.ports.sandbox import Exited, Output, Session, Window

from .conformance_sandbox_bench import Bench, Desk, count


async def _typed(desk: Desk, program: Sequence[str], *pieces: bytes) -> tuple[str, Exited]:
    """All that a program prints on a terminal on which `pieces` are typed at once, and its end."""
    printed, end = b"", None
    async with desk.sandbox.open_terminal(Session(program, Window(33, 99), {"TERM": "vt100"})) as terminal:
        for piece in pieces:
            await terminal.type(piece)
        async for event in terminal.output():
            match event:
                case Output(_, data):
                    printed += data
                case Exited():
                    end = event
    assert end is not None, "no end"
    return printed.decode(errors="replace"), end


async def a_terminal_takes_what_is_typed_before_its_program_runs(bench: Bench) -> None:
    async with bench.desk() as desk:
        pieces = [b"%d\n" % number for number in range(500)]
        printed, end = await _typed(desk, ("sh", "-c", "stty -echo; stty size; cat; exit 4"), *pieces, b"\x04")
        lines = printed.replace("\r", "").split("\n")
        assert end == Exited(4)
        assert "33 99" in lines
        assert [line for line in lines if line.isdigit()][-200:] == [str(number) for number in range(300, 500)]


async def leaving_a_terminal_ends_what_it_has_started(bench: Bench) -> None:
    async with bench.desk() as desk:
        script = "nohup sleep 4321 & setsid -f sleep 4321; echo started; sleep 4321"
        async with desk.sandbox.open_terminal(Session(("sh", "-c", script), Window(24, 80))) as terminal:
            async for event in terminal.output():
                if isinstance(event, Output) and b"started" in event.data:
                    break
            assert count(await desk.run("ps ax"), "sleep 4321") >= 3
        assert count(await desk.run("ps ax"), "sleep 4321") == 0


TERMINAL_CHECKS = (
    a_terminal_takes_what_is_typed_before_its_program_runs,
    leaving_a_terminal_ends_what_it_has_started,
)
