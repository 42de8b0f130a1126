"""What the model reads of shell outputs that a client returned."""

from deskhand.core.bounds import marker
from deskhand.tools.shell import prompt_output
from deskhand.wire.items import ExitOutcome, ShellCallOutput, ShellOutput


def output(stdout: str, stderr: str = "", cap: int | None = None) -> str:
    entry = ShellOutput(stdout=stdout, stderr=stderr, outcome=ExitOutcome(exit_code=0))
    said = prompt_output(ShellCallOutput(id="o", call_id="c", output=(entry,), max_output_length=cap)).output
    assert isinstance(said, str)
    return said


def test_raw_output_is_cut_to_the_cap_of_its_call() -> None:
    assert output("a" * 500 + "b" * 500, cap=10) == "aaaaa" + marker(990) + "bbbbb"
    both = output("a" * 500, "e" * 500, cap=4)
    assert both.startswith("aa\n... 498 chars truncated")
    assert both.endswith("ee")


def test_output_within_the_cap_is_left_alone() -> None:
    assert output("a" * 1000) == "a" * 1000
    assert output("a" * 10, cap=10) == "a" * 10
    bounded = "aaaaa" + marker(123456) + "bbbbb"
    assert output(bounded, cap=10) == bounded
