"""Under `policy.lock` nothing leaves this machine: packets are counted, and connections come from the door."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from policed import opened, reaching, table

import daulat
from daulat.endpoints import scripted
from daulat.endpoints.remote.build import build
from daulat.errors import NetworkError
from daulat.net.lock import is_loopback, set_lock
from daulat.settings import Endpoint

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PACKAGE = Path(daulat.__file__).parent
SPEAK = (
    *("socket", "ssl", "http.client", "http.server", "urllib.request", "urllib3"),
    *("aiohttp", "httpx", "httpx2", "requests", "openai", "anthropic"),
)
"""Modules that can open a connection."""
MAY = {
    "net": "the door, with its lock",
    "server/run.py": "the server's own listening socket",
    "endpoints/scripted": "the scripted upstream's listening socket, and its tests' questions to it",
    "server/telemetry.py": "the collector that its user names, after the lock was asked",
    "models/templates.py": "a pair of sockets to a child without a network",
    "record/writing.py": "a pair of sockets to the process that writes the record",
    "record/writer.py": "the other end of that pair",
    "cli/serving.py": "the terminal's chat, with a server that its user names",
}


@pytest.mark.timeout(600)
def test_no_packet_wants_out(tmp_path: Path, furnish: Callable[[Path], Path]) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    paths = [str(PACKAGE.parent), str(ROOT / "tests" / "cli"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tools" / "offline.py")),
            *(sys.executable, str(HERE / "locked.py"), str(furnish(home))),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert "held" in done.stdout, done.stderr
    assert "Packets that wanted out: 0" in done.stderr
    assert done.returncode == 0


def test_a_packet_that_wants_out_is_counted() -> None:
    ask = "import socket; socket.socket(2, 2).sendto(b'x', ('203.0.113.5', 53))"
    command = [sys.executable, str(ROOT / "tools" / "offline.py"), sys.executable, "-c", ask]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, "wanted out: 1" in done.stderr) == (1, True)


def test_only_the_door_can_open_connections() -> None:
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if any(place == one or place.startswith(f"{one}/") for one in MAY):
            continue
        found = [
            name for name in _imported(path) for one in SPEAK if f"{name}.".startswith(f"{one}.")
        ]
        assert not found, (place, found)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


class Watch:
    """Hears, from Python's own audit events, who connects where and who asks for names."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.heard is None or event not in ("socket.connect", "socket.getaddrinfo"):
            return
        where = arguments[1] if event == "socket.connect" else arguments
        frame, files = sys._getframe(1), list[str]()
        while frame := frame.f_back:
            files.append(frame.f_code.co_filename)
        self.heard.append(
            (str(where[0]), any(file.startswith(str(PACKAGE / "net")) for file in files))
        )


WATCH = Watch()
"""There is no way to take an audit hook away: there is one, and it hears when it is told to."""


async def test_connections_come_from_the_door_and_go_to_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    policy = replace(reaching(public=(("*",), ()), internal=(("*",), ())), lock=True)
    with scripted.running() as upstream:
        far = Endpoint("openai", key="env:SCRIPTED_KEY", place="us", models=("gpt-4o",))
        endpoints = {"near": table(upstream, "compatible", "this-machine", "m"), "far": far}
        monkeypatch.setattr(WATCH, "heard", [])
        set_lock(True)
        try:
            async with opened(tmp_path / "home", endpoints, policy) as gateway:
                for model, status in (("m", 200), ("gpt-4o", 403), ("no/such", 404)):
                    body = {"model": model, "messages": [{"role": "user", "content": "Hi."}]}
                    answer = await gateway.post("/v1/chat/completions", body)
                    assert answer.status_code == status, answer.text
                # Also where the policy is not asked, the door is shut.
                with pytest.raises(NetworkError, match=r"policy\.lock"):
                    await build(gateway.settings)["far"].models()
        finally:
            set_lock(False)
        heard = WATCH.heard
    assert heard
    for where, from_the_door in heard:
        assert (is_loopback(where), from_the_door) == (True, True), where
