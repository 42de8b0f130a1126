"""The list of models as Codex wants it: with what its own list says of OpenAI's models. Pure.

The fields are those without which Codex 0.169 does not take an entry (measured), and those that give its agent the
tools that it has with OpenAI's models. What depends on the model, and is not known here, is left to its defaults.
"""

from collections.abc import Sequence
from typing import Any, Final

INSTRUCTIONS: Final = (
    "You are a coding agent that works in the user's workspace through the tools that you are given. Read what is"
    " there before you change it. Make the smallest change that does what was asked, in the style of what is "
    "around it. Change files with apply_patch. Check your work by running what the project has for that, such as "
    "its tests. Do not undo or overwrite what the user did, and do not touch what you were not asked about. Say "
    "at the end, in a few words, what you changed, how you checked it, and what is left to do."
)
_TRUNCATION: Final = {"mode": "tokens", "limit": 10_000}
"""How much of one tool's output Codex keeps."""
_CONTEXT_WINDOW: Final = 128_000
"""What a current model has at least. From nine tenths of it on, Codex compacts."""


def catalogue(names: Sequence[str]) -> dict[str, Any]:
    """The answer to `GET /v1/models?client_version=…`."""
    return {"models": [_entry(name, priority) for priority, name in enumerate(names)]}


def _entry(name: str, priority: int) -> dict[str, Any]:
    return {
        "slug": name,
        "display_name": name,
        "description": None,
        "supported_reasoning_levels": [],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "base_instructions": INSTRUCTIONS,
        "support_verbosity": False,
        "apply_patch_tool_type": "freeform",
        "truncation_policy": _TRUNCATION,
        "supports_parallel_tool_calls": True,
        "context_window": _CONTEXT_WINDOW,
        "experimental_supported_tools": [],
    }
