"""What is kept of a container's skills, and what the model is told of them."""

from hypothesis import given
from hypothesis import strategies as st

from deskhand.engine.container_skills import MAX_TOLD_CHARACTERS, ContainerSkill, briefing, dumped, joined, parsed
from deskhand.engine.history import without_oldest
from deskhand.ports.model import PromptCall, PromptMessage, PromptOutput
from deskhand.wire.parts import InputText, text_of

DIGEST = "0123456789abcdef" * 4


def skill(name: str, version: str = "1", description: str = "What for.") -> ContainerSkill:
    return ContainerSkill(name, version, description, DIGEST)


def told(*skills: ContainerSkill) -> str:
    (message,) = briefing(skills)
    assert message.role == "user"
    return text_of(tuple(message.parts))


@given(st.lists(st.builds(ContainerSkill, st.text(), st.text(), st.text(), st.text())))
def test_skills_read_as_they_were_kept(skills: list[ContainerSkill]) -> None:
    assert parsed(dumped(skills)) == tuple(skills)


def test_no_skills_are_nothing() -> None:
    assert (dumped(()), parsed(""), briefing(())) == ("", (), [])


def test_a_skill_lies_at_its_name_and_version() -> None:
    assert skill("a-b", "12").path == "/mnt/skills/a-b-12"
    assert told(skill("a-b", "12")).endswith("\n- a-b: What for. (/mnt/skills/a-b-12/SKILL.md)")


def test_of_two_skills_with_one_name_the_new_one_counts() -> None:
    one, two, new = skill("one"), skill("two"), skill("one", "2")
    assert joined((one, two), (new,)) == (two, new)
    assert joined((one, two), ()) == (one, two)


@given(st.text())
def test_a_description_is_one_line_whatever_it_says(description: str) -> None:
    assert len(told(skill("a", description=description), skill("b")).splitlines()) == 3


def test_many_long_descriptions_are_cut_and_no_skill_is_left_out() -> None:
    many = [skill(f"skill-{n}", description="x" * 1024) for n in range(200)]
    text = told(*many)
    assert len(text) < MAX_TOLD_CHARACTERS + 1000
    assert text.count("…") == 200
    assert all(f"({entry.path}/SKILL.md)" in text for entry in many)
    few = [skill(f"skill-{n}", description="x" * 1024) for n in range(20)]
    assert told(*few).count("x" * 1024) == 20


def test_what_the_model_is_told_stays_when_a_prompt_is_shortened() -> None:
    standing = briefing([skill("a")])
    asked = [PromptMessage("user", [InputText(text=text)]) for text in ("first", "second")]
    call, output = PromptCall("c", "shell", "{}"), PromptOutput("c", "out")
    shorter = without_oldest([*standing, asked[0], asked[1], call, output])
    assert shorter == [*standing, asked[1], call, output]
    assert without_oldest(shorter) == [*standing, asked[1]]
    assert without_oldest([*standing, asked[1]]) is None
