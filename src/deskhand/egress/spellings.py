"""How servers write a text that they repeat: in URLs, in JSON, in HTML. Pure.

Each encodes other characters than the next one, and a text with `+` or `/` in it, as keys in base64 have, has many
spellings. Sources: RFC 3986, the URL and HTML standards, and what the libraries named below document.
"""

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

_BARE_IN_URLS: Final = (
    "",  # RFC 3986's unreserved characters alone; Go's QueryEscape
    "/",  # Python's quote
    "!'()*",  # JavaScript's encodeURIComponent
    ";,/?:@&=+$#!'()*",  # JavaScript's encodeURI
    "*",  # forms, as browsers and Java send them
    "$&+=:@",  # Go's PathEscape
    "!$&'()*+,;=:@",  # a segment of a path, RFC 3986
    "!$&'()*+,;=:@/",  # a path
)
_MARKUP: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_HTML: Final = tuple(
    _MARKUP | more
    for more in (
        {},
        {'"': "&quot;", "'": "&#x27;"},  # Python
        {'"': "&quot;", "'": "&#39;"},  # Ruby, Lodash
        {'"': "&quot;", "'": "&#039;"},  # PHP
        {'"': "&#34;", "'": "&#39;"},  # Jinja
        {'"': "&#34;", "'": "&#39;", "+": "&#43;"},  # Go
        {'"': "&quot;", "'": "&#x27;", "+": "&#x2B;", "`": "&#x60;"},  # .NET
        {'"': "&quot;", "'": "&#x27;", "=": "&#x3D;", "`": "&#x60;"},  # Handlebars
        {'"': "&quot;", "'": "&#39;", "=": "&#x3D;", "`": "&#x60;", "/": "&#x2F;"},  # Mustache
    )
)
_JSON_FOR_HTML: Final = {sign: f"\\u{ord(sign):04x}" for sign in "<>&"}
"""Go, Rails."""
_JSON_ASCII: Final = {sign: f"\\u{ord(sign):04X}" for sign in "<>&'+`"} | {'\\"': "\\u0022"}
""".NET."""
_PERCENT: Final = re.compile("%..")
_UNICODE: Final = re.compile(r"\\u....")


def in_urls(data: bytes) -> set[bytes]:
    """Percent-encodings of any bytes (RFC 3986, 2.1), also those with a plus for a blank."""
    upper = quote(data, safe="")
    lower = _PERCENT.sub(lambda found: found[0].lower(), upper)
    found = set()
    for case, quoted in ((str.upper, upper), (str.lower, lower)):
        for bare in _BARE_IN_URLS:
            spelled = _replaced(quoted, {case(f"%{ord(sign):02X}"): sign for sign in bare})
            for tilde in (spelled, spelled.replace("~", case("%7E"))):
                found |= {tilde.encode(), tilde.replace("%20", "+").encode()}
    return found


def in_text(text: str) -> set[bytes]:
    """What a string of JSON and what HTML say for a text."""
    spelled = {_replaced(text, table) for table in _HTML}
    for plain in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        for one in (plain, _replaced(plain, _JSON_FOR_HTML), _replaced(plain, _JSON_ASCII)):
            digits = _UNICODE.sub(lambda found: "\\u" + found[0][2:].upper(), one)
            spelled |= {one, digits, one.replace("/", "\\/"), digits.replace("/", "\\/")}
    return {one.encode() for one in spelled}


def _replaced(text: str, table: Mapping[str, str]) -> str:
    """One replacement after the other, which is faster than a translation; none may be in what another one makes."""
    for sign, spelled in table.items():
        text = text.replace(sign, spelled)
    return text
