"""Reasoning in an opaque form, for clients that keep the conversation themselves (`reasoning.encrypted_content`).

An upstream that seals its reasoning does so itself, and what it made is passed through. For those that show their
reasoning instead, this makes a form that survives clients which drop everything but the sealed one. It hides nothing:
the client has seen the text.
"""

import base64

_MARK = "deskhand:"


def seal(text: str) -> str:
    """The opaque form of `text`."""
    return _MARK + base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()


def unseal(blob: str) -> str | None:
    """The text in `blob`; None if another made it, or somebody changed it."""
    if not blob.startswith(_MARK):
        return None
    try:
        return base64.b64decode(blob.removeprefix(_MARK), altchars=b"-_", validate=True).decode()
    except ValueError:
        return None
