"""The skills of a container: what is stored of them, where they lie, and what the model is told. Pure.

The model reads name, description and path before it says anything, as words of the user, never of the system; the rest
of a skill it reads with its own commands (computer-use guide, "Skills").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ..ports.model import PromptMessage
from ..ports.sandbox import SKILLS
from ..wire.codec import encode
from ..wire.parts import InputText

MAX_TOLD_CHARACTERS = 32_000
"""Descriptions are cut to fit; names and paths are told in any case."""

_HEADING = (
    "Skills in your computer. Before work that one of them is for, read its SKILL.md with a command and follow it; "
    "paths in it are relative to its folder. They cannot be changed."
)


@dataclass(frozen=True, slots=True)
class ContainerSkill:
    """A skill in a container. `version` is its number, or the first digits of `digest` for one that has none."""

    name: str
    version: str
    description: str
    digest: str

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.name}-{self.version}"

    @property
    def path(self) -> str:
        """Where it lies in the container."""
        return f"{SKILLS}/{self.folder}"


def dumped(skills: Sequence[ContainerSkill]) -> str:
    """Skills as a container's record keeps them; "" for none."""
    return encode(skills).decode() if skills else ""


def parsed(text: str) -> tuple[ContainerSkill, ...]:
    """The skills of a container's record."""
    return msgspec.json.decode(text, type=tuple[ContainerSkill, ...]) if text else ()


def joined(earlier: Sequence[ContainerSkill], new: Sequence[ContainerSkill]) -> tuple[ContainerSkill, ...]:
    """The skills of a container that gets `new` ones: of two with one name, the new one counts."""
    names = {skill.name for skill in new}
    return (*(skill for skill in earlier if skill.name not in names), *new)


def briefing(skills: Sequence[ContainerSkill]) -> list[PromptMessage]:
    """What the model is told of the skills in its computer; nothing if there are none."""
    if not skills:
        return []
    fixed = sum(len(_line(skill, "")) + 1 for skill in skills)
    room = max(0, MAX_TOLD_CHARACTERS - fixed) // len(skills)
    lines = [_line(skill, _cut(skill.description, room)) for skill in skills]
    return [PromptMessage("user", [InputText(text="\n".join([_HEADING, *lines]))], standing=True)]


def _line(skill: ContainerSkill, description: str) -> str:
    return f"- {skill.name}: {description} ({skill.path}/SKILL.md)"


def _cut(text: str, room: int) -> str:
    """One line of at most `room` characters: whatever a description says, it cannot look like another entry."""
    line = " ".join(text.split())
    return line if len(line) <= room else line[: max(0, room - 1)] + "…"
