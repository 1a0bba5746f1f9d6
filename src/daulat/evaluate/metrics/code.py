"""`tests`: whether code that an answer writes passes tests. 1 if all pass, else 0.

The code is the last fenced block of the answer, else all of it. The example's column `tests` (another with
`tests=COLUMN`) holds Python that runs behind it: a text, or a list of statements such as MBPP's.
`before=COLUMN` is run ahead of it (HumanEval's prompt, whose function the answer completes), and
`entry=COLUMN` names the function that tests of HumanEval's form are called with, `check(entry)`.

It runs in a cell of its own (`jail`): without a network, seeing none of your files, for `seconds` at most,
with `memory` MiB. Where the system gives no such cell, nothing is run, unless `isolation=weak` says that
limits of memory and time are enough: then the code can do what you can do. A test says what it says: code
that is written to cheat the tests it is run with, and not only to pass them, can.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from daulat.errors import RequestError, UnavailableError
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, whole_number

_FENCE: Final = re.compile(r"^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_JAIL: Final = str(Path(__file__).with_name("jail.py"))
_MORE_SECONDS: Final = 10.0
"""For the cell itself, on a machine that has much to do."""
_VERDICT: Final = 4096
_SHOWN: Final = 300
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/nix/store", "/gnu/store")

_HARNESS: Final = """
import os, sys, traceback, types
verdict = int(sys.argv[1])
token = sys.stdin.readline()
source = sys.stdin.read()
sys.stdin = open(os.devnull)
module = sys.modules["answer"] = types.ModuleType("answer")
try:
    exec(compile(source, "answer.py", "exec", dont_inherit=True), module.__dict__)
except BaseException as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "answer.py"]
    at = source.split("\\n")[lines[0] - 1].strip() if lines else ""
    said = traceback.format_exception_only(error)[-1].strip()
    os.write(verdict, f"{said[:300]}\\n{at[:300]}".encode("utf-8", "replace"))
else:
    os.write(verdict, token.encode())
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Seconds of the clock; of the processor it may have as many."""

    seconds: int = 10
    memory: int = 512 << 20
    file: int = 16 << 20
    files: int = 64
    processes: int = 32

    def told(self) -> dict[str, int]:
        """For the cell."""
        return {
            "cpu": self.seconds + 1,
            "memory": self.memory,
            "file": self.file,
            "files": self.files,
            "processes": self.processes,
        }


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `detail`: why it did not pass; empty: it did."""

    passed: bool
    detail: str = ""


def run(
    program: str, limits: Limits | None = None, *, packages: bool = False, weak: bool = False
) -> Ran:
    """Run a Python program in a cell.

    Args:
        packages: it may import what is installed beside Daulat, and not Python's own library alone.
        weak: without namespaces: its limits are all that holds it.

    Raises:
        UnavailableError: this system gives no cell.
    """
    limits = limits or Limits()
    token = secrets.token_hex(16)
    reading, writing = os.pipe()
    # What outlives a weak cell may hold the other end for ever.
    os.set_blocking(reading, False)
    try:
        with tempfile.TemporaryDirectory(prefix="daulat-cell-") as root:
            python = sys.executable if packages else _base_python()
            config: dict[str, Any] = {
                "root": root,
                "command": [python, *_flags(packages), "-c", _HARNESS, str(writing)],
                "show": _shown_folders(),
                "limits": limits.told(),
                "seconds": limits.seconds,
                "verdict": writing,
                "namespaces": not weak,
            }
            told, errors = _started(config, f"{token}\n{program}", writing)
    finally:
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            said = (pipe.read(_VERDICT) or b"").decode("utf-8", "replace")
    if "setup" in told:
        raise UnavailableError(
            f"This system gives no cell to run code in ({told['setup']}{errors}). On Linux it needs namespaces "
            "for users: ask who runs it, or say `--option isolation=weak` if the code may do what you can do."
        )
    return _verdict(told, said, token, limits)


def _started(config: Mapping[str, Any], text: str, verdict: int) -> tuple[dict[str, Any], str]:
    """What the cell said, and what went wrong in it."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", _JAIL, json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(verdict,),
        env={},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(
                text.encode("utf-8", "replace"), config["seconds"] + _MORE_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"ended": "time"}, ""
        finally:
            # The cell's keeper ends what it keeps; without a cell, this is for what was left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(
                    process.pid, signal.SIGKILL if process.poll() is not None else signal.SIGTERM
                )
    try:
        told = cast("dict[str, Any]", json.loads(out))
    except ValueError:
        told = {"setup": f"exit code {process.returncode}"}
    errors = err.decode("utf-8", "replace").strip().replace("\n", " ")[-300:]
    return told, f"; {errors}" if errors else ""


def _verdict(told: Mapping[str, Any], said: str, token: str, limits: Limits) -> Ran:
    if said.strip() == token:
        return Ran(True)
    if told["ended"] == "time":
        return Ran(False, f"not done after {limits.seconds} s")
    if told["ended"] == "signal":
        return Ran(False, f"ended by signal {told['code']}")
    error, _, at = said.strip().replace(token, "").partition("\n")
    line = at.split("\n")[0][:_SHOWN]
    return Ran(
        False, (error[:_SHOWN] + (f", at: {line}" if line else "")) or "ended before its tests did"
    )


def _flags(packages: bool) -> list[str]:
    return ["-I", "-B"] if packages else ["-I", "-S", "-B"]


def _base_python() -> str:
    """The interpreter without a virtual environment."""
    return str(getattr(sys, "_base_executable", sys.executable))


@functools.cache
def _shown_folders() -> list[str]:
    """What the interpreter needs to run, each folder once."""
    wanted = [*_SYSTEM, sys.base_prefix, sys.prefix, *_homes()]
    found: list[str] = []
    for path in wanted:
        inside = any(path == other or path.startswith(f"{other}/") for other in found)
        if os.path.exists(path) and path != "/" and not inside:
            found.append(path)
    return found


def _homes() -> list[str]:
    """Where the executables really are, behind the links of a virtual environment."""
    real = [os.path.realpath(path) for path in (sys.executable, _base_python())]
    return [str(Path(path).parent.parent) for path in real]


@functools.cache
def isolation() -> str:
    """How strongly code is held on this system: `strong`, or why there is no cell."""
    try:
        return "strong" if run("pass").passed else "a cell that does not run Python"
    except UnavailableError as error:
        return error.message


# --- the metric -----------------------------------------------------------------------------------


def read(answer: str) -> str:
    """The code in an answer."""
    blocks = _FENCE.findall(answer)
    return blocks[-1] if blocks else answer


def _make(options: Mapping[str, str], _tools: Tools) -> Scorer:
    limits = Limits(
        seconds=whole_number(options, "seconds", 1, 600),
        memory=whole_number(options, "memory", 64, 65_536) << 20,
    )
    packages, weak = options["packages"] == "yes", options["isolation"] == "weak"

    def score(example: Example, answer: str) -> Score:
        before = _text(example, options["before"]) if options["before"] else ""
        tests = _text(example, options["tests"])
        entry = _text(example, options["entry"]) if options["entry"] else ""
        call = f"check({entry.strip()})" if entry else ""
        # A comment, so that what an answer leaves open (a string, a bracket) is its own error.
        program = "\n".join((before, read(answer), "# tests", tests, call, ""))
        ran = run(program, limits, packages=packages, weak=weak)
        return Score(float(ran.passed), ran.detail)

    return score


def _text(example: Example, name: str) -> str:
    """A column with code: a text, or a list of statements.

    Raises:
        RequestError: the example has none.
    """
    value = example.fields.get(name)
    if isinstance(value, list) and all(isinstance(one, str) for one in cast("list[Any]", value)):
        return "\n".join(cast("list[str]", value))
    if isinstance(value, str) and value.strip():
        return value
    raise RequestError(
        f"The example {example.id} has no code in the column {name!r}. Say which column has it: "
        "--option tests=COLUMN."
    )


TESTS: Final = Metric(
    "tests",
    "code that passes tests, run in a cell",
    _make,
    {
        "tests": Option("tests", "the column with the tests"),
        "before": Option("", "a column with code to run ahead of the answer"),
        "entry": Option("", "a column with the function's name, for tests that define check()"),
        "seconds": Option("10", "how long it may run"),
        "memory": Option("512", "MiB that it may have"),
        "packages": Option("no", "yes: it may import installed packages", ("yes", "no")),
        "isolation": Option("strong", "weak: run it without a cell", ("strong", "weak")),
    },
    references=False,
    slow=True,
)
