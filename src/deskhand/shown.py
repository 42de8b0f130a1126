"""Words of others on the operator's terminal: seen, and not obeyed."""


def shown(text: str) -> str:
    """`text` as one line that a terminal takes for text: what controls it, or cannot be seen, is spelled out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
