"""The front matter of a SKILL.md, checked as the Agent Skills standard says (agentskills.io/specification). Pure.

Every scalar is text, as in the standard's own validator. YAML that means more than it shows is refused: anchors and
aliases (which can grow without bound), tags, repeated keys, several documents, deep nesting. Keys that the standard
does not name are left to those who do.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_BYTES: Final = 16 << 10
MAX_DEPTH: Final = 8
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 1024
MAX_COMPATIBILITY: Final = 500

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_BLOCK = re.compile(rb"---[ \t]*\r?\n(.*?\r?\n)---[ \t]*(\r?\n|\Z)", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


class BadSkill(Exception):
    """A skill that cannot be taken; the message says what is wrong with it and what would be right."""


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What a skill says of itself. `description` is one line; `metadata` is the author's own."""

    name: str
    description: str
    metadata: Mapping[str, str]


def read_front_matter(content: bytes) -> FrontMatter:
    """The front matter at the start of a SKILL.md. Raises `BadSkill`."""
    block = _BLOCK.match(content.removeprefix(_BOM)[: MAX_BYTES + 64])
    if block is None or len(block[1]) > MAX_BYTES:
        raise BadSkill(
            f"SKILL.md must begin with front matter: YAML of at most {MAX_BYTES} bytes between two lines '---'."
        )
    try:
        fields = _load(block[1].decode())
    except UnicodeDecodeError:
        raise BadSkill("The front matter of SKILL.md is not UTF-8.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        raise BadSkill(f"The front matter of SKILL.md is not YAML: {_first_line(exc)}") from None
    return _checked(fields)


def _load(text: str) -> dict[str, Any]:
    depth = 0
    # Events come without recursion, so this bounds what is composed below.
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise BadSkill("The front matter of SKILL.md may not use YAML anchors, aliases or tags.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadSkill(f"The front matter of SKILL.md is nested more than {MAX_DEPTH} deep.")
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    if not isinstance(root, yaml.MappingNode):
        raise BadSkill("The front matter of SKILL.md must be a YAML mapping with 'name' and 'description'.")
    keys = [key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)]
    if len(keys) != len(root.value) or len(set(keys)) != len(keys):
        raise BadSkill("The front matter of SKILL.md has a key twice, or one that is not text.")
    fields: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)
    return fields


def _checked(fields: Mapping[str, Any]) -> FrontMatter:
    name = _text(fields, "name")
    if name is None or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise BadSkill(
            f"'name' in the front matter of SKILL.md must be 1 to {MAX_NAME} of a-z, 0-9 and single hyphens between "
            "them."
        )
    description = _text(fields, "description")
    if description is None or not 1 <= len(description) <= MAX_DESCRIPTION:
        raise BadSkill(f"'description' in the front matter of SKILL.md must have 1 to {MAX_DESCRIPTION} characters.")
    compatibility = _text(fields, "compatibility")
    if compatibility is not None and not 1 <= len(compatibility) <= MAX_COMPATIBILITY:
        raise BadSkill(
            f"'compatibility' in the front matter of SKILL.md must have 1 to {MAX_COMPATIBILITY} characters."
        )
    _text(fields, "license")
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadSkill("'metadata' in the front matter of SKILL.md must map names to text.")
    return FrontMatter(name, description, metadata)


def _text(fields: Mapping[str, Any], key: str) -> str | None:
    """A field as one line of text that can be shown; None if it is not there."""
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadSkill(f"'{key}' in the front matter of SKILL.md must be text.")
    line = " ".join(value.split())
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in line):
        raise BadSkill(f"'{key}' in the front matter of SKILL.md has control characters.")
    return line


def _first_line(exc: Exception) -> str:
    return (getattr(exc, "problem", None) or str(exc)).splitlines()[0][:200] if str(exc) else type(exc).__name__
