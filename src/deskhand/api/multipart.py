"""Multipart uploads, streamed: fields are kept, the one file goes on as it comes (RFC 7578)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ..core.errors import ApiError, missing
from .bodies import begin_to_read

MAX_BOUNDARY_BYTES = 70
"""RFC 2046, section 5.1.1."""
MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 64
MAX_HEADER_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Upload:
    """A file being uploaded. `chunks` must be read to its end before the form's later fields are known."""

    filename: str
    content_type: str
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Form:
    """A multipart form as it is read: the fields so far, and its file."""

    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: Request, name: str) -> tuple[Form, Upload]:
    """Read up to the start of the file part called `name`. Raises `ApiError`.

    Fields that come after the file are added to the form while the file is read.
    """
    begin_to_read(request)
    reader = _Reader(request, name)
    while not reader.found:
        if not await reader.more():
            raise missing(name)
    return reader.form, Upload(reader.filename, reader.content_type, reader.chunks())


class _Reader:
    """Drives the push parser of `python-multipart` from the request's stream."""

    def __init__(self, request: Request, name: str) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary or len(boundary) > MAX_BOUNDARY_BYTES:
            raise ApiError("Expected a multipart/form-data body with a boundary.", code="invalid_content_type")
        self._stream = request.stream()
        self._name = name
        self._pending: list[bytes] = []
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._part: str | None = None
        self._in_file = False
        self._file_done = False
        self._value = bytearray()
        self.form = Form()
        self.found = False
        self.filename = ""
        self.content_type = "application/octet-stream"
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_header_field": lambda data, start, end: self._grow(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._grow(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
            },
        )

    async def more(self) -> bool:
        """Feed the next piece of the body; False at its end."""
        try:
            chunk = await anext(self._stream, b"")
            if not chunk:
                self._parser.finalize()
                return False
            self._parser.write(chunk)
        except FormParserError as exc:
            raise ApiError(f"The multipart body cannot be read: {exc}", code="invalid_multipart") from None
        return True

    async def chunks(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            if self._pending:
                # In one piece: a body of half boundaries comes out of the parser in crumbs.
                piece = b"".join(self._pending)
                self._pending.clear()
                yield piece
            more = await self.more()
        if not self._file_done:
            raise ApiError("The upload ended in the middle of the file.", code="invalid_multipart")

    def _begin(self) -> None:
        self._headers = {}
        self._value = bytearray()

    def _grow(self, which: int, data: bytes) -> None:
        self._header[which] += data
        if len(self._header[which]) > MAX_HEADER_BYTES:
            raise ApiError("A header of the multipart body is too long.", code="invalid_multipart")

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        is_file = b"filename" in options
        self._in_file = is_file and self._part == self._name and not self.found
        if self._in_file:
            self.found = True
            self.filename = options[b"filename"].decode("utf-8", "replace")
            kind = self._headers.get(b"content-type", b"application/octet-stream")
            self.content_type = kind.decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pending.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise ApiError(f"The field '{self._part}' is too long.", code="string_above_max_length", param=self._part)

    def _end(self) -> None:
        if self._in_file:
            self._in_file, self._file_done = False, True
            return
        if len(self.form.fields) >= MAX_FIELDS:
            raise ApiError("The multipart body has too many fields.", code="array_above_max_length")
        if self._part is not None:
            self.form.fields[self._part] = self._value.decode("utf-8", "replace")
