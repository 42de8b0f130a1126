"""F: through names, links, archives and uploads, to files that are not the container's."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import asyncio
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx2
import pytest

from deskhand.ports.sandbox import SandboxError, WorkspaceError
from deskhand.sandboxes.layout import layout
from deskhand.testing.conformance_sandbox_bench import Desk, chunks, content

from .attempts import run
from .canaries import Canaries
from .cases import case
from .product import KEYS, Product

pytestmark = pytest.mark.anyio


def answered(response: httpx2.Response) -> int:
    """The status of an answer that must be a success or a documented error."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["type"]
        assert error["message"]
    return response.status_code


@case(
    "F01",
    "name `/`, `..` and host paths as a place for files and as a working directory",
    "inside the container, or 400",
)
def test_no_path_names_a_place_outside(product: Product, canaries: Canaries) -> None:
    container = product.container()
    outside = ["/", "..", "../../etc/x", "/etc/passwd", "/mnt/data/../../etc/x", f"{canaries.folder}/x", "/mnt/data/",
               "/mnt/dataX/x", "//mnt/data/x", "/proc/self/cwd/x", "~/x/../../../x", "/mnt/data/./x"]  # fmt: skip
    before = sorted(path.name for path in canaries.folder.iterdir())
    statuses = {path: answered(product.upload(container, b"attack", path=path)) for path in outside}
    assert {path for path, status in statuses.items() if status == 200} <= {"~/x/../../../x"}
    assert answered(product.upload(container, b"inside", path="/mnt/data/a/b")) == 200
    assert sorted(path.name for path in canaries.folder.iterdir()) == before
    with product.http() as client:
        listed = [file["path"] for file in client.get(f"/v1/containers/{container}/files").json()["data"]]
    assert listed == ["/mnt/data/a/b"]
    assert product.shell("pwd; find / -xdev -newermt '-20 seconds' -type f -name x 2> /dev/null", container).stdout == (
        "/mnt/data\n"
    )


LINKS: Final = ("ln -s {target} file; ln -s / root; ln -s /proc/self/root magic; ln -s {folder} folder; "
                "ln -s ../../../../../../{target} up; ln {target} hard 2> /dev/null; mkdir d; ln -s {folder} d/e")  # fmt: skip


@case("F02", "plant links (to a file, a folder, /proc/self/root) and have the server read, write and delete through them",
      "refused or inside; the host's file is not read, changed or removed")  # fmt: skip
async def test_no_link_leads_out_of_the_workspace(desk: Desk, canaries: Canaries) -> None:
    canaries.folder.chmod(0o777)
    canaries.file.chmod(0o666)
    await desk.run(LINKS.format(target=canaries.file, folder=canaries.folder))
    through = ["file", f"root{canaries.file}", f"magic{canaries.file}", "folder/secret", "up", "hard", "d/e/secret"]
    for path in through:
        with suppress(SandboxError):
            assert canaries.secret.encode() not in await content(desk.workspace, path)
        assert await desk.workspace.stat(path) is None
        assert not await desk.workspace.delete(path)
    for path in (*through, "folder/new", "d/e/new", f"root{canaries.folder}/new"):
        with suppress(SandboxError):
            await desk.workspace.write(path, chunks(b"attack"))
    assert canaries.file.read_text() == canaries.secret
    assert sorted(path.name for path in canaries.folder.iterdir()) == ["secret", "socket"]
    assert not [info.path for info in await desk.workspace.list(99) if "secret" in info.path]
    naive = f"import os; os.symlink('{canaries.file}', 'l'); print(open('l').read())"
    script = f"import os, tempfile; os.chdir(tempfile.mkdtemp()); {naive}"
    assert canaries.secret in run(script)


SWAPPER: Final = """
import ctypes, os, time
libc = ctypes.CDLL(None)
os.mkdir('d'); open('d/f', 'w').write('inside'); os.symlink('CANARY', 'l')
end = time.monotonic() + 12
while time.monotonic() < end:
    libc.renameat2(-100, b'd', -100, b'l', 2)
"""


@case("F03", "swap a folder for a link again and again while the server reads and writes below it", "never outside")
async def test_a_race_of_links_never_leads_out(desk: Desk, root: Path, canaries: Canaries) -> None:
    canaries.folder.chmod(0o777)
    (canaries.folder / "f").write_text("outside")
    (canaries.folder / "f").chmod(0o666)
    await desk.workspace.write("swap.py", chunks(SWAPPER.replace("CANARY", str(canaries.folder)).encode()))
    swapping = asyncio.ensure_future(desk.call("python3", "swap.py", timeout_s=20))
    await asyncio.sleep(0.5)
    read = refusals = 0
    for _ in range(1200):
        try:
            assert await content(desk.workspace, "d/f") in (b"inside", b"written")
            read += 1
        except WorkspaceError:
            refusals += 1
        with suppress(WorkspaceError):
            await desk.workspace.write("d/f", chunks(b"written"))
        with suppress(WorkspaceError):
            await desk.workspace.delete("d/g")
    assert read
    assert refusals, "the race was not run"
    assert (canaries.folder / "f").read_text() == "outside"
    data = layout(root, as_root=os.geteuid() == 0).place(desk.container_id).disk / "data"
    assert await asyncio.to_thread(naively_read, data / "d" / "f", "outside"), "the control did not lead out"
    swapping.cancel()
    await asyncio.wait([swapping])


def naively_read(path: Path, wanted: str) -> bool:
    """Open a path as it stands, as a server must not: it leads out to the canary."""
    for _ in range(100_000):
        with suppress(OSError):
            if path.read_text() == wanted:
                return True
    return False


NAMES: Final = {
    "dots": "...", "space": " ", "trailing space": "a ", "trailing dot": "a.", "dash": "-rf", "star": "*", "quote": "'\"",
    "newline": "a\nb", "carriage": "a\rb", "tab": "a\tb", "bell": "\a", "nfc": "\u00e9", "nfd": "e\u0301",
    "bidi": "\u202egpj.exe", "zero width": "a\u200bb", "percent": "%2e%2e%2f", "dollar": "$(touch pwned)",
    "backtick": "`touch pwned`", "semicolon": "; touch pwned", "hidden": ".hidden", "long": "n" * 255,
}  # fmt: skip


@case("F04", "names with dots, spaces, control characters, both normal forms, bidi marks, percent signs, 255 bytes",
      "kept literally, the same by list, get and delete; or 400")  # fmt: skip
@pytest.mark.parametrize("kind", NAMES)
def test_odd_names_are_literal(product: Product, odd: str, kind: str) -> None:
    name = NAMES[kind]
    made = product.upload(odd, name.encode(), path=f"/mnt/data/{name}")
    if answered(made) == 400:
        return
    assert made.json()["path"] == f"/mnt/data/{name}"
    with product.http() as client:
        file = f"/v1/containers/{odd}/files/{made.json()['id']}"
        assert client.get(file).json()["path"] == f"/mnt/data/{name}"
        answer = client.get(f"{file}/content")
        assert answer.content == name.encode()
        assert not set(answer.headers["content-disposition"]) & set("\r\n")
        seen = product.shell("python3 -c 'import os; print(ascii(os.listdir()))'", odd).stdout
        assert ascii(name) in seen
        assert client.delete(file).status_code == 200
        assert client.get(file).status_code == 404
    assert product.shell("ls -A", odd).stdout == ""


@pytest.fixture
def odd(product: Product) -> str:
    """A container for odd names."""
    return product.container()


@case("F04", "NUL, `..` encoded or not, backslashes, 256 bytes, 4096 bytes, lone surrogates, names that are not UTF-8",
      "400, and nothing is written")  # fmt: skip
def test_impossible_names_are_refused(product: Product) -> None:
    container = product.container()
    for path in (
        "/mnt/data/a\0b",
        "/mnt/data/../x",
        "/mnt/data/" + "n" * 256,
        "/mnt/data/" + "n/" * 2100 + "n",
        "",
        ".",
    ):
        assert answered(product.upload(container, b"x", path=path)) in (200, 400), path
    head = b'--B\r\nContent-Disposition: form-data; name="path"\r\n\r\n/mnt/data/\xff\xfe\r\n'
    head += b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--B--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=B"}
    with product.http() as client:
        assert answered(client.post(f"/v1/containers/{container}/files", content=head, headers=kind)) in (200, 400)
        for name in ("..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "cfile_x%00", "a" * 5000, "\u00e9"):
            assert client.get(f"/v1/containers/{container}/files/{name}/content").status_code in (400, 404, 405, 414)
    assert product.shell("find /tmp /home /run /mnt/skills -type f | wc -l", container).stdout == "0\n"


TARGETS: Final = """
import os, socket
os.mkfifo('fifo'); os.mkdir('folder'); os.symlink('/dev/zero', 'zero'); os.symlink('/dev/tty', 'tty')
s = socket.socket(socket.AF_UNIX); s.bind('sock')
os.close(os.open('secret', os.O_CREAT, 0)); os.symlink('fifo', 'tofifo'); os.symlink('/proc/self/mem', 'mem')
"""


@case(
    "F05",
    "offer a FIFO, a socket, a folder, a device, a file without permissions as a download",
    "refused at once; no hang",
)
async def test_only_regular_files_are_read(desk: Desk) -> None:
    await desk.python(TARGETS)
    for path in ("fifo", "tofifo", "folder", "zero", "tty", "sock", "mem"):
        with pytest.raises(WorkspaceError):
            await asyncio.wait_for(content(desk.workspace, path), 5)
        assert await desk.workspace.stat(path) is None
    assert [info.path for info in await desk.workspace.list(99)] == ["secret"]
    await desk.run("echo x > real")
    assert await content(desk.workspace, "real") == b"x\n"


@case(
    "F05",
    "offer a sparse file of a terabyte, and one that grows while it is read",
    "streamed; its reader can leave; memory stays flat",
)
def test_an_endless_file_is_streamed(product: Product) -> None:
    made = product.shell(
        "truncate -s 1T huge; (while :; do head -c 1M /dev/zero >> grows; sleep 0.02; done) > /dev/null 2>&1 &"
    )
    with product.http() as client:
        files = client.get(f"/v1/containers/{made.container_id}/files").json()["data"]
        ids = {file["path"].rpartition("/")[2]: file["id"] for file in files}
        assert set(ids) == {"huge", "grows"}
        for name in ids:
            got = 0
            with client.stream("GET", f"/v1/containers/{made.container_id}/files/{ids[name]}/content") as answer:
                for chunk in answer.iter_bytes():
                    got += len(chunk)
                    if got > 64 << 20:
                        break
            assert got
        status = Path(f"/proc/{product.server.process.pid}/status").read_text()
        assert int(status.split("VmRSS:")[1].split()[0]) < 1 << 20, "kB"
        assert client.delete(f"/v1/containers/{made.container_id}").status_code == 200


LEASES: Final = """
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
held = []
for n in range(20):
    held.append(os.open('leased%02d' % n, os.O_RDWR | os.O_CREAT, 0o600))
    fcntl.fcntl(held[-1], 1024, fcntl.F_WRLCK)  # F_SETLEASE
print('ready', flush=True)
time.sleep(60)
"""


@case("F05", "hold a lease (fcntl F_SETLEASE) on a file, so that whoever opens it must wait for its holder",
      "the server does not wait")  # fmt: skip
async def test_a_lease_does_not_make_the_server_wait(desk: Desk, root: Path) -> None:
    await desk.workspace.write("lease.py", chunks(LEASES.encode()))
    holding = asyncio.ensure_future(desk.call("python3", "lease.py", timeout_s=30))
    await asyncio.sleep(1)
    assert not holding.done(), holding.result()
    data = layout(root, as_root=os.geteuid() == 0).place(desk.container_id).disk / "data"
    with pytest.raises(BlockingIOError):  # the control: there is a lease to wait for
        os.open(data / "leased19", os.O_RDONLY | os.O_NONBLOCK)
    async with asyncio.timeout(10):
        for n in range(10):
            with suppress(WorkspaceError):
                await content(desk.workspace, f"leased{n:02}")
            await desk.workspace.write(f"leased{n + 5:02}", chunks(b"new"))
        assert len(await desk.workspace.list(99)) == 21
    holding.cancel()
    await asyncio.wait([holding])


@case("F06", "have the server change owner or mode of something through a link", "the link's target is untouched")
async def test_no_owner_is_changed_through_a_link(desk: Desk, canaries: Canaries) -> None:
    before = canaries.file.stat(), canaries.folder.stat()
    await desk.run(f"ln -s {canaries.folder} a; ln -s {canaries.file} b; mkdir c; ln -s {canaries.file} c/f")
    for path in ("a/new/file", "b", "b/x", "c/f"):
        with suppress(SandboxError):
            await desk.workspace.write(path, chunks(b"x"))
    after = canaries.file.stat(), canaries.folder.stat()
    assert [(s.st_uid, s.st_gid, s.st_mode) for s in after] == [(s.st_uid, s.st_gid, s.st_mode) for s in before]
    assert canaries.file.read_text() == canaries.secret
    assert (await desk.run("stat -c '%U %a' c/f")).text == "agent 644"


@case("F10", "send a wrong length, endless headers, too large a body, the same path from many sides at once",
      "4xx, and a file is there whole or not at all")  # fmt: skip
def test_a_broken_upload_is_all_or_nothing(product: Product) -> None:
    container = product.container()
    host, port = product.server.url.removeprefix("http://").split(":")
    head = f"POST /v1/containers/{container}/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['a']}\r\n"
    form = "content-type: multipart/form-data; boundary=B\r\n"
    part = '--B\r\nContent-Disposition: form-data; name="file"; filename="broken"\r\n\r\n'
    for rest in (
        form + "content-length: 1000000\r\n\r\n" + part + "begun",
        form + "content-length: 10\r\n\r\n" + part + "longer than said\r\n--B--\r\n",
        form + "content-length: -5\r\n\r\n",
        form + "transfer-encoding: chunked\r\n\r\nZZ\r\n",
        "x: " + "y" * 200_000 + "\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall((head + rest).encode())
            connection.settimeout(0.5)
            with suppress(OSError):
                assert b" 500 " not in connection.recv(4096)
    contents = [bytes([65 + n]) * 300_000 for n in range(12)]
    threads = [
        threading.Thread(target=product.upload, args=(container, content), kwargs={"path": "/mnt/data/same"})
        for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with product.http() as client:
        for _ in range(50):
            files = client.get(f"/v1/containers/{container}/files").json()["data"]
            if len(files) == 1:
                break
            time.sleep(0.1)
        assert [file["path"] for file in files] == ["/mnt/data/same"]
        got = client.get(f"/v1/containers/{container}/files/{files[0]['id']}/content").content
    assert got in contents
    assert product.shell("ls -A", container).stdout == "same\n"


@case("F12", "leave `.bashrc`, `sitecustomize.py`, `.pth`, `.netrc`, git hooks where the server's own tools would read them",
      "only programs in the container ever read them")  # fmt: skip
async def test_the_server_runs_nothing_of_the_workspace(desk: Desk, root: Path, canaries: Canaries) -> None:
    canaries.folder.chmod(0o777)
    trap = f"open('{canaries.folder}/sprung', 'w')"
    files = {"sitecustomize.py": trap, "usercustomize.py": trap, "conftest.py": trap, "json.py": trap, "x.pth": f"import os; {trap}",
             ".bashrc": f"touch {canaries.folder}/sprung", ".git/hooks/post-checkout": f"touch {canaries.folder}/sprung",
             ".git/config": f"[core]\n\tfsmonitor = touch {canaries.folder}/sprung\n"}  # fmt: skip
    for name, text in files.items():
        await desk.workspace.write(name, chunks(text.encode()))
    await desk.run("cp .bashrc ~; cp sitecustomize.py x.pth /opt/venv/lib/python3*/site-packages/")
    assert len(await desk.workspace.list(99)) == len(files)
    await desk.python("print(1)")
    assert sorted(path.name for path in canaries.folder.iterdir()) == ["secret", "socket"]


@case("F15", "put shell metacharacters into file names, container names, paths and variables", "never interpreted")
def test_no_word_is_given_to_a_shell(product: Product, canaries: Canaries) -> None:
    canaries.folder.chmod(0o777)
    words = [f"$(touch {canaries.folder}/pwned)", f"`touch {canaries.folder}/pwned`", f"; touch {canaries.folder}/pwned",
             f"| touch {canaries.folder}/pwned #", f"a\ntouch {canaries.folder}/pwned", "-rf", "--help"]  # fmt: skip
    for word in words:
        container = product.container(name=word[:256])
        with product.http() as client:
            made = client.post(f"/v1/containers/{container}/files", files={"file": (word.replace("/", "_"), b"x")})
            assert answered(made) in (200, 400)
            client.get("/v1/containers", params={"name": word})
            client.delete(f"/v1/containers/{container}")
    assert sorted(path.name for path in canaries.folder.iterdir()) == ["secret", "socket"]
    control = subprocess.run(["sh", "-c", words[0]], capture_output=True, check=False)
    assert control.returncode is not None
    assert (canaries.folder / "pwned").exists()


@case("F16", "name the container files of another project, and of another container of one's own", "404")
def test_file_ids_of_others_do_not_exist(product: Product) -> None:
    mine, other = product.container(), product.container()
    theirs = product.container("b")
    file = product.upload(mine, b"canary of a").json()["id"]
    foreign = product.upload(theirs, b"canary of b", "b").json()["id"]
    with product.http("a") as a, product.http("b") as b:
        for client, container, wanted in ((a, other, file), (a, mine, foreign), (a, theirs, foreign), (b, mine, file)):
            for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                answer = client.request(method, f"/v1/containers/{container}/files/{wanted}{path}")
                assert answer.status_code == 404
                assert "canary" not in answer.text
        assert a.get(f"/v1/containers/{mine}/files/{file}/content").content == b"canary of a"
        assert b.get(f"/v1/containers/{theirs}/files/{foreign}/content").content == b"canary of b"


@case(
    "F18",
    "give up uploads and downloads at every moment, thousands of times",
    "no descriptor of the server, no half file stays",
)
async def test_what_is_given_up_leaves_nothing(desk: Desk) -> None:
    async def download() -> None:
        await content(desk.workspace, "whole")

    async def upload() -> None:
        await desk.workspace.write("late", chunks(bytes(1 << 20), bytes(1 << 20)))

    await desk.workspace.write("whole", chunks(bytes(1 << 20)))
    await download()
    before = len(os.listdir("/proc/self/fd"))
    for step in range(100):
        for begin in (download, upload):
            task = asyncio.ensure_future(begin())
            await asyncio.sleep(0.0001 * (step // 4))
            async with asyncio.timeout(20):
                while not task.done():  # as servers cancel: again and again, until it is over
                    task.cancel()
                    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert set((await desk.run("ls -A")).text.split()) <= {"whole", "late"}
    await upload()
    assert await content(desk.workspace, "late") == bytes(2 << 20)
