"""A server process for tests, and the ways to speak to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

KEY = "daulat-test-key-of-the-server-tests-0123456789"
STARTER = "SmolLM2-135M-Instruct"
EMBEDDER = "all-MiniLM-L6-v2"
READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that answers."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def sdk(self, **options: Any) -> OpenAI:
        options = {"api_key": KEY, "max_retries": 0, "timeout": 120, **options}
        return OpenAI(base_url=f"{self.url}/v1", **options)

    def async_sdk(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=120)

    def anthropic(self, **options: Any) -> Anthropic:
        options = {"api_key": KEY, "max_retries": 0, "timeout": 120, **options}
        return Anthropic(base_url=self.url, **options)

    def async_anthropic(self) -> AsyncAnthropic:
        return AsyncAnthropic(base_url=self.url, api_key=KEY, max_retries=0, timeout=120)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        return httpx2.request(method, self.url + path, headers=headers, timeout=120, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return self.request("POST", path, json=body, **options)

    def say(self, text: str, **fields: Any) -> httpx2.Response:
        message = {"role": "user", "content": text}
        return self.post(
            "/v1/chat/completions", {"model": STARTER, "messages": [message], **fields}
        )

    def events(self, text: str, **fields: Any) -> list[Any]:
        """The data of a streamed chat's events: JSON values, and "[DONE]"."""
        lines = self.say(text, stream=True, **fields).text.splitlines()
        assert all(line.startswith("data: ") for line in lines if line)
        data = [line.removeprefix("data: ") for line in lines if line]
        return [item if item == "[DONE]" else json.loads(item) for item in data]

    def new_key(self, name: str) -> str:
        """A key of another tenant."""
        command = [sys.executable, "-m", "daulat", "--home", str(self.home), "keys", "create", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def metric(self, name: str) -> float:
        text = self.request("GET", "/metrics").text
        values = [line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")]
        return float(values[0])


def wait_until(check: Callable[[], Any], seconds: float = 10) -> None:
    """Until `check` is true; fails the test when that takes too long."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def running(home: Path, kind: str, settings: str = "") -> Iterator[Server]:
    """A server process for the time of the context."""
    (home / "daulat.toml").write_text(
        f'[server]\nport = 0\n{settings}\n[log]\nformat = "json"\n', encoding="utf-8"
    )
    log = home / "server.log"
    environment = {**os.environ, "DAULAT_API_KEY": KEY, "OMP_NUM_THREADS": "2"}
    script = str(Path(__file__).with_name("process.py"))
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, script, str(home), kind],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), log.read_text(encoding="utf-8")
            yield Server(url, home, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            process.stdout.close()


def home_with_models(folder: Path, cache: Path) -> Path:
    """A new home that has the cached models."""
    folder.mkdir(mode=0o700)
    (folder / "models").symlink_to(cache / "models")
    return folder
