"""What is wrong with a body, in OpenAI's words: from msgspec's complaint to message, `code` and `param`."""

import re

import msgspec

from .errors import ApiError

_COMPLAINTS = (
    (r"Object contains unknown field `(?P<field>.*)`", "unknown_parameter", "Unknown parameter: '{path}'."),
    (
        r"Object missing required field `(?P<field>.*)`",
        "missing_required_parameter",
        "Missing required parameter: '{path}'.",
    ),
    (r"Expected `(?:int|float)` >= (?P<bound>.*)", "integer_below_min_value", "Invalid '{path}': must be >= {bound}."),
    (r"Expected `(?:int|float)` <= (?P<bound>.*)", "integer_above_max_value", "Invalid '{path}': must be <= {bound}."),
    (
        r"Expected `str` of length <= (?P<bound>.*)",
        "string_above_max_length",
        "Invalid '{path}': string too long, at most {bound} characters.",
    ),
    (
        r"Expected `(?:array|object)` of length <= (?P<bound>.*)",
        "array_above_max_length",
        "Invalid '{path}': too long, at most {bound} entries.",
    ),
    (r"Expected `\w+` of length >= (?P<bound>.*)", "invalid_value", "Invalid '{path}': at least {bound} needed."),
    (r"Expected `str` matching regex '(?P<bound>.*)'", "invalid_value", "Invalid '{path}': must match {bound}."),
    (r"Invalid (?:enum )?value (?P<bound>.*)", "invalid_value", "Invalid value for '{path}': {bound}."),
    (r"Expected `(?P<bound>.*)", "invalid_type", "Invalid type for '{path}': expected `{bound}."),
)


def api_error(complaint: msgspec.ValidationError, prefix: str = "") -> ApiError:
    """The 400 for a body that does not validate; `prefix` says where in the request the value stood."""
    text, _, at = str(complaint).partition(" - at ")
    path = _join(prefix, at.removeprefix("`key` in ").strip("`").removeprefix("$"))
    for pattern, code, words in _COMPLAINTS:
        if match := re.fullmatch(pattern, text, re.DOTALL):
            groups = match.groupdict()
            if field := groups.pop("field", None):
                path = _join(path, f".{field}")
            return ApiError(words.format(path=path or "body", **groups), code=code, param=path or None)
    return ApiError(f"Invalid '{path or 'body'}': {text}.", code="invalid_value", param=path or None)


def _join(prefix: str, path: str) -> str:
    # msgspec names keys of free-form objects `[...]`.
    return (prefix + path.replace("[...]", "")).lstrip(".")
