"""The part of Markdown that documents are made of, as a list of blocks."""

import re

FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^(#{1,4})\s+(.*?)\s*#*$")
ITEM = re.compile(r"^(\s*)([-*+]|\d+[.)])\s+(.*)$")
IMAGE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]+)\)\s*$")
RULE = re.compile(r"^\s*([-*_])(\s*\1){2,}\s*$")
DIVIDER = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
INLINE = re.compile(r"(\*\*.+?\*\*|\*[^*\s][^*]*?\*|`[^`]+`)")


def blocks(text):
    """Pairs of a kind and its content, in order.

    heading (level, text), paragraph text, item (depth, numbered, text), quote text, code text, table rows,
    image (caption, path), page None.
    """
    lines, at, found = text.splitlines(), 0, []
    while at < len(lines):
        line = lines[at]
        if FENCE.match(line):
            end = next((i for i in range(at + 1, len(lines)) if FENCE.match(lines[i])), len(lines))
            found.append(("code", "\n".join(lines[at + 1 : end])))
            at = end + 1
        elif "|" in line and at + 1 < len(lines) and "|" in lines[at + 1] and DIVIDER.match(lines[at + 1]):
            end = next((i for i in range(at + 2, len(lines)) if "|" not in lines[i]), len(lines))
            found.append(("table", [cells(row) for row in [line, *lines[at + 2 : end]]]))
            at = end
        else:
            kind = one_line(line)
            at += 1
            if kind is not None:
                found.append(kind)
            elif line.strip():
                words = [line.strip()]
                while (
                    at < len(lines) and lines[at].strip() and one_line(lines[at]) is None and not FENCE.match(lines[at])
                ):
                    words.append(lines[at].strip())
                    at += 1
                found.append(("paragraph", " ".join(words)))
    return found


def one_line(line):
    """The block that a line is by itself; None for text."""
    if match := HEADING.match(line):
        return "heading", (len(match[1]), match[2])
    if match := IMAGE.match(line.strip()):
        return "image", (match[1], match[2])
    if RULE.match(line):
        return "page", None
    if match := ITEM.match(line):
        return "item", (len(match[1].expandtabs(4)) // 2, match[2][0].isdigit(), match[3])
    if line.lstrip().startswith(">"):
        return "quote", line.lstrip()[1:].strip()
    return None


def cells(row):
    """The cells of a table's row."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def runs(text):
    """Pairs of a style (plain, bold, italic, code) and text."""
    found = []
    for piece in INLINE.split(text):
        if piece.startswith("**") and len(piece) > 4:
            found.append(("bold", piece[2:-2]))
        elif piece.startswith("`") and len(piece) > 2:
            found.append(("code", piece[1:-1]))
        elif piece.startswith("*") and len(piece) > 2:
            found.append(("italic", piece[1:-1]))
        elif piece:
            found.append(("plain", piece))
    return found
