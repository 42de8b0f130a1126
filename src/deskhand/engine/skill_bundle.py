"""From an uploaded archive or folder to a checked bundle: one zip that is the same for the same content. Pure.

Nothing that an archive says of itself is believed: bytes are counted while they are inflated. An archive with anything
hostile or ambiguous in it is refused whole. What is taken is packed anew, so that no trick of the first packing, known
or not, ever reaches the place where bundles are unpacked.

Limits: computer-use guide and API reference, "Skills", 2026; those without a source are Deskhand's own.
"""

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .front_matter import BadSkill, FrontMatter, read_front_matter

MAX_UPLOAD_BYTES: Final = 50 << 20
MAX_FILES: Final = 500
MAX_FILE_BYTES: Final = 25 << 20
MAX_UNPACKED_BYTES: Final = 256 << 20
MAX_ENTRIES: Final = 2_000
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 16

MANIFEST: Final = "SKILL.md"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_ENTRY_MARK: Final = b"PK\x01\x02"
_MAX_MARKS: Final = 20_000
"""Entry marks in the bytes of an archive, its contents included: a bound on what `zipfile` makes objects for."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, NotImplementedError,
               RuntimeError, OSError)  # fmt: skip
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000


@dataclass(frozen=True, slots=True)
class SkillBundle:
    """A skill that was found to be sound. `archive` is a zip of one folder, named as the skill is."""

    front_matter: FrontMatter
    archive: bytes

    @property
    def name(self) -> str:
        """The skill's name."""
        return self.front_matter.name

    @property
    def description(self) -> str:
        """What the skill is for."""
        return self.front_matter.description


@dataclass(frozen=True, slots=True)
class SkillFile:
    """A file of a skill as it came: its path, whether it may be run, and its bytes, read when they are needed."""

    path: str
    executable: bool
    read: Callable[[], bytes]


def read_archive(data: bytes) -> SkillBundle:
    """The skill in a zip, which holds one folder or just its files. Raises `BadSkill`."""
    if len(data) > MAX_UPLOAD_BYTES:
        raise BadSkill(f"The zip has {len(data)} bytes; a skill may have at most {MAX_UPLOAD_BYTES}.")
    if data.count(_ENTRY_MARK) > _MAX_MARKS:
        raise BadSkill(f"The zip has too many entries; a skill may have at most {MAX_FILES} files.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _bundle(_members(archive))
    except _UNREADABLE as exc:
        raise BadSkill(f"The skill is not a zip that can be read: {exc}") from None


def read_files(files: Iterable[tuple[str, bytes]]) -> SkillBundle:
    """The skill in files that were uploaded one by one under their paths. Raises `BadSkill`."""
    return _bundle([SkillFile(path, executable=False, read=lambda data=data: data) for path, data in files])  # type: ignore[misc]  # mypy cannot infer a lambda's default


def read_folder(folder: Path) -> SkillBundle:
    """The skill in a trusted folder on disk. Raises `BadSkill`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return read_files((path.relative_to(folder.parent).as_posix(), path.read_bytes()) for path in paths)


def _members(archive: zipfile.ZipFile) -> list[SkillFile]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise BadSkill(f"The zip has {len(entries)} entries; a skill may have at most {MAX_FILES} files.")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise BadSkill(f"The skill is larger than {MAX_UNPACKED_BYTES} bytes when unpacked.")
    return [_member(archive, entry) for entry in entries if not _is_folder(entry)]


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    """True for a folder, which means nothing by itself; its name must be as good as a file's."""
    if not entry.orig_filename.endswith("/"):
        return False
    _clean(entry.orig_filename.removesuffix("/"))
    if entry.file_size:
        raise BadSkill(f"{entry.orig_filename!r} is a folder with content.")
    return True


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> SkillFile:
    # What `ZipInfo` makes of a name with a NUL is not what the archive says.
    name, mode = entry.orig_filename, entry.external_attr >> 16
    if entry.flag_bits & _ENCRYPTED:
        raise BadSkill(f"{name!r} is encrypted.")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadSkill(f"{name!r} is packed in a way that is not read here; use the ordinary 'deflate'.")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise BadSkill(f"{name!r} is a link or another special file; a skill may hold ordinary files only.")

    def read() -> bytes:
        with archive.open(entry) as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) <= MAX_FILE_BYTES and len(content) != entry.file_size:
            raise BadSkill(f"{name!r} has another size than the zip says.")
        return content

    return SkillFile(name, bool(mode & 0o111), read)


def _bundle(files: Sequence[SkillFile]) -> SkillBundle:
    placed = {_clean(file.path): file for file in files if not _is_litter(file.path)}
    if len(placed) != sum(not _is_litter(file.path) for file in files):
        raise BadSkill("The skill has the same path twice.")
    if len(placed) > MAX_FILES:
        raise BadSkill(f"The skill has {len(placed)} files; at most {MAX_FILES}.")
    _check_distinct(placed)
    top = _top(placed)
    inside = {path.removeprefix(top): file for path, file in placed.items()}
    manifest = next(path for path in inside if path.casefold() == MANIFEST.casefold())
    front_matter = read_front_matter(_read(inside[manifest]))
    inside[MANIFEST] = inside.pop(manifest)
    return SkillBundle(front_matter, _packed(front_matter.name, inside))


def _top(paths: Iterable[str]) -> str:
    """The prefix that leads to SKILL.md: its folder, or "" if it lies bare. Raises `BadSkill`."""
    found = [path for path in paths if path.rpartition("/")[2].casefold() == MANIFEST.casefold()]
    if len(found) != 1:
        raise BadSkill(f"A skill must have exactly one {MANIFEST}; this one has {len(found)}.")
    top = found[0][: -len(MANIFEST)]
    if top.count("/") > 1 or not all(path.startswith(top) for path in paths):
        raise BadSkill(f"A skill must be one folder with {MANIFEST} in it, and nothing beside that folder.")
    return top


def _packed(folder: str, files: dict[str, SkillFile]) -> bytes:
    packed, total = io.BytesIO(), 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            content = _read(files[path])
            total += len(content)
            if total > MAX_UNPACKED_BYTES:
                raise BadSkill(f"The skill is larger than {MAX_UNPACKED_BYTES} bytes when unpacked.")
            runs = files[path].executable or content.startswith(b"#!")
            entry = zipfile.ZipInfo(f"{folder}/{path}", _EPOCH)
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | (0o555 if runs else 0o444)) << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def _read(file: SkillFile) -> bytes:
    content = file.read()
    if len(content) > MAX_FILE_BYTES:
        raise BadSkill(f"{file.path!r} is larger than {MAX_FILE_BYTES} bytes.")
    return content


def _clean(path: str) -> str:
    """The path in composed form (Unicode NFC), as every system shows it. Raises `BadSkill`."""
    clean = unicodedata.normalize("NFC", path)
    names = clean.split("/")
    if "\\" in clean or re.match("[A-Za-z]:", clean) or any(name in {"", ".", ".."} for name in names):
        raise BadSkill(f"{path!r} is not a path inside the skill: relative, with '/' between plain names.")
    if any(unicodedata.category(character) in _UNSHOWN for character in clean):
        raise BadSkill(f"{path!r} has characters that cannot be seen.")
    if any(name != name.strip() or len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise BadSkill(f"{path!r} has a name with blanks around it, or of more than {MAX_NAME_BYTES} bytes.")
    if len(names) > MAX_DEPTH or len(clean.encode()) > MAX_PATH_BYTES:
        raise BadSkill(f"{path!r} is more than {MAX_DEPTH} folders deep, or longer than {MAX_PATH_BYTES} bytes.")
    return clean


def _check_distinct(paths: Iterable[str]) -> None:
    """Raise `BadSkill` if two paths, or folders of them, would be one where case does not count."""
    spelled: dict[str, str] = {}
    files, folders = set(), set()
    for path in paths:
        names = path.split("/")
        prefixes = ["/".join(names[:depth]) for depth in range(1, len(names) + 1)]
        for prefix in prefixes:
            key = unicodedata.normalize("NFC", prefix.casefold())
            if spelled.setdefault(key, prefix) != prefix:
                raise BadSkill(f"{prefix!r} and {spelled[key]!r} differ only in case.")
        files.add(path)
        folders.update(prefixes[:-1])
    if both := sorted(files & folders):
        raise BadSkill(f"{both[0]!r} is a file and a folder.")


def _is_litter(path: str) -> bool:
    """True for what macOS adds to archives and folders."""
    return path.startswith("__MACOSX/") or path.rpartition("/")[2] == ".DS_Store"
