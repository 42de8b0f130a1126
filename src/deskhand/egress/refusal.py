"""The proxy's own answers: one line that a program can read, a header, and a status line that says the same. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Final

import h11

from .door import Attempt, Refused

MOST_NAMED: Final = 32
_UNFIT: Final = re.compile(r"[^\x20-\x7e]")


def refusal(refused: Refused, attempt: Attempt, domains: Sequence[str]) -> tuple[h11.Response, bytes]:
    """The head and the body of the answer; `domains` are those that the container may reach."""
    fields: dict[str, object] = {
        "error": "egress_denied" if refused.denied else "egress_failed",
        "reason": refused.reason,
        "host": attempt.host,
        "port": attempt.port,
        "rule": refused.rule,
        "message": refused.words,
    }
    if refused.reason == "domain_not_allowed":
        fields["allowed_domains"] = list(domains[:MOST_NAMED])
    body = json.dumps(fields).encode() + b"\n"
    word = "denied" if refused.denied else "failed"
    # Some clients show nothing of a refused CONNECT but its reason phrase.
    phrase = f"Egress {word}: {refused.reason}"
    headers = [
        ("x-deskhand-egress", _UNFIT.sub("?", f"{word}; reason={refused.reason}; rule={refused.rule}")),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    return h11.Response(status_code=refused.status, headers=headers, reason=phrase.encode()), body
