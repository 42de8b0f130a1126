"""Skill bundles: what is taken, packed the same way each time; whatever is hostile is refused whole."""

import io
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.engine.curated_skills import read_curated
from deskhand.engine.front_matter import MAX_BYTES, BadSkill, read_front_matter
from deskhand.engine.skill_bundle import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_UNPACKED_BYTES,
    MAX_UPLOAD_BYTES,
    read_archive,
    read_files,
)

MANIFEST = b"---\nname: csv-insights\ndescription: Summarise CSV files.\n---\n# Body\n"


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def with_entry(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> bytes:
    """A sound skill with one more entry."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("s/SKILL.md", MANIFEST)
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, content)
    return packed.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {entry.filename: files.read(entry) for entry in files.infolist()}


@pytest.mark.parametrize("top", ["anything/", ""])
@pytest.mark.parametrize("manifest", ["SKILL.md", "skill.MD"])
def test_a_skill_is_one_folder_or_bare_files(top: str, manifest: str) -> None:
    bundle = read_archive(zipped({f"{top}{manifest}": MANIFEST, f"{top}scripts/a.py": b"#!/usr/bin/env python3\n"}))
    assert (bundle.name, bundle.description) == ("csv-insights", "Summarise CSV files.")
    assert unpacked(bundle.archive) == {
        "csv-insights/SKILL.md": MANIFEST,
        "csv-insights/scripts/a.py": b"#!/usr/bin/env python3\n",
    }


def test_what_may_run_is_kept_and_no_other_bit() -> None:
    archive = read_archive(with_entry("s/tool", b"\x7fELF", stat.S_IFREG | 0o6777)).archive
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        modes = {entry.filename: entry.external_attr >> 16 for entry in files.infolist()}
    assert modes == {
        "csv-insights/SKILL.md": stat.S_IFREG | 0o444,
        "csv-insights/tool": stat.S_IFREG | 0o555,
    }


def test_what_macos_adds_is_left_out() -> None:
    files = {"s/SKILL.md": MANIFEST, "s/.DS_Store": b"x", "__MACOSX/s/._SKILL.md": b"x"}
    assert list(unpacked(read_archive(zipped(files)).archive)) == ["csv-insights/SKILL.md"]


def test_as_many_and_as_large_files_as_may_be_are_taken() -> None:
    many = {"s/SKILL.md": MANIFEST} | {f"s/{n}": b"" for n in range(MAX_FILES - 1)}
    assert len(unpacked(read_archive(zipped(many)).archive)) == MAX_FILES
    large = zipped({"s/SKILL.md": MANIFEST, "s/large": b"\0" * MAX_FILE_BYTES})
    assert len(unpacked(read_archive(large).archive)["csv-insights/large"]) == MAX_FILE_BYTES
    with pytest.raises(BadSkill, match=f"at most {MAX_FILES}"):
        read_archive(zipped(many | {"s/more": b""}))
    with pytest.raises(BadSkill, match=f"larger than {MAX_FILE_BYTES}"):
        read_archive(zipped({"s/SKILL.md": MANIFEST, "s/large": b"\0" * (MAX_FILE_BYTES + 1)}))
    with pytest.raises(BadSkill, match=f"at most {MAX_UPLOAD_BYTES}"):
        read_archive(b"\0" * (MAX_UPLOAD_BYTES + 1))


@pytest.mark.parametrize(
    "name",
    ["s/../x", "../x", "s/..", "/s/x", "//x", "s//x", "./s/x", "s/./x", "C:/x", "c:x", "s\\x", "s/a\\..\\b", "s/..\\x"],
)
def test_a_path_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BadSkill, match="not a path inside"):
        read_archive(with_entry(name))
    with pytest.raises(BadSkill, match="not a path inside"):
        read_files([("s/SKILL.md", MANIFEST), (name, b"x")])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_devices_and_other_special_files_are_refused(kind: int) -> None:
    with pytest.raises(BadSkill, match="special file"):
        read_archive(with_entry("s/x", b"/etc/passwd", kind | 0o777))
    assert read_archive(with_entry("s/x", b"/etc/passwd", stat.S_IFREG | 0o777))


@pytest.mark.parametrize(
    "name", ["s/a\0b", "s/a\nb", "s/a\x1bb", "s/a\u202eb", "s/a\u200bb", "s/a\u2028b", "s/\ufeffa"]
)
def test_a_name_with_unseen_characters_is_refused(name: str) -> None:
    # `zipfile` cuts a name at its NUL when it writes, so the name is put in afterwards.
    data = with_entry("s/" + "~" * len(name[2:].encode())).replace(b"s/" + b"~" * len(name[2:].encode()), name.encode())
    utf8 = bytearray(data)
    at = utf8.find(b"PK\x03\x04", 4)
    central = utf8.find(b"PK\x01\x02", utf8.find(b"PK\x01\x02") + 4)
    utf8[at + 7] |= 0x08
    utf8[central + 9] |= 0x08
    with pytest.raises(BadSkill, match="cannot be seen"):
        read_archive(bytes(utf8))
    with pytest.raises(BadSkill, match="cannot be seen"):
        read_files([("s/SKILL.md", MANIFEST), (name, b"x")])


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("s/a", "s/a", "twice"),
        ("s/a", "s/A", "only in case"),
        ("s/straße", "s/STRASSE", "only in case"),
        ("s/Dir/a", "s/dir/b", "only in case"),
        (unicodedata.normalize("NFC", "s/é"), unicodedata.normalize("NFD", "s/é"), "twice"),
        (unicodedata.normalize("NFC", "s/É"), unicodedata.normalize("NFD", "s/é"), "only in case"),
        ("s/a", "s/a/b", "a file and a folder"),
        ("s/SKILL.md", "s/skill.md", "only in case"),
        ("s/SKILL.md", "s/sub/SKILL.md", "exactly one"),
        ("s/SKILL.md", "t/x", "nothing beside"),
        ("s/x", "s/y", "exactly one"),
        ("s/t/SKILL.md", "s/t/x", "one folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_paths_that_collide_or_lie_outside_are_refused(one: str, other: str, words: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        if "SKILL.md" not in one and "x" not in one:
            archive.writestr("s/SKILL.md", MANIFEST)
        archive.writestr(one, MANIFEST)
        archive.writestr(other, b"other")
    with pytest.raises(BadSkill, match=words):
        read_archive(packed.getvalue())


def test_a_bomb_is_refused_before_and_while_it_is_inflated() -> None:
    parts = MAX_UNPACKED_BYTES // MAX_FILE_BYTES + 1
    bomb = zipped({"s/SKILL.md": MANIFEST} | {f"s/{n}": b"\0" * MAX_FILE_BYTES for n in range(parts)})
    assert len(bomb) < 1 << 20
    with pytest.raises(BadSkill, match="larger than"):
        read_archive(bomb)


@pytest.mark.parametrize("size", [0, 1, 999, 1001, 0xFFFF_FFFE])
def test_a_lying_size_is_refused(size: int) -> None:
    """The central directory says another size of the second file than it has when it is inflated."""
    data = bytearray(zipped({"s/SKILL.md": MANIFEST, "s/x": b"\0" * 1000}))
    central = data.find(b"PK\x01\x02", data.find(b"PK\x01\x02") + 4)
    assert struct.unpack_from("<L", data, central + 24)[0] == 1000
    struct.pack_into("<L", data, central + 24, size)
    with pytest.raises(BadSkill):
        read_archive(bytes(data))


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zipped({"s/SKILL.md": MANIFEST, "s/x": b"x"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark, data.find(mark) + 4)
        data[at + offset] |= 1
    with pytest.raises(BadSkill, match="encrypted"):
        read_archive(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_packing_is_refused(method: int) -> None:
    with pytest.raises(BadSkill, match="deflate"):
        read_archive(zipped({"s/SKILL.md": MANIFEST}, method))


def test_a_zip_of_very_many_entries_is_refused() -> None:
    for count in (MAX_ENTRIES + 1, 30_000):
        with pytest.raises(BadSkill, match=f"at most {MAX_FILES} files"):
            read_archive(zipped({"s/SKILL.md": MANIFEST} | {f"s/{n}/": b"" for n in range(count)}))


def test_very_deep_and_very_long_paths_are_refused() -> None:
    for name, words in (
        ("s/" + "d/" * 16 + "x", "folders deep"),
        ("s/" + "y" * 256, "255 bytes"),
        ("s/" + ("z" * 200 + "/") * 6 + "x", "1024 bytes"),
        ("s/ x", "blanks"),
        ("s/x ", "blanks"),
    ):
        with pytest.raises(BadSkill, match=words):
            read_archive(with_entry(name))


def test_a_folder_with_content_is_refused() -> None:
    with pytest.raises(BadSkill, match="folder with content"):
        read_archive(with_entry("s/dir/", b"content"))
    assert read_archive(with_entry("s/dir/", b""))


def test_a_changed_byte_is_noticed() -> None:
    data = bytearray(zipped({"s/SKILL.md": MANIFEST, "s/x": b"plain text"}, zipfile.ZIP_STORED))
    data[data.find(b"plain text")] ^= 1
    with pytest.raises(BadSkill, match="cannot be read|not a zip"):
        read_archive(bytes(data))


@given(st.binary(max_size=2000))
def test_no_bytes_bring_it_down(data: bytes) -> None:
    with pytest.raises(BadSkill):
        read_archive(data)


SOUND = zipped({"s/SKILL.md": MANIFEST, "s/dir/x": b"text" * 50})


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_zip_is_refused_or_packed_safely(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, value in changes:
        data[at] = value
    try:
        bundle = read_archive(bytes(data))
    except BadSkill:
        return
    for name in unpacked(bundle.archive):
        assert name.startswith("csv-insights/")
        assert not {"", ".", ".."} & set(name.split("/"))


NAMES = st.text("abcÄé-_. 1/\\\0:\u202e", min_size=1, max_size=12)


@given(st.dictionaries(NAMES, st.binary(max_size=30), max_size=5))
def test_the_same_files_make_the_same_bundle_and_never_a_path_outside(files: dict[str, bytes]) -> None:
    given_files = [*files.items(), ("SKILL.md", MANIFEST)]
    try:
        bundle = read_files(given_files)
    except BadSkill:
        return
    assert read_files(reversed(given_files)).archive == bundle.archive
    assert read_archive(bundle.archive).archive == bundle.archive
    for name in unpacked(bundle.archive):
        assert name.startswith("csv-insights/")
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\0" not in name
        assert "\\" not in name


@given(st.text(max_size=200))
def test_no_front_matter_brings_it_down(text: str) -> None:
    block = f"---\n{text}\n---\n".encode("utf-8", "surrogatepass")
    try:
        found = read_front_matter(block)
    except BadSkill:
        return
    assert 1 <= len(found.name) <= 64


@given(
    st.from_regex(r"[a-z0-9]{1,10}(-[a-z0-9]{1,10}){0,2}", fullmatch=True),
    st.text("abc:#'\"{}[]|>-*&!% éß😀", min_size=1, max_size=100).filter(str.strip),
)
def test_front_matter_reads_as_it_was_quoted(name: str, description: str) -> None:
    quoted = description.replace("'", "''")
    found = read_front_matter(f"---\nname: '{name}'\ndescription: '{quoted}'\nx-other: [1, 2]\n---\n".encode())
    assert (found.name, found.description) == (name, " ".join(description.split()))


def test_front_matter_may_have_a_mark_of_order_crlf_and_numbers() -> None:
    text = "\ufeff---\r\nname: '007'\r\ndescription: >\r\n  two\r\n  lines\r\nmetadata:\r\n  version: 1.0\r\n---\r\n"
    found = read_front_matter(text.encode())
    assert (found.name, found.description, found.metadata) == ("007", "two lines", {"version": "1.0"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with front matter"),
        ("# Title\n", "must begin with front matter"),
        ("---\nname: a\n", "must begin with front matter"),
        (f"---\nname: a\ndescription: {'x' * MAX_BYTES}\n---\n", "must begin with front matter"),
        ("---\n- a\n---\n", "mapping"),
        ("---\nname: [\n---\n", "not YAML"),
        ('---\nname: "\\U00110000"\n---\n', "not YAML"),
        ("---\ndescription: d\n---\n", "'name'"),
        ("---\nname: a\n---\n", "'description'"),
        ("---\nname: a\ndescription: ''\n---\n", "'description'"),
        (f"---\nname: a\ndescription: {'x' * 1025}\n---\n", "'description'"),
        ('---\nname: a\ndescription: "a\\eb"\n---\n', "control"),
        ('---\nname: a\ndescription: "a\\ud800b"\n---\n', "control|not YAML"),
        ("---\nname: Upper\ndescription: d\n---\n", "'name'"),
        ("---\nname: a--b\ndescription: d\n---\n", "'name'"),
        ("---\nname: -a\ndescription: d\n---\n", "'name'"),
        ("---\nname: ../a\ndescription: d\n---\n", "'name'"),
        ("---\nname: é\ndescription: d\n---\n", "'name'"),
        (f"---\nname: {'a' * 65}\ndescription: d\n---\n", "'name'"),
        ("---\nname: {a: b}\ndescription: d\n---\n", "must be text"),
        ("---\nname: a\nname: b\ndescription: d\n---\n", "twice"),
        ("---\nname: &x a\ndescription: *x\n---\n", "anchors"),
        ("---\nname: a\ndescription: !!python/object/apply:os.system [id]\n---\n", "tags"),
        ("---\nname: a\ndescription: d\nx: " + "[" * 9 + "]" * 9 + "\n---\n", "nested"),
        ("---\nname: a\ndescription: d\nx: " + "[" * 5000 + "\n---\n", "nested|not YAML"),
        ("---\nname: a\ndescription: d\nmetadata: [x]\n---\n", "'metadata'"),
        ("---\nname: a\ndescription: d\nmetadata: {x: [y]}\n---\n", "'metadata'"),
        (f"---\nname: a\ndescription: d\ncompatibility: {'x' * 501}\n---\n", "'compatibility'"),
        ("---\nname: a\n...\nname: b\n---\n", "not YAML"),
    ],
)
def test_bad_front_matter_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadSkill, match=words):
        read_front_matter(text.encode())


def test_the_curated_skills_are_sound() -> None:
    curated = read_curated()
    assert set(curated) == {
        "deskhand-charts",
        "deskhand-data-analysis",
        "deskhand-documents",
        "deskhand-spreadsheets",
    }
    for id_, skill in curated.items():
        assert id_ == f"deskhand-{skill.skill.name}"
        assert read_archive(skill.archive).archive == skill.archive
