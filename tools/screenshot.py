"""Takes docs/console.png: the chat page with two real answers, from a server of its own.

    python tools/screenshot.py [FILE]

Needs Chromium on the path. The home is a new one that shares the tests' models.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull

FILE = Path(__file__).parents[1] / "docs" / "console.png"
KEY = "daulat-screenshot-0123456789-0123456789-0123456789"
QUESTIONS = ("What is the capital of Indonesia?", "Why is the sky blue? Answer in two sentences.")
SIZE: ViewportSize = {"width": 1100, "height": 640}


def main(file: Path) -> None:
    cache = Path(os.environ.get("DAULAT_TEST_CACHE", Path.home() / ".cache" / "daulat-test-models"))
    pull(Catalogue(cache), "starter")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        (home / "models").symlink_to(cache / "models")
        server = subprocess.Popen(
            [sys.executable, "-m", "daulat", "up", "--home", str(home), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DAULAT_API_KEY": KEY, "LANGUAGE": "en"},
        )
        try:
            assert server.stdout is not None
            url = re.search(r"http://\S+", server.stdout.readline())
            assert url is not None, "the server did not start"
            take(url[0], file)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def take(url: str, file: Path) -> None:
    """Ask in a browser, and keep what is seen when it is answered."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--headless"]
        )
        page = browser.new_page(viewport=SIZE, locale="en-GB", device_scale_factor=1.5)
        page.goto(f"{url}/#key={KEY}")
        # The likeliest words: the same picture every time, and an answer that ends.
        page.locator("#settings-open").click()
        page.locator("#temperature").fill("0")
        page.locator("#max-tokens").fill("120")
        page.keyboard.press("Escape")
        box = page.get_by_role("textbox", name="Your message")
        for number, question in enumerate(QUESTIONS):
            box.fill(question)
            box.press("Enter")
            answer = page.locator(".answer").nth(number)
            answer.locator(".record").wait_for(timeout=120_000)
        page.screenshot(path=str(file))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
