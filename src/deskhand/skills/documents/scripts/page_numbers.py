"""Page numbers such as `1-3,7`."""

import sys


def numbers(text, count):
    """The pages that `text` names, in its order; all of them if there is no text."""
    if not text:
        return list(range(1, count + 1))
    found = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            sys.exit(f"{part!r} is not a page or a range of pages such as 2-5")
        found += range(int(first), int(last or first) + 1)
    if not found or min(found) < 1 or max(found) > count:
        sys.exit(f"the file has pages 1 to {count}, not {text}")
    return found
