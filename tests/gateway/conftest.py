"""One server, one upstream, every case asked once; the tests look at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_house import BETWEEN, KEY, LATE, WORDS, Run, ask_all, exported, settings
from outcomes import cases

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Delays, Script
from tests.cli.command import daulat, up


@pytest.fixture(scope="session")
def run(furnish: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = furnish(tmp_path_factory.mktemp("gateway") / "home")
    home.chmod(0o700)
    every = cases()
    with scripted.running(
        Script(words=WORDS, delays=Delays(between=BETWEEN, late=LATE))
    ) as upstream:
        (home / "daulat.toml").write_text(settings(upstream.url, every), encoding="utf-8")
        with up(
            home, more={"SCRIPTED_KEY": "scripted-secret-key", "DAULAT_API_KEY": KEY}
        ) as server:
            got = asyncio.run(ask_all(server.url, every))
            out = home / "record.jsonl"
            done = daulat(home, "record", "export", "-o", str(out))
            assert done.returncode == 0, done.stderr
            verified = daulat(home, "record", "verify")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            yield Run(server, got, exported(out), verified.stdout)
