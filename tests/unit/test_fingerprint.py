"""Fingerprints: the same for the same request however it is cut and sent, and different for any other."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.fingerprint import Fingerprint

# Few letters, so that boundaries occur, whole, halved and overlapping.
LETTERS = st.lists(st.sampled_from([b"a", b"b", b"aab", b"--"])).map(b"".join)


def taken(pieces: Sequence[bytes], *, boundary: bytes = b"", kind: str = "multipart/form-data; boundary=x") -> bytes:
    fingerprint = Fingerprint("POST", b"/v1/files?", kind, boundary)
    for piece in pieces:
        fingerprint.feed(piece)
    return fingerprint.value()


@given(st.lists(LETTERS), st.sampled_from([b"", b"a", b"aab", b"aaba"]))
def test_it_does_not_matter_how_a_body_is_cut(pieces: list[bytes], boundary: bytes) -> None:
    assert taken(pieces, boundary=boundary) == taken([b"".join(pieces)], boundary=boundary)


@given(st.lists(st.binary(max_size=20).filter(lambda part: b"-" not in part), min_size=1), st.integers(1, 9))
def test_a_form_is_the_same_under_another_boundary(parts: list[bytes], size: int) -> None:
    def form(boundary: bytes) -> list[bytes]:
        body = boundary.join(parts)
        return [body[start : start + size] for start in range(0, len(body), size)]

    one = taken(form(b"-one-"), boundary=b"-one-", kind="multipart/form-data; boundary=-one-")
    other = taken(form(b"-two--"), boundary=b"-two--", kind="multipart/form-data; boundary=-two--")
    assert one == other


@given(LETTERS, LETTERS)
def test_other_bodies_have_other_fingerprints(one: bytes, other: bytes) -> None:
    assert (taken([one]) == taken([other])) is (one == other)


def test_everything_that_says_what_is_asked_counts() -> None:
    asked = {
        Fingerprint(method, target, kind).value()
        for method in ("POST", "PUT")
        for target in (b"/v1/a?", b"/v1/a?x=1", b"/v1/b?")
        for kind in ("", "application/json", "text/plain")
    }
    assert len(asked) == 18
