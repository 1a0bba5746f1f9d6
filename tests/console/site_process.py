"""A server process for the browser tests: it can be stopped and started again on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page

KEY = "daulat-test-key-of-the-console-tests-0123456789"

OpenPage = Callable[..., Page]
"""`open_page(site, key=…, blocked=…, **browser_context_options)`: a new visitor's page.

`blocked`: words of the message that the browser writes when it blocks what the test tries.
"""


@dataclass(slots=True)
class Site:
    """Attributes: `home` holds settings and models, `kind` is native or scripted, `settings` more tables."""

    home: Path
    kind: str
    settings: str = ""
    url: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        port = urlsplit(self.url).port or 0
        self.home.joinpath("daulat.toml").write_text(
            f'[server]\nport = {port}\n[log]\nformat = "json"\n{self.settings}', encoding="utf-8"
        )
        script = Path(__file__).with_name("console_process.py")
        with self.home.joinpath("server.log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), str(self.home), self.kind],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "DAULAT_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.home.joinpath("server.log").read_text(encoding="utf-8")

    def stop(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        assert self.process.stdout
        self.process.stdout.close()


def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    width = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, window = page.evaluate(width)
    assert whole <= window
