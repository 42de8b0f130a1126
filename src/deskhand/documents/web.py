"""HTML pages."""

from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ..ports.documents import Section
from .markdown import bullet, heading, sections, squeezed, table
from .text import decode_page

_HEADINGS: Final = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_UNSEEN: Final = ("script", "style", "noscript", "template", "svg", "head", "iframe", "object", "canvas", "select")
_INLINE: Final = frozenset(
    ("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label",
     "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "img")
)  # fmt: skip
_LEAVES: Final = frozenset((*_HEADINGS, "pre", "table"))


def read(data: bytes) -> Iterator[Section]:
    """What a page shows, cut at its headings."""
    tree = LexborHTMLParser(decode_page(data))
    title = squeezed("".join(node.text() for node in tree.css("title")[:1]))
    tree.strip_tags(list(_UNSEEN))
    has_title = tree.css_first("h1") is not None or not title
    return sections(_blocks(tree, "" if has_title else heading(1, title)))


def _blocks(tree: LexborHTMLParser, first: str) -> Iterator[str]:
    yield first
    if tree.body is None:
        return
    words: list[str] = []
    depth = 0  # of lists
    listed: int | None = None  # at which the words are an entry
    # By hand, as a page may be nested deeper than Python calls.
    waiting: list[tuple[LexborNode, bool]] = [(tree.body, False)]
    while waiting:
        node, left = waiting.pop()
        tag = node.tag or ""
        if tag == "-text":
            words.append(node.text(deep=False) or node.text_content or "")
            continue
        if tag == "img":
            words.append(f" {node.attributes.get('alt') or ''} ")
            continue
        if tag not in _INLINE:
            yield _said(words, listed)
            words, listed = [], None
            depth += {"ul": 1, "ol": 1}.get(tag, 0) * (-1 if left else 1)
            listed = depth if tag == "li" and not left else None
        if left:
            continue
        if tag in _LEAVES:
            yield _leaf(node, tag)
            continue
        waiting.append((node, True))
        waiting.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
    yield _said(words, listed)


def _said(words: list[str], listed: int | None) -> str:
    text = squeezed("".join(words))
    return text if listed is None else bullet(text, listed - 1)


def _leaf(node: LexborNode, tag: str) -> str:
    if tag == "pre":
        text = node.text().strip("\n")
        return f"```\n{text}\n```" if text.strip() else ""
    if tag == "table":
        return table([cell.text() for cell in row.css("th, td")] for row in node.css("tr"))
    return heading(_HEADINGS[tag], node.text())
