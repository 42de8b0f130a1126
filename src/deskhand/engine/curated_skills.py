"""The skills that ship with Deskhand, which every project can name. They are folders of `deskhand/skills`.

Their number is `metadata.version` in their front matter: whoever changes one raises it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..ports.store import SkillRecord, SkillVersionRecord
from .skill_bundle import SkillBundle, read_folder

FOLDER: Final = Path(__file__).parents[1] / "skills"
PREFIX: Final = "deskhand-"
CREATED_AT: Final = 1_790_000_000
"""A date before any skill of a project: curated ones are the oldest in lists."""


@dataclass(frozen=True, slots=True)
class CuratedSkill:
    """A skill of Deskhand's own, with its one version."""

    skill: SkillRecord
    version: SkillVersionRecord
    archive: bytes


def read_curated(folder: Path = FOLDER) -> dict[str, CuratedSkill]:
    """The curated skills by id, in the order of their ids. Blocking; some milliseconds."""
    found = [
        _curated(path.name, read_folder(path)) for path in sorted(folder.iterdir()) if (path / "SKILL.md").exists()
    ]
    return {curated.skill.id: curated for curated in found}


def _curated(folder: str, bundle: SkillBundle) -> CuratedSkill:
    id_, number = PREFIX + folder, int(bundle.front_matter.metadata["version"])
    skill = SkillRecord(id_, "", CREATED_AT, number, number, bundle.name, bundle.description)
    digest = hashlib.sha256(bundle.archive).hexdigest()
    version = SkillVersionRecord(f"{id_}-{number}", id_, number, CREATED_AT, bundle.name, bundle.description, digest)
    return CuratedSkill(skill, version, bundle.archive)
