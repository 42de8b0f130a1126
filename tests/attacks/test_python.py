"""Y: the interpreter. It is no boundary; what is around it is."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from deskhand.sandboxes.layout import layout, load

from .cases import case
from .product import Product

OUTPUTS: Final[Any] = ["code_interpreter_call.outputs"]


def run(product: Product, code: str, container: str = "", project: str = "a") -> Any:
    """One cell; its `code_interpreter_call`."""
    place: Any = container or {"type": "auto"}
    body = {
        "model": "m",
        "input": f"@@ python <<THEEND\n{code}\nTHEEND",
        "tools": [{"type": "code_interpreter", "container": place}],
        "include": OUTPUTS,
    }
    with product.http(project) as client:
        answer = client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    return next(item for item in answer.json()["output"] if item["type"] == "code_interpreter_call")


def logs(call: Any) -> str:
    """What a cell has printed."""
    return "".join(output["logs"] for output in call["outputs"] or [] if output["type"] == "logs")


CELLS: Final = {
    "os._exit": "import os; os._exit(0)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "abort": "import os; os.abort()",
    "kill": "import os; os.kill(os.getpid(), 9)",
    "recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "memory": "x = []\nwhile True: x.append(bytearray(64 << 20))",
    "close": "import os; os.closerange(0, 256); print('closed')",
    "repr": "class E:\n    def __repr__(self): raise SystemExit\nE()",
    "endless repr": "class E(list):\n    def __repr__(self): return 'x' * 10**9\nE()",
    "flood": "while True: print('x' * 100000)",
    "stdout": "import sys; sys.stdout = None; sys.stderr = 3; print('x')",
    "builtins": "import builtins\nfor n in list(vars(builtins)):\n    try: setattr(builtins, n, None)\n    except Exception: pass",
    "modules": "import sys; sys.modules.clear(); import gc\n[o.clear() for o in gc.get_objects() if isinstance(o, dict)]",
    "exit": "raise SystemExit(3)",
    "base": "class B(BaseException): pass\nraise B('x')",
    "threads": "import threading, time\nfor _ in range(500):\n    threading.Thread(target=time.sleep, args=(60,)).start()",
    "finaliser": "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndel d",
    "signals": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass",
    "tracer": "import sys\nsys.settrace(lambda *a: (_ for _ in ()).throw(KeyError))\nprint(1)",
    "surrogates": "print('\\ud800\\udfff' * 1000)",
}  # fmt: skip

CORRUPTING: Final = ("builtins", "modules", "tracer", "stdout", "close")
"""After these an interpreter need not compute any more; that it says so is enough."""


@case("Y01", "end, crash, corrupt, flood and hang the interpreter from inside: os._exit, segfaults, closed descriptors, "
      "emptied modules, endless __repr__, ignored signals", "a readable result; the next cell works; the server is unaffected")  # fmt: skip
def test_whatever_a_cell_does_the_next_one_works(product: Product) -> None:
    def attack(name: str) -> None:
        container = product.container("c")
        body = {
            "model": "m",
            "input": f"@@ python <<THEEND\n{CELLS[name]}\nTHEEND\n@@ python 6 * 7",
            "tools": [{"type": "code_interpreter", "container": container}],
            "include": OUTPUTS,
        }
        with product.http("c") as client:
            answer = client.post("/v1/responses", json=body, timeout=100)
            assert answer.status_code == 200, (name, answer.text)
            calls = [item for item in answer.json()["output"] if item["type"] == "code_interpreter_call"]
            assert len(calls) == 2, name
            if name not in CORRUPTING:
                assert logs(calls[-1]).strip().endswith("42"), (name, calls[-1])
            assert logs(calls[-1]).strip(), f"nothing is said after {name!r}"
            client.delete(f"/v1/containers/{container}")

    quick = [name for name in CELLS if name not in ("flood", "finaliser", "signals")]  # they take their whole time
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attack, quick))


@case(
    "Y04",
    "loops that never end, that swallow every exception, that hold the lock in C",
    "stopped at the deadline; what is lost is said",
)
def test_an_endless_cell_is_ended(engine_name: str, launch: Any, upstream_url: str) -> None:
    server = launch(engine=engine_name, command_timeout_seconds="3")
    product = Product(server, engine_name)
    client = server.client()
    for loop in (
        "while True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
        "import time; time.sleep(1e9)",
        CELLS["signals"],
        CELLS["finaliser"],
    ):
        began = time.monotonic()
        script = f"@@ python <<THEEND\n{loop}\nTHEEND\n@@ python 6 * 7"
        answer: Any = client.responses.create(
            model="m", input=script, tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
            include=OUTPUTS,
        )  # fmt: skip
        calls = [item.to_dict() for item in answer.output if item.type == "code_interpreter_call"]
        assert logs(calls[-1]).strip().endswith("42"), loop
        assert logs(calls[0]).strip(), f"nothing is said of {loop!r}"
        assert time.monotonic() - began < 60
    assert product.server.process.poll() is None


@case("Y03", "speak the agent's and the interpreter's protocols on every open descriptor", "no effect but on oneself")
def test_a_cell_cannot_speak_for_others(product: Product) -> None:
    container = product.container("c")
    forge = """
import os, socket, struct
for fd in range(3, 64):
    for kind in b"EOTQDHXR":
        for payload in (b"", b"\\0\\0\\0", b"\\1forged", bytes(17)):
            try:
                os.set_blocking(fd, False)
                os.write(fd, struct.pack(">I", len(payload)) + bytes([kind]) + payload)
            except OSError:
                pass
print("forged")
"""
    run(product, forge, container, "c")
    assert "forged" not in product.shell("echo mine", container, "c").stdout
    assert product.shell("echo mine", container, "c").stdout == "mine\n"
    assert logs(run(product, "6 * 7", container, "c")).strip().endswith("42")


@case(
    "Y05",
    "plant sitecustomize, .pth files and pickles for the interpreter that comes next",
    "they run inside, as anything there",
)
def test_what_is_planted_runs_inside_alone(product: Product) -> None:
    container = product.container("c")
    plant = ("import os, site\nfor d in ('/opt/venv/lib/python3.11/site-packages', '/mnt/data', os.path.expanduser('~')):\n"
             "    os.makedirs(d, exist_ok=True)\n"
             "    open(d + '/sitecustomize.py', 'w').write(\"import os; open('/mnt/data/sprung-%d' % os.getuid(), 'w')\")\n"
             "    open(d + '/numpy.py', 'w').write('raise SystemExit')\nos._exit(1)")  # fmt: skip
    run(product, plant, container, "c")
    run(product, "1", container, "c")
    listed = product.shell("ls /mnt/data", container, "c").stdout.split()
    assert all(not name.startswith("sprung-") or name == "sprung-1000" for name in listed)
    assert product.shell("echo alive", container, "c").stdout == "alive\n"
    assert logs(run(product, "6 * 7", project="c")).strip().endswith("42"), (
        "another container's interpreter is untouched"
    )


SAME: Final = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


@case("Y06", "find an interpreter that has more than a command has: privileges, descriptors, namespaces, no filter, another cgroup",
      "the same of everything as the container's first process")  # fmt: skip
def test_an_interpreter_is_what_everything_else_is(product: Product) -> None:
    if product.engine == "gvisor":
        pytest.skip("processes in gVisor are not processes of the host")
    container = product.container("c")
    seen = logs(
        run(product, "import os; print(sorted(os.listdir('/proc/self/fd'), key=int), os.getpid())", container, "c")
    )
    for _ in range(3):  # the first may be a cold one; warm ones follow
        own = product.container("c")
        seen += logs(
            run(product, "import os; print(sorted(os.listdir('/proc/self/fd'), key=int), os.getpid())", own, "c")
        )
    record = load(layout(product.root, as_root=os.geteuid() == 0).place(own))
    assert record is not None
    assert record.init is not None
    init = record.init.pid
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    inside = [entry for entry in Path("/proc").glob("[0-9]*") if linked(entry / "ns" / "pid") == namespace]
    assert len(inside) >= 2, "the control: the agent and an interpreter"
    model = status(Path(f"/proc/{init}"))
    for entry in inside:
        found = status(entry)
        assert {name: found[name] for name in SAME} == {name: model[name] for name in SAME}, entry
        for kind in ("user", "mnt", "net", "ipc", "uts", "cgroup"):
            assert linked(entry / "ns" / kind) == linked(Path(f"/proc/{init}/ns/{kind}")), (entry, kind)
        assert (entry / "cgroup").read_text() == Path(f"/proc/{init}/cgroup").read_text()
        for descriptor in (entry / "fd").iterdir():
            target = linked(descriptor)
            assert target.startswith(
                ("socket:", "pipe:", "anon_inode:", "/dev/", "/proc/", "/mnt/data", "/tmp", "/memfd:", "/")
            ), target
            assert str(product.server.data_dir) not in target
            assert "deskhand.sqlite" not in target


def linked(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def status(entry: Path) -> dict[str, str]:
    pairs = [line.partition(":") for line in (entry / "status").read_text().splitlines()]
    return {name: value.strip() for name, _, value in pairs}


@case(
    "Y07", "kill the process that makes interpreters, while they are asked for", "interpreters still come, only colder"
)
def test_the_makers_death_is_survived(product: Product) -> None:
    container = product.container("c")
    assert logs(run(product, "6 * 7", container, "c")).strip().endswith("42")
    makers = [entry for entry in Path("/proc").glob("[0-9]*") if "resident.zygote" in words(entry)
              and str(product.server.process.pid) in ancestors(entry)]  # fmt: skip
    for entry in makers:
        os.kill(int(entry.name), signal.SIGKILL)
    for _ in range(3):
        assert logs(run(product, "6 * 7", product.container("c"), "c")).strip().endswith("42")


def words(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def ancestors(entry: Path) -> list[str]:
    found: list[str] = []
    pid = entry.name
    while pid not in ("0", "1", "") and len(found) < 20:
        try:
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            break
        found.append(pid)
    return found
