"""Secrets: placeholders become values for one host only, and values never come back, however they are written."""

import base64
import gzip
import html
import json
import re
import zlib
from urllib.parse import quote

import brotli  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deskhand.egress.decoding import BadEncoding, decoder
from deskhand.egress.environment import objection, variables
from deskhand.egress.frames import Frames
from deskhand.egress.sealing import BadKey, Sealer, Unsealable
from deskhand.egress.secrets import Injected, Masking, Misplaced, Secret, Vault, forms, new_placeholder

VALUE = b'sk-"live"/Zq9+x=&%1\xc3\xa9'
ONE = Secret("API_KEY", "api.test", "deskhand-secret-" + "1" * 32, VALUE)
TWO = Secret("OTHER", "other.test", "deskhand-secret-" + "2" * 32, b"another-value-entirely")
VAULT = Vault((ONE, TWO))

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
BYTES = st.binary(min_size=1, max_size=12)


def inject(*headers: tuple[str, bytes], host: str = "api.test", encrypted: bool = True) -> Injected | Misplaced:
    given_ = [(name.encode(), value) for name, value in headers]
    return VAULT.inject(b"/", given_, host, encrypted=encrypted)


def test_a_placeholder_becomes_the_value_for_its_own_host() -> None:
    done = inject(("authorization", b"Bearer " + ONE.placeholder.encode()), ("x", b"y"))
    assert isinstance(done, Injected)
    assert done.headers == [(b"authorization", b"Bearer " + VALUE), (b"x", b"y")]
    assert done.names == ["API_KEY"]
    assert "sk-" not in repr(done) + repr(VAULT) + repr(ONE)


def test_a_placeholder_for_anything_else_is_refused_by_name() -> None:
    header = ("authorization", ONE.placeholder.encode())
    for refused in (
        inject(header, host="other.test"),
        inject(header, host="x.api.test"),
        inject(header, encrypted=False),
    ):
        assert isinstance(refused, Misplaced)
        assert refused.name == "API_KEY"
    in_url = VAULT.inject(b"/?" + ONE.placeholder.encode(), [], "api.test", encrypted=True)
    assert isinstance(in_url, Misplaced)
    assert isinstance(inject(("x", TWO.placeholder.encode())), Misplaced)


def test_a_placeholder_of_another_container_is_only_text() -> None:
    header = (b"x", new_placeholder().encode())
    assert VAULT.inject(b"/", [header], "api.test", encrypted=True) == Injected([header], [])


def test_basic_credentials_are_opened_and_closed_again() -> None:
    given_ = b"basic " + base64.b64encode(b"user:" + ONE.placeholder.encode())
    done = inject(("authorization", given_))
    assert isinstance(done, Injected)
    assert done.headers == [(b"authorization", b"Basic " + base64.b64encode(b"user:" + VALUE))]
    untouched = inject(("authorization", b"Basic !!!"), ("x", given_))
    assert isinstance(untouched, Injected)
    assert untouched.headers == [(b"authorization", b"Basic !!!"), (b"x", given_)]


def test_a_value_of_a_secret_for_two_hosts_depends_on_the_host() -> None:
    both = Vault((ONE, Secret(ONE.name, "b.test", ONE.placeholder, b"value-for-b")))
    header = [(b"x", ONE.placeholder.encode())]
    assert both.inject(b"/", header, "b.test", encrypted=True) == Injected([(b"x", b"value-for-b")], ["API_KEY"])


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        base64.b64encode(b"u:" + VALUE),
        base64.urlsafe_b64encode(b"xyz" + VALUE + b"tail"),
        base64.b64encode(b"\xff" + VALUE),
        quote(VALUE, safe="").encode(),
        re.sub("%..", lambda m: m[0].lower(), quote(VALUE, safe="")).encode(),
        json.dumps(VALUE.decode())[1:-1].encode(),
        json.dumps(VALUE.decode(), ensure_ascii=False)[1:-1].replace("/", "\\/").encode(),
        html.escape(VALUE.decode()).encode(),
        VALUE.hex().encode(),
        VALUE.hex().upper().encode(),
        rb"sk-\"live\"/Zq9+x=\u0026%1" + "é".encode(),  # JSON of Go
        rb"sk-\u0022live\u0022/Zq9\u002Bx=\u0026%1\u00E9",  # JSON of .NET
        "sk-&#34;live&#34;/Zq9&#43;x=&amp;%1é".encode(),  # HTML of Go
        "sk-&quot;live&quot;/Zq9+x&#x3D;&amp;%1é".encode(),  # HTML of Handlebars
        json.dumps(base64.b64encode(b"u:" + VALUE).decode()).replace("/", "\\/").encode(),  # JSON of PHP
        quote(base64.b64encode(b"u:" + VALUE), safe="").encode(),
    ],
)
def test_every_usual_way_to_write_a_value_is_masked(written: bytes) -> None:
    masked = VAULT.mask.whole(b"before " + written + b" after")
    assert ONE.placeholder.encode() in masked
    blanked = VAULT.blank.whole(written)
    assert len(blanked) == len(written)
    assert b"*" * 20 in blanked


@pytest.mark.parametrize(
    "written",
    ["pass!w%C3%B6rd(1)%20%2B", "pass!w%c3%b6rd(1)%20%2b", "pass!w%C3%B6rd(1)%20+", "pass%21w%C3%B6rd%281%29+%2B"],
)
def test_what_other_languages_leave_bare_in_urls_is_masked(written: str) -> None:
    vault = Vault((Secret("PASSWORD", "api.test", "<placeholder>", "pass!wörd(1) +".encode()),))
    assert vault.mask.text(f"/?q={written}&x=1") == "/?q=<placeholder>&x=1"


def test_retired_values_stay_masked_and_are_not_sent() -> None:
    fresh = VAULT.updated([Secret(ONE.name, ONE.domain, ONE.placeholder, b"fresh-value")])
    done = fresh.inject(b"/", [(b"x", ONE.placeholder.encode())], "api.test", encrypted=True)
    assert isinstance(done, Injected)
    assert done.headers == [(b"x", b"fresh-value")]
    assert fresh.mask.whole(VALUE + b"fresh-value") == ONE.placeholder.encode() * 2
    assert fresh.updated([ONE]).mask.whole(b"fresh-value") == ONE.placeholder.encode()


def test_however_many_are_exchanged_at_once_each_old_value_stays_masked() -> None:
    old = [Secret(f"S{n}", "h.test", f"<{n}>", b"old-value-%02d" % n) for n in range(64)]
    fresh = [Secret(f"S{n}", "h.test", f"<{n}>", b"new-value-%02d" % n) for n in range(64)]
    masked = Vault(tuple(old)).updated(fresh).mask.whole(b" ".join(one.value for one in old))
    assert b"old-value" not in masked
    vault = Vault(tuple(old))
    for turn in range(20):  # what is kept of them has an end
        vault = vault.updated([Secret("S1", "h.test", "<1>", b"value-of-turn-%02d" % turn)])
    assert len(vault.retired) < 20


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@UNHURRIED
@given(st.data(), st.lists(BYTES, min_size=1, max_size=4, unique=True), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_chunking_masks_the_same(data: st.DataObject, values: list[bytes], cuts: list[int]) -> None:
    vault = Vault(tuple(Secret(f"S{n}", "h.test", f"<{n}>", value) for n, value in enumerate(values)))
    parts = data.draw(st.lists(st.sampled_from([form for v in values for form in forms(v)]) | BYTES, max_size=8))
    text = b"".join(parts)
    masking = Masking(vault.mask)
    masked = b"".join(masking.feed(piece) for piece in in_pieces(text, cuts)) + masking.finish()
    assert masked == vault.mask.whole(text)
    blanking = Masking(vault.blank)
    blanked = b"".join(blanking.feed(piece) for piece in in_pieces(text, cuts)) + blanking.finish()
    assert len(blanked) == len(text)


@UNHURRIED
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 400), st.sampled_from(sorted(forms(VALUE))))
def test_no_form_survives_anywhere_at_any_cut(before: bytes, after: bytes, cut: int, form: bytes) -> None:
    text = before + form + after
    masking = Masking(VAULT.mask)
    cut %= len(text)
    told = masking.feed(text[:cut]) + masking.feed(text[cut:]) + masking.finish()
    assert form not in told
    assert VALUE not in told


@UNHURRIED
@given(st.binary(max_size=300))
def test_what_holds_no_value_passes_at_once_but_for_what_may_begin_one(text: bytes) -> None:
    assume(all(form not in text for secret in (ONE, TWO) for form in forms(secret.value)))
    told, held = VAULT.mask.split(text)
    assert told + held == text
    assert not held or any(f.startswith(held[:1]) for s in (ONE, TWO) for f in forms(s.value))


def read_all(encoding: bytes, packed: bytes) -> bytes:
    reading = decoder([encoding])
    body = b"".join(reading.feed(packed))
    reading.finish()
    return body


@UNHURRIED
@given(
    st.binary(max_size=5000),
    st.lists(st.integers(0, 10_000), max_size=6),
    st.sampled_from(["gzip", "deflate", "raw", "br"]),
)
def test_compressed_bodies_are_read_in_any_pieces(body: bytes, cuts: list[int], how: str) -> None:
    if how == "gzip":
        packed = gzip.compress(body[:100]) + gzip.compress(body[100:])
    elif how == "br":
        packed = brotli.compress(body)
    else:
        packed = zlib.compress(body, wbits=15 if how == "deflate" else -15)
    assume(how != "raw" or packed[0] & 0x0F != 8)
    name = b"deflate" if how == "raw" else how.encode()
    reading = decoder([name])
    assert b"".join(out for piece in in_pieces(packed, cuts) for out in reading.feed(piece)) == body
    reading.finish()
    assume(len(packed) > 1)
    with pytest.raises(BadEncoding):
        read_all(name, packed[:-1])


def test_a_bomb_comes_out_in_small_pieces() -> None:
    for name, bomb in ((b"gzip", gzip.compress(bytes(50 << 20))), (b"br", brotli.compress(bytes(50 << 20)))):
        sizes = [len(piece) for piece in decoder([name]).feed(bomb)]
        assert sum(sizes) == 50 << 20
        assert max(sizes) <= 1 << 20


def test_unknown_encodings_are_not_guessed() -> None:
    for encodings in ([b"zstd"], [b"gzip", b"br"], [b"x-new"]):
        with pytest.raises(BadEncoding):
            decoder(encodings)
    with pytest.raises(BadEncoding):
        list(decoder([b"gzip"]).feed(b"plain text"))
    assert list(decoder([b"identity"]).feed(b"as it is")) == [b"as it is"]


def frame(payload: bytes, *, long: bool = False) -> bytes:
    size = len(payload)
    if long:
        return b"\x82\x7f" + size.to_bytes(8) + payload
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


@UNHURRIED
@given(
    st.lists(st.tuples(st.sampled_from([b"", b"x", VALUE, VALUE[:5], b"a" * 200 + VALUE]), st.booleans()), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_frames_are_masked_one_by_one_in_any_pieces(given_: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    sent = b"".join(frame(payload, long=long) for payload, long in given_)
    wanted = b"".join(frame(VAULT.blank.whole(payload), long=long) for payload, long in given_)
    frames, came = Frames(VAULT.blank), b""
    for piece in in_pieces(sent, cuts):
        frames.feed(piece)
        while told := frames.next():
            came += told
    assert came == wanted
    assert frames.finish() == b""


def test_a_frame_that_is_cut_off_is_told_as_far_as_it_came() -> None:
    frames = Frames(VAULT.blank)
    frames.feed(frame(VALUE)[:-1])
    assert frames.next() == frame(VALUE)[:2]
    assert frames.finish() == VALUE[:-1]
    frames = Frames(VAULT.blank)
    frames.feed(b"\x81")
    assert (frames.next(), frames.finish(), frames.finish()) == (b"", b"\x81", b"")


def test_values_that_begin_and_end_alike_are_told_apart() -> None:
    values = [b"a" * (500 + n) for n in range(8)]
    vault = Vault(tuple(Secret(f"S{n}", "h.test", f"<{n}>", value) for n, value in enumerate(values)))
    text = (b"a" * 499 + b"b") * 100
    assert vault.mask.whole(text) == text
    told, held = vault.mask.split(text + b"a" * 300)
    assert (told, held) == (text, b"a" * 300)
    assert vault.mask.whole(b"a" * 1007) == b"<7>" + b"<0>"


def test_sealed_values_open_in_their_own_place_only() -> None:
    sealer = Sealer(["k" * 32])
    sealed = sealer.seal(VALUE, ("proj", "cntr_1", "API_KEY", "api.test"))
    assert VALUE not in sealed
    assert sealer.open(sealed, ("proj", "cntr_1", "API_KEY", "api.test")) == VALUE
    assert sealer.seal(VALUE, ()) != sealer.seal(VALUE, ())
    for context in (("proj", "cntr_2", "API_KEY", "api.test"), ("projc", "ntr_1", "API_KEY", "api.test"), ()):
        with pytest.raises(Unsealable):
            sealer.open(sealed, context)
    for bad in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", b"\x01", b"\x02" + sealed[1:]):
        with pytest.raises(Unsealable):
            sealer.open(bad, ("proj", "cntr_1", "API_KEY", "api.test"))


def test_keys_can_be_changed_while_old_values_are_kept() -> None:
    old, new = "o" * 32, "n" * 32
    sealed = Sealer([old]).seal(b"v", ("c",))
    both = Sealer([new, old])
    assert both.open(sealed, ("c",)) == b"v"
    assert Sealer([new]).open(both.seal(b"v", ("c",)), ("c",)) == b"v"
    with pytest.raises(Unsealable):
        Sealer([new]).open(sealed, ("c",))
    for bad in ([], ["short"]):
        with pytest.raises(BadKey):
            Sealer(bad)


def test_names_of_variables_that_programs_read_are_reserved() -> None:
    for name in ("OPENAI_API_KEY", "TOKEN", "_x", "a1"):
        assert objection(name) == ""
    for name in ("", "1A", "A-B", "A B", "É", "A" * 129, "PATH", "path", "LD_PRELOAD", "PYTHONPATH", "DESKHAND_X",
                 *variables("/f", "http://127.0.0.1:3128")):  # fmt: skip
        assert objection(name) != "", name
