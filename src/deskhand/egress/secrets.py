"""Secrets that a container may use and never sees: placeholders in, values out, values masked on the way back. Pure.

A process finds a random placeholder in its environment. In the header of a request over TLS to the secret's own host
the placeholder is replaced by the value; anywhere else such a request is refused, so that nothing is sent that cannot
work. Values are masked in whatever comes back, also as base64, percent-encoding, JSON, HTML and hex would write them.
"""

import base64
import heapq
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from .spellings import in_text, in_urls

MARK: Final = b"deskhand-secret-"
_MOST_RETIRED: Final = 8
SHORTEST_ENCODED: Final = 6
"""Bytes of a value below which its encodings are too short to be told from other text; itself is always masked."""

_SIGNS: Final = (b"%", b"\\", b"&")
"""One of them is in most spellings of a value, and in most data there is none."""

_BASIC: Final = re.compile(rb"(?i:basic)[ \t]+([A-Za-z0-9+/]+)={0,2}[ \t]*")
_CREDENTIALS: Final = frozenset((b"authorization", b"proxy-authorization"))

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Secret:
    """A value for one host, and the placeholder that stands for it inside the container."""

    name: str
    domain: str
    placeholder: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Injected:
    """Headers with values in place of placeholders, and the names of the secrets that they hold."""

    headers: Headers = field(repr=False)
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A placeholder is where its value must not go. `why` is written for the process that sent it."""

    name: str
    why: str


@dataclass(frozen=True)
class Vault:
    """The secrets of one container. `retired` values are masked and never sent."""

    secrets: tuple[Secret, ...] = ()
    retired: tuple[Secret, ...] = field(default=(), repr=False)

    @property
    def empty(self) -> bool:
        """True if there is nothing to inject or to mask."""
        return not self.secrets and not self.retired

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that the container sees."""
        return {secret.name: secret.placeholder for secret in self.secrets}

    @cached_property
    def mask(self) -> "Mask":
        """What replaces values by their placeholders."""
        return Mask({form: hidden.placeholder.encode() for hidden in self._hidden for form in forms(hidden.value)})

    @cached_property
    def blank(self) -> "Mask":
        """What blots values out and keeps every length, for protocols that count bytes (WebSocket frames)."""
        return Mask({form: b"*" * len(form) for hidden in self._hidden for form in forms(hidden.value)})

    def prepared(self) -> "Vault":
        """Itself, with its masks made: long values with many signs take a tenth of a second, and so a thread."""
        _ = self.mask, self.blank
        return self

    @property
    def _hidden(self) -> Sequence[Secret]:
        return (*self.retired, *self.secrets)

    def updated(self, fresh: Iterable[Secret]) -> "Vault":
        """The vault with other values for secrets that it has.

        The old values stay masked: the last of each secret, and the last few of all.
        """
        new = {(secret.name, secret.domain): secret for secret in fresh}
        old = tuple(s for s in self.secrets if (s.name, s.domain) in new and new[s.name, s.domain].value != s.value)
        kept = tuple(new.get((s.name, s.domain), s) for s in self.secrets)
        retired = (*self.retired, *old)
        last = {(secret.name, secret.domain): place for place, secret in enumerate(retired)}
        masked = {*last.values(), *range(len(retired))[-_MOST_RETIRED:]}
        return replace(self, secrets=kept, retired=tuple(retired[place] for place in sorted(masked)))

    def inject(self, target: bytes, headers: Headers, host: str, *, encrypted: bool) -> Injected | Misplaced:
        """The request with values for `host`, if every placeholder in it may become one."""
        names = {secret.placeholder.encode(): secret.name for secret in self.secrets}
        values = {s.placeholder.encode(): s.value for s in self.secrets if s.domain == host} if encrypted else {}
        if found := _found(names, target):
            return Misplaced(names[found[0]], "a secret's placeholder works in a header of a request, not in its URL")
        used: list[str] = []
        changed: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            opened = _open_basic(name, value)
            spelled = value if opened is None else opened
            for placeholder in (found := _found(names, spelled)):
                if placeholder not in values:
                    return Misplaced(names[placeholder], _misplaced(host, encrypted=encrypted))
                spelled = spelled.replace(placeholder, values[placeholder])
                used.append(names[placeholder])
            if found and opened is not None:
                spelled = b"Basic " + base64.b64encode(spelled)
            changed.append((name, spelled if found else value))
        return Injected(changed, sorted(set(used)))


class Mask:
    """Replaces forms of values by what stands for them: leftmost first, of those the longest.

    Each form is looked for by itself, which takes linear time; a regular expression of them all would not, and whoever
    chooses secrets and answers could make the server busy.
    """

    def __init__(self, replacements: Mapping[bytes, bytes]) -> None:
        self._replacements = replacements
        self._signed: dict[bytes, list[bytes]] = {}
        for form in replacements:
            self._signed.setdefault(next((sign for sign in _SIGNS if sign in form), b""), []).append(form)

    def whole(self, data: bytes) -> bytes:
        """`data` with every value masked."""
        told, _ = self._replace(data, len(data))
        return told

    def text(self, text: str) -> str:
        """The same for text."""
        return self.whole(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """What of a stream's `data` can be told already, masked, and the rest: the beginning of what may be a value.

        The rest is shorter than the longest form, and empty as soon as the end of `data` begins no form.
        """
        told, at = self._replace(data, self._undecided(data, 0))
        return told, data[at:]

    def _replace(self, data: bytes, hold: int) -> tuple[bytes, int]:
        """`data` masked up to the last form that begins before `hold`, or up to `hold`; and how far that is."""
        forms = (form for sign, forms in self._signed.items() if sign in data for form in forms)
        found = [(start, -len(form), form) for form in forms if (start := data.find(form)) >= 0]
        heapq.heapify(found)
        out: list[bytes] = []
        at = 0
        while found and found[0][0] < hold:
            start, _, form = heapq.heappop(found)
            if start >= at:
                out += (data[at:start], self._replacements[form])
                at = start + len(form)
                if at > hold:
                    hold = self._undecided(data, at)
            if (start := data.find(form, at)) >= 0:
                heapq.heappush(found, (start, -len(form), form))
        if at < hold:
            out.append(data[at:hold])
            at = hold
        return b"".join(out), at

    def _undecided(self, data: bytes, start: int) -> int:
        """Where, from `start` on, the end of `data` begins to be a form that is not whole yet."""
        return min((_overlap(data, form, start) for form in self._replacements), default=len(data))


class Masking:
    """Masks a stream that comes in pieces. `mask` may be another one for those that follow."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on."""
        done, self._held = self.mask.split(self._held + data)
        return done

    def finish(self) -> bytes:
        """What was held back."""
        held, self._held = self._held, b""
        return self.mask.whole(held)


def new_placeholder() -> str:
    """A placeholder that nobody can guess."""
    return MARK.decode() + secrets.token_hex(16)


def forms(value: bytes) -> set[bytes]:
    """How a value may be written in a response: as it is, and in the usual encodings if it is long enough.

    Base64 is spelled as any other text: in a string of JSON its slashes may be `\\/`.
    """
    found = {value}
    if len(value) < SHORTEST_ENCODED:
        return found
    found |= {value.hex().encode(), value.hex().upper().encode()}
    for told in (value, *_base64_forms(value)):
        found |= {told, *in_urls(told)}
        with suppress(UnicodeDecodeError):
            found.update(in_text(told.decode()))
    return found


def _base64_forms(value: bytes) -> set[bytes]:
    """The characters that any base64 text with the value in it has, for its three alignments and both alphabets.

    The first and last characters of a value depend on its neighbours; they are not part of a form.
    """
    found: set[bytes] = set()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + value)
        start = -(-lead * 8 // 6)
        end = (lead + len(value)) * 8 // 6
        core = encoded[start:end]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def _overlap(data: bytes, form: bytes, start: int) -> int:
    """Where, from `start` on, the end of `data` is the beginning of `form` and not all of it; its length if nowhere."""
    at = data.find(form[:1], max(start, len(data) - len(form) + 1))
    while at >= 0:
        if form.startswith(data[at:]):
            return at
        at = data.find(form[:1], at + 1)
    return len(data)


def _found(names: Mapping[bytes, str], data: bytes) -> list[bytes]:
    return [placeholder for placeholder in names if placeholder in data] if MARK in data else []


def _misplaced(host: str, *, encrypted: bool) -> str:
    if not encrypted:
        return "a secret is sent over https only"
    return f"this secret is not for '{host}'"


def _open_basic(name: bytes, value: bytes) -> bytes | None:
    """The credentials of HTTP Basic in clear text (RFC 7617); None for any other header."""
    match = _BASIC.fullmatch(value) if name.lower() in _CREDENTIALS else None
    if match is None:
        return None
    try:
        return base64.b64decode(match[1] + b"=" * (-len(match[1]) % 4), validate=True)
    except ValueError:
        return None
