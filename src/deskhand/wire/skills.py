"""Skills: their resources, and how requests name them (API reference, "Skills")."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_INLINE_CHARACTERS = 70_254_592
"""Longest base64 of an inline skill (OpenAPI snapshot, InlineSkillSourceParam)."""


class SkillReference(Struct, frozen=True, kw_only=True, tag_field="type", tag="skill_reference"):
    """An uploaded skill: its default version, "latest", or a number (the guide shows integers, the SDK strings)."""

    skill_id: Annotated[str, Meta(min_length=1, max_length=64)]
    version: str | int | None = None


class InlineSource(Struct, frozen=True, kw_only=True):
    """A zip in the request itself."""

    type: Literal["base64"]
    media_type: Literal["application/zip"]
    data: Annotated[str, Meta(min_length=1, max_length=MAX_INLINE_CHARACTERS)]


class InlineSkill(Struct, frozen=True, kw_only=True, tag_field="type", tag="inline"):
    """A skill that is not kept. Name and description must be those of its SKILL.md."""

    name: Annotated[str, Meta(min_length=1)]
    description: Annotated[str, Meta(min_length=1)]
    source: InlineSource


HostedSkill = SkillReference | InlineSkill
HostedSkills = Annotated[list[HostedSkill], Meta(max_length=200)]


class UpdateSkill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/skills/{id}`."""

    default_version: str


class Skill(Struct, frozen=True, kw_only=True):
    """A skill resource: name and description are those of its default version."""

    id: str
    created_at: int
    default_version: str
    description: str
    latest_version: str
    name: str
    object: Literal["skill"] = "skill"


class SkillVersion(Struct, frozen=True, kw_only=True):
    """An immutable version of a skill."""

    id: str
    created_at: int
    description: str
    name: str
    skill_id: str
    version: str
    object: Literal["skill.version"] = "skill.version"
