"""Starts what benchmarks/gateway.py measures: the scripted upstream, Daulat before it, and its peers.

A peer lives in a Python of its own. LiteLLM's proxy:

    python3.11 -m venv litellm && litellm/bin/pip install 'litellm[proxy]' httptools

httptools because uvicorn parses HTTP in Python without it. It is run as its pages on production and benchmarks
say (docs.litellm.ai/docs/proxy/prod, docs.litellm.ai/docs/benchmarks): a config.yaml with one OpenAI-compatible
model, a master key, no database, no callbacks, no retries, LITELLM_MODE=PRODUCTION, LITELLM_LOG=ERROR, uvicorn
with uvloop; with one worker, and with one for each of two cores. Its table of prices is read from its own
package, for it fetches it from the network otherwise.

Not here: what is asked (benchmarks/load.py), what is measured (benchmarks/gateway.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from start import KEY, ROOT

MODEL = "scripted"
UPSTREAM_KEY = "scripted-benchmark-0123456789-0123456789"
LITELLM_KEY = "sk-benchmark-0123456789-0123456789"
PATIENCE = 180.0
"""Seconds in which a server must answer its first question."""
NOT_INHERITED = frozenset({"PYTHONDONTWRITEBYTECODE"})
"""What is installed has its bytecode beside it."""


class Unmeasured(Exception):
    """A server or the load did not do as it should; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers chats at `url`/v1/chat/completions."""

    name: str
    url: str
    key: str
    process: subprocess.Popen[bytes]

    def resident(self) -> float:
        """MiB in memory, of all its processes; what they share counts for each."""
        parent = psutil.Process(self.process.pid)
        sizes = [p.memory_info().rss for p in (parent, *parent.children(recursive=True))]
        return sum(sizes) / (1 << 20)


Start = Callable[[Target], AbstractContextManager[Target]]
"""A gateway before that upstream."""


def loaded(
    target: Target, kind: str, heard: Callable[[int], None] | None = None, **job: Any
) -> Any:
    """One job of benchmarks/load.py against it; `heard` is told how many requests are done.

    Raises:
        Unmeasured: the load ended badly.
    """
    command = [sys.executable, str(Path(__file__).with_name("load.py"))]
    whole = {"kind": kind, "url": target.url, "key": target.key, "model": MODEL, **job}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        assert load.stderr is not None
        load.stdin.write(json.dumps(whole))
        load.stdin.close()
        told: dict[str, Any] = {}
        for line in load.stdout:
            told = json.loads(line)
            if heard is not None and "done" in told:
                heard(told["done"])
        said = load.stderr.read()
    if load.returncode or "answered" not in told:
        raise Unmeasured(f"the load on {target.name}: {said[-2000:]}")
    return told


@contextlib.contextmanager
def upstream(pace: float = 0.0) -> Iterator[Target]:
    """The scripted upstream, saying back what it is asked, a token each `pace` seconds where it streams."""
    port = _free_port()
    command = [sys.executable, "-m", "daulat", "scripted", "--port", str(port)]
    if pace:
        command += ["--between", str(pace)]
    with tempfile.TemporaryDirectory() as folder:
        started = _serve("upstream", command, {}, Path(folder), UPSTREAM_KEY, lambda _: port)
        with started as target:
            yield target


@contextlib.contextmanager
def daulat(before: Target) -> Iterator[Target]:
    """Daulat in a home of its own, as it is without settings but for the endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        (home / "daulat.toml").write_text(_settings(before.url), encoding="utf-8")
        _with_starter(home)
        command = [sys.executable, "-m", "daulat", "up", "--home", str(home), "--port", "0"]
        environment = {"DAULAT_API_KEY": KEY, "SCRIPTED_KEY": UPSTREAM_KEY, "LANGUAGE": "en"}
        started = _serve("daulat", command, environment, Path(folder), KEY, _printed_port)
        with started as target:
            yield target


def _settings(url: str) -> str:
    return f"""
[endpoints.up]
kind = "openai"
url = "{url}/v1"
key = "env:SCRIPTED_KEY"
place = "own-network"
models = ["{MODEL}"]

[policy.classes.internal]
places = ["this-machine", "own-network"]
"""


def _with_starter(home: Path) -> None:
    """What a first start would fetch, so that none is waited for."""
    from common import cache_folder

    from daulat.models.catalogue import Catalogue
    from daulat.models.pull import pull

    pull(Catalogue(cache_folder()), "starter")
    (home / "models").symlink_to(cache_folder() / "models")


def _printed_port(log: Path) -> int | None:
    found = re.search(r"http://[^\s/]+:(\d+)", log.read_text(encoding="utf-8", errors="replace"))
    return int(found[1]) if found else None


def litellm(python: str, workers: int) -> Start:
    """LiteLLM's proxy with so many worker processes."""

    @contextlib.contextmanager
    def start(before: Target) -> Iterator[Target]:
        port = _free_port()
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.yaml"
            # JSON is YAML.
            config.write_text(json.dumps(_litellm_config(before.url)), encoding="utf-8")
            program = str(Path(python).with_name("litellm"))
            places = ["--host", "127.0.0.1", "--port", str(port)]
            command = [program, "--config", str(config), *places, "--num_workers", str(workers)]
            name = litellm_name(workers)
            started = _serve(name, command, LITELLM, Path(folder), LITELLM_KEY, lambda _: port)
            with started as target:
                yield target

    return start


LITELLM = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_PROXY": "127.0.0.1",
    "PYTHONPATH": "",
}


def _litellm_config(url: str) -> dict[str, Any]:
    there = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": UPSTREAM_KEY}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": there}],
        "general_settings": {"master_key": LITELLM_KEY},
        "litellm_settings": {
            "set_verbose": False,
            "json_logs": False,
            "callbacks": [],
            "num_retries": 0,
            "request_timeout": 60,
        },
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }


def litellm_name(workers: int) -> str:
    return f"LiteLLM, {workers} worker" + ("s" if workers > 1 else "")


def peers(pythons: Mapping[str, str]) -> dict[str, Start]:
    """Those whose interpreters are given, by the names of their rows."""
    if "litellm" not in pythons:
        return {}
    return {litellm_name(count): litellm(pythons["litellm"], count) for count in (1, 2)}


PACKAGES = {"litellm": ("litellm", "uvicorn", "uvloop", "httptools")}
"""What a peer's environment must hold; their versions are reported."""


def versions(name: str, python: str) -> str:
    """`litellm 1.2.3, ...`, of that environment."""
    program = (
        "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    )
    told = subprocess.run(
        [python, "-c", program, *PACKAGES[name]], check=True, capture_output=True, text=True
    )
    pairs = zip(PACKAGES[name], told.stdout.split(), strict=True)
    return ", ".join(f"{package} {number}" for package, number in pairs)


@contextlib.contextmanager
def _serve(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    key: str,
    port: Callable[[Path], int | None],
) -> Iterator[Target]:
    """Run a server until it has answered its first question rightly; end it with all its processes afterwards.

    Raises:
        Unmeasured: it ended, or did not answer in time.
    """
    log = folder / "log"
    with log.open("wb") as output:
        inherited = {name: at for name, at in os.environ.items() if name not in NOT_INHERITED}
        process = subprocess.Popen(
            command,
            env={**inherited, **environment},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _ready(name, process, key, log, port)
    finally:
        _end(process)


def _ready(
    name: str,
    process: subprocess.Popen[bytes],
    key: str,
    log: Path,
    port: Callable[[Path], int | None],
) -> Target:
    limit, why = time.monotonic() + PATIENCE, "it said nothing"
    while time.monotonic() < limit and process.poll() is None:
        found = port(log)
        if found is not None and _listens(found):
            target = Target(name, f"http://127.0.0.1:{found}", key, process)
            told = loaded(
                target, "many", requests=1, under_way=1, connections=1, tokens=8, timeout=20.0
            )
            if told["answered"]:
                return target
            why = str(told["quoted"])
        time.sleep(0.2)
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise Unmeasured(f"{name} does not answer ({why}): {said}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask, then insist; its workers are in its session."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
