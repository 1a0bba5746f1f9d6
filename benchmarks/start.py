"""Measures the start: from `daulat up` to ready, from there to the first token, and peak memory.

Each run has a home of its own that already holds the starter model, so that no download is counted.
Ready is when `daulat up` prints its address: /health answers and the model is loaded. Memory is the
sum of the largest resident sizes (VmHWM) of the server and its children. The file cache is warm
after the first run, which is why medians are given, and all runs beside them.

    python benchmarks/start.py [--runs 5]

Writes benchmarks/results/start.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import psutil

from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull

MODEL = "SmolLM2-135M-Instruct"
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "start.json"
PAGE = ROOT / "docs" / "benchmarks.md"
KEY = "daulat-benchmark-0123456789-0123456789-0123456789"
PACKAGES = ("daulat", "torch", "numpy", "numba", "gguf", "tokenizers", "uvicorn", "uvloop")
AIMS = {"ready": (3.0, "s"), "first_token": (0.5, "s"), "peak_memory": (1024.0, "MiB")}
WORDS = {
    "ready": "`daulat up` to ready",
    "first_token": "ready to first token",
    "peak_memory": "peak memory",
}


def run_once(cache: Path) -> dict[str, float]:
    """One start in a new home."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        (home / "models").symlink_to(cache / "models")
        environment = {**os.environ, "DAULAT_API_KEY": KEY, "LANGUAGE": "en"}
        # What is installed has its bytecode beside it; so has this, after the first run.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        started = time.monotonic()
        server = subprocess.Popen(
            [sys.executable, "-m", "daulat", "up", "--home", str(home), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            return _measure(server, started)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)


def _measure(server: subprocess.Popen[str], started: float) -> dict[str, float]:
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    ready = time.monotonic()
    assert found is not None, "the server did not start"
    first = _first_token(found[0])
    return {
        "ready": round(ready - started, 3),
        "first_token": round(first, 3),
        "peak_memory": round(_peak(server.pid) / (1 << 20), 1),
    }


def _first_token(url: str) -> float:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of Indonesia?"}],
        "max_tokens": 16,
        "stream": True,
    }
    started = time.monotonic()
    first = None
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120
    ) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            # The first chunk holds the role only; the first text is what a person sees.
            if first is None and re.search(r'"content":\s*"[^"]', line):
                first = time.monotonic() - started
    assert first is not None, "there was no answer"
    return first


def _peak(pid: int) -> int:
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(_high_water(process.pid) for process in tree)


def _high_water(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def conditions() -> dict[str, Any]:
    """What a figure was measured on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": MODEL,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
            "system": platform.system() + " " + platform.release().partition("-")[0],
        },
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def environment_facts() -> str:
    """`conditions` as a sentence."""
    return facts(conditions())


def report(runs: list[dict[str, float]]) -> dict[str, Any]:
    median = {name: statistics.median(run[name] for run in runs) for name in AIMS}
    return {**conditions(), "runs": runs, "median": median}


def table(result: dict[str, Any]) -> str:
    lines = ["| | median | all runs | aim |", "|---|---|---|---|"]
    for name, (aim, unit) in AIMS.items():
        every = ", ".join(f"{run[name]:g}" for run in result["runs"])
        median = f"{result['median'][name]:g} {unit}"
        lines.append(f"| {WORDS[name]} | {median} | {every} | at most {aim:g} {unit} |")
    return "\n".join([*lines, "", facts(result)])


def facts(result: dict[str, Any]) -> str:
    """One sentence: date, machine, versions, model."""
    machine, versions = result["machine"], result["versions"]
    return (
        f"{result['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; {result['model']}."
    )


def write_table(name: str, text: str) -> None:
    """Put a table between its marks in docs/benchmarks.md."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _start, rest = page.partition(start)
    _old, _end, after = rest.partition(end)
    PAGE.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def write(result: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table("start", table(result))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the start of the server.")
    parser.add_argument("--runs", type=int, default=5)
    runs = max(1, parser.parse_args().runs)
    default = Path.home() / ".cache" / "daulat-test-models"
    cache = Path(os.environ.get("DAULAT_TEST_CACHE", default))
    pull(Catalogue(cache), "starter")
    result = report([run_once(cache) for _number in range(runs)])
    write(result)
    print(table(result))


if __name__ == "__main__":
    main()
