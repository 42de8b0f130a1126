"""Files in messages, by URL, id and data: as models read them, or in their computers."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from ..conftest import Launch, launched
from ..documents.made import made_docx, made_pdf, made_xlsx
from .heard import Heard, listening

Json = dict[str, Any]
HOSTED: Json = {"type": "shell", "environment": {"type": "container_auto"}}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Site:
    """A web server with files; `seen` has the paths that were asked for, with their headers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[tuple[str, dict[str, str]]] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        port = self.url.rsplit(":", 1)[1]
        match path.partition("?")[0]:
            case "/docs/report.pdf":
                return 200, {}, made_pdf(["from the web", "second page"])
            case "/notes.txt":
                return 200, {}, b"web notes"
            case "/to-notes":
                return 302, {"location": "/notes.txt"}, b""
            case "/to-private":
                return 302, {"location": f"http://localhost:{port}/notes.txt"}, b""
            case "/to-metadata":
                return 302, {"location": "http://169.254.169.254/latest/"}, b""
            case "/to-file":
                return 302, {"location": "file:///etc/passwd"}, b""
            case "/loop":
                return 302, {"location": "/loop"}, b""
            case "/large":
                return 200, {"content-length": str(60 << 20)}, b"x"
            case "/endless":
                return 200, {"content-length": ""}, b"x" * (51 << 20)
            case "/packed":
                return 200, {"content-encoding": "gzip"}, b"x"
            case _:
                return 404, {}, b"no"


@contextmanager
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, headers, body = served.answer(self.path)
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Site(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as served:
        yield served


@pytest.fixture(scope="module", params=["chat", "responses"])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """A server that may call 127.0.0.1, and no other private host, behind an upstream of each dialect."""
    data = tmp_path_factory.mktemp("files") / "data"
    settings = {"upstream_api": request.param, "allow_private_hosts": "127.0.0.1"}
    with listening() as upstream, launched(data, upstream.url, **settings) as server, server.http() as http:
        yield Heard(server, upstream, request.param, http)


def data_of(name: str, content: bytes) -> Json:
    return {"type": "input_file", "filename": name, "file_data": f"data:;base64,{base64.b64encode(content).decode()}"}


def saying(*parts: Json, script: str = "@@ say ok") -> list[Json]:
    return [{"role": "user", "content": [{"type": "input_text", "text": script}, *parts]}]


def reached(heard: Heard, *parts: Json, **fields: Any) -> list[Json]:
    """What reached the model of the parts of a message, after the text before them."""
    _, bodies = heard.ask(input=saying(*parts), **fields)
    said = bodies[0]["messages"] if heard.dialect == "chat" else bodies[0]["input"]
    content: Any = [entry for entry in said if entry.get("role") == "user"][-1]["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content.removeprefix("@@ say ok").lstrip("\n")}]
    return list(content[1:])


def told(heard: Heard, *parts: Json) -> str:
    """The text of what reached a model that reads no files."""
    return "\n".join(part["text"] for part in reached(heard, *parts) if part["type"] == "text")


def test_a_file_by_url_reaches_the_model(heard: Heard, web: Site) -> None:
    part = {"type": "input_file", "file_url": f"{web.url}/notes.txt?a=1#page"}
    before = len(web.seen)
    found = reached(heard, part)
    if heard.dialect == "chat":
        assert found[0]["text"].endswith("[file: notes.txt]\nweb notes\n[end of file: notes.txt]")
    else:
        data = "data:text/plain;base64," + base64.b64encode(b"web notes").decode()
        assert found == [{"type": "input_file", "filename": "notes.txt", "file_data": data}]
    [(path, headers)] = web.seen[before:]
    assert path == "/notes.txt?a=1"
    assert not {"authorization", "cookie"} & set(headers)


def test_pdf_and_office_become_text_and_pictures_for_a_model_that_takes_no_files(heard: Heard, web: Site) -> None:
    parts = [{"type": "input_file", "file_url": f"{web.url}/docs/report.pdf", "detail": "low"}]
    upload = heard.http.post("/v1/files", files={"file": ("r.docx", made_docx())}, data={"purpose": "user_data"}).json()
    parts += [{"type": "input_file", "file_id": upload["id"]}, data_of("s.xlsx", made_xlsx())]
    found = reached(heard, *parts)
    if heard.dialect == "responses":
        assert [part["filename"] for part in found] == ["report.pdf", "r.docx", "s.xlsx"]
        assert [part["type"] for part in found] == ["input_file"] * 3
        assert found[0]["detail"] == "low"
        return
    text = "\n".join(part["text"] for part in found if part["type"] == "text")
    assert "[file: report.pdf]\n[page 1]\nfrom the web\n\n[page 2]\nsecond page\n[end of file: report.pdf]" in text
    assert "# Results\n\nSales rose by 7 %." in text
    assert "| r1 | 1 | 0.25 |" in text
    pictures = [part["image_url"] for part in found if part["type"] == "image_url"]
    assert len(pictures) == 2
    assert all(picture["url"].startswith("data:image/png;base64,iVBOR") for picture in pictures)
    assert [picture["detail"] for picture in pictures] == ["low", "low"]


def test_images_sent_as_files(heard: Heard) -> None:
    [part] = reached(heard, data_of("photo", PNG))
    if heard.dialect == "chat":
        url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        assert part == {"type": "image_url", "image_url": {"url": url}}
    else:
        assert part["type"] == "input_file"


def test_files_go_into_the_container_as_they_are(heard: Heard, web: Site) -> None:
    script = "@@ shell head -c 5 report.pdf; echo; cat notes.txt"
    urls = [f"{web.url}/docs/report.pdf", f"{web.url}/notes.txt"]
    parts = [{"type": "input_file", "file_url": url} for url in urls]
    response, _ = heard.ask(input=saying(*parts, script=script), tools=[HOSTED])
    [output] = [item for item in response["output"] if item["type"] == "shell_call_output"]
    assert output["output"][0]["stdout"] == "%PDF-\nweb notes"
    before = len(web.seen)
    again, _ = heard.ask(input="@@ shell ls", previous_response_id=response["id"], tools=[HOSTED])
    [output] = [item for item in again["output"] if item["type"] == "shell_call_output"]
    assert output["output"][0]["stdout"].split() == ["notes.txt", "report.pdf"]
    assert len(web.seen) == before, "what is there is not fetched again"


def test_redirects_are_followed_to_where_the_first_url_might_lead(heard: Heard, web: Site) -> None:
    [part] = reached(heard, {"type": "input_file", "file_url": f"{web.url}/to-notes", "filename": "n.txt"})
    assert "web notes" in (part.get("text") or base64.b64decode(part["file_data"].split(",")[1]).decode())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{site}/to-private", "private address"),
        ("{site}/to-metadata", "never called"),
        ("{site}/to-file", "does not begin with https:// or http://"),
        ("{site}/loop", "redirected more than 5 times"),
        ("{site}/large", "62914560 bytes; at most 52428800 are read"),
        ("{site}/endless", "more than 52428800 bytes"),
        ("{site}/packed", "compressed"),
        ("{site}/missing.pdf", "status 404"),
        ("http://localhost:9/x", "private address"),
        ("http://10.0.0.1/x", "private address"),
        ("http://169.254.169.254/latest/meta-data", "never called"),
        ("http://[::1]/x", "private address"),
        ("http://2130706433/x", ""),
        ("file:///etc/passwd", "does not begin with"),
        ("https://user:secret@example.com/", "a user or a password"),
        ("http://127.0.0.1:1/x", "does not answer"),
    ],
)
def test_urls_that_are_not_fetched(heard: Heard, web: Site, url: str, words: str) -> None:
    part = {"type": "input_file", "file_url": url.format(site=web.url)}
    before = [path for path, _ in web.seen if path == "/notes.txt"]
    status, error = heard.refused(input=saying(part))
    assert (status, error["param"]) == (400, "input[0].content[1].file_url")
    assert words in error["message"]
    assert "secret" not in error["message"]
    assert [path for path, _ in web.seen if path == "/notes.txt"] == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.pdf", b"%PDF-1.7 broken", "'bad.pdf' cannot be given to the model: The PDF is broken"),
        ("a.zip", b"PK\x05\x06" + bytes(18), "not one of Word"),
        ("a.bin", b"\0\1\2", "of a kind that is not read here"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_words(heard: Heard, name: str, content: bytes, words: str) -> None:
    if heard.dialect == "responses":
        [part] = reached(heard, data_of(name, content))
        assert part["filename"] == name
        return
    status, error = heard.refused(input=saying(data_of(name, content)))
    assert (status, error["param"]) == (400, "input[0].content[1]")
    assert words in error["message"]
    script = f"@@ shell wc -c < {name}"
    response, _ = heard.ask(input=saying(data_of(name, content), script=script), tools=[HOSTED])
    [output] = [item for item in response["output"] if item["type"] == "shell_call_output"]
    assert output["output"][0]["stdout"].strip() == str(len(content))


def test_files_of_a_prompt_have_bounds_together(heard: Heard) -> None:
    large = data_of("a.txt", b"x" * (20 << 20))
    status, error = heard.refused(input=saying(large, large, large))
    assert status == 400
    assert "at most 52428800 bytes together" in error["message"]


def test_images_of_a_prompt_have_bounds_together(heard: Heard) -> None:
    large = b"\x89PNG\r\n\x1a\n" + b"x" * (40 << 20)
    upload = heard.http.post("/v1/files", files={"file": ("a.png", large)}, data={"purpose": "vision"}).json()
    image = {"type": "input_image", "file_id": upload["id"]}
    assert len(reached(heard, image)) == 1
    status, error = heard.refused(input=saying(*[image] * 50))
    assert status == 400
    assert "at most 134217728 characters" in error["message"]


def test_a_url_that_is_gone_does_not_end_a_conversation(heard: Heard) -> None:
    with site() as short_lived:
        part = {"type": "input_file", "file_url": f"{short_lived.url}/notes.txt"}
        response, _ = heard.ask(input=saying(part))
    again, bodies = heard.ask(input="@@ say still", previous_response_id=response["id"])
    assert again["output"][0]["content"][0]["text"] == "still"
    assert "no longer there" in str(bodies[0])


def test_models_that_see_nothing_get_no_pictures(launch: Launch) -> None:
    with listening() as upstream:
        server = launch(upstream=upstream.url, document_pictures="0")
        with server.http() as http:
            heard = Heard(server, upstream, "chat", http)
            found = reached(heard, data_of("a.pdf", made_pdf(["words only"])))
    assert [part["type"] for part in found] == ["text"]
    assert "words only" in found[0]["text"]
