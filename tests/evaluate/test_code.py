"""Code in its cell: what passes, what does not, and what it cannot reach."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from daulat.errors import RequestError, UnavailableError
from daulat.evaluate import metrics
from daulat.evaluate.examples import Chosen, Example
from daulat.evaluate.metrics import code
from daulat.evaluate.metrics.code import Limits, Ran
from daulat.values.request import Message

QUICK = Limits(seconds=5)
needs_cell = pytest.mark.skipif(code.isolation() != "strong", reason=code.isolation())


def run(program: str, limits: Limits = QUICK) -> Ran:
    return code.run(program, limits)


@needs_cell
@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("assert 1 + 1 == 3", "AssertionError, at: assert 1 + 1 == 3"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ended before its tests did"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("open('/tmp/x', 'wb').write(b'0' * (64 << 20))", "File too large"),
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("import os\nfor _ in range(1000): os.fork()", "Resource temporarily unavailable"),
        ("[open('/tmp/%d' % i, 'w') for i in iter(int, 1)] or 1", ""),
        ("import numpy", "ModuleNotFoundError"),
    ],
)
def test_what_does_not_pass(program: str, detail: str) -> None:
    if not detail:
        program = "files = [open('/tmp/%d' % i, 'w') for i in range(1000)]"
        detail = "Too many open files"
    ran = run(program)
    assert not ran.passed
    assert detail in ran.detail


@needs_cell
def test_what_passes() -> None:
    assert run("import json, dataclasses\nassert json.loads('1') == 1") == Ran(True)
    assert code.run("import numpy", QUICK, packages=True).passed


@needs_cell
@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_its_time_is_bounded(program: str) -> None:
    began = time.monotonic()
    assert run(program, Limits(seconds=1)) == Ran(False, "not done after 1 s")
    assert time.monotonic() - began < 8


@needs_cell
def test_it_reaches_nothing_of_ours(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tries = {
            "a file": f"open({str(secret)!r}).read()",
            "a port of this machine": f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
            "the network": "import socket; socket.create_connection(('192.0.2.1', 80), 2)",
            "our process": f"import os; os.kill({os.getpid()}, 0)",
            "every process": "import os; os.kill(-1, 9)",
            "our environment": "import os; os.environ['PYTHONPATH'], os.environ['DAULAT_HOME']",
            "a mount": (
                "import ctypes; libc = ctypes.CDLL(None)\n"
                "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"
            ),
            "root": "import os; os.setuid(12345)",
            "an open file": "import os; [os.fstat(n) for n in range(3, 64)]",
        }
        passed = [what for what, program in tries.items() if run(program).passed]
    assert passed == []
    assert secret.read_text(encoding="utf-8") == "secret"


@needs_cell
def test_nothing_of_it_stays(tmp_path: Path) -> None:
    mark = f"daulat-left-{os.getpid()}"
    program = (
        "import os, time\n"
        f"open('/tmp/{mark}', 'w').write('x')\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    time.sleep(30)  # {mark}\n"
    )
    assert run(program).passed
    assert not list(Path("/tmp").glob(f"**/{mark}"))  # noqa: S108
    time.sleep(0.2)
    # The interpreter has the program from its input; the harness is what a process list would show.
    alive = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"answer.py" in _read(p)]
    assert alive == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_without_a_cell_there_are_its_limits() -> None:
    assert code.run("assert True", QUICK, weak=True) == Ran(True)
    assert not code.run("bytearray(2 << 30)", QUICK, weak=True).passed
    assert code.run("while True: pass", Limits(seconds=1), weak=True).detail == "not done after 1 s"


def test_where_there_is_no_cell_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_JAIL", str(Path(__file__).with_name("no_jail.py")))
    with pytest.raises(UnavailableError, match="gives no cell"):
        code.run("pass", QUICK)


# --- the metric -----------------------------------------------------------------------------------

MBPP = {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}
HUMAN_EVAL = {
    "prompt": "def add(a, b):\n    '''Add.'''\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}


@needs_cell
@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", 1),
        ("First a try:\n```\nx = 1\n```\nThen:\n```py\ndef add(a, b): return a + b\n```\nDone.", 1),
        ("def add(a, b):\n    return a + b", 1),
        ("```python\ndef add(a, b):\n    return a - b\n```", 0),
        ("I cannot help with that.", 0),
        ("x = '''", 0),
    ],
)
async def test_tests_of_a_list(answer: str, right: int) -> None:
    judge = metrics.scorer(Chosen("tests", {"seconds": "5"}))
    asked = Example("1", (Message("user", "Write add."),), fields=MBPP)
    assert (await metrics.scored(judge, asked, answer)).value == right


@needs_cell
async def test_tests_with_a_beginning_and_an_entry() -> None:
    options = {"tests": "test", "before": "prompt", "entry": "entry_point"}
    judge = metrics.scorer(Chosen("tests", options))
    asked = Example("1", (Message("user", "Go on."),), fields=HUMAN_EVAL)
    assert (await metrics.scored(judge, asked, "    return a + b")).value == 1
    found = await metrics.scored(judge, asked, "    return a * b")
    assert found.value == 0
    assert "assert candidate(1, 2) == 3" in found.detail or "check(add)" in found.detail


async def test_an_example_without_tests_is_told() -> None:
    judge = metrics.scorer(Chosen("tests"))
    with pytest.raises(RequestError, match="no code in the column 'tests'"):
        judge(Example("7", (Message("user", "?"),)), "pass")
    with pytest.raises(RequestError, match="seconds is a number"):
        metrics.scorer(Chosen("tests", {"seconds": "0"}))
