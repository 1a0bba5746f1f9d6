"""A real browser and real servers for the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from site_process import KEY, OpenPage, Site

from daulat.endpoints import scripted
from daulat.models.catalogue import ModelEntry

# Chromium reports every answer that is an error; these belong to what a test asks for.
_EXPECTED = ("Failed to load resource",)


@pytest.fixture(scope="session")
def scripted_site(
    starter_entry: ModelEntry, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The real server and page, with an endpoint that does what it is told."""
    yield from _running(tmp_path_factory.mktemp("scripted") / "home", model_cache, "scripted")


@pytest.fixture(scope="session")
def native_site(
    starter_entry: ModelEntry, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The real server and page with the starter model."""
    yield from _running(tmp_path_factory.mktemp("native") / "home", model_cache, "native")


_ELSEWHERE = """
[endpoints.rented]
kind = "openai"
url = "{url}/v1"
key = "file:{key}"
place = "us"
models = ["echo"]
names = {{ echo = "scripted" }}
[endpoints.rented.prices.echo]
input = "1000"
output = "2000"
[policy.classes.internal]
places = ["us"]
"""


@pytest.fixture(scope="session")
def rented_site(
    starter_entry: ModelEntry, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The real server and page with the starter model, and a model elsewhere that echoes and has a price."""
    folder = tmp_path_factory.mktemp("rented")
    (folder / "key").write_text("scripted-secret")
    (folder / "key").chmod(0o600)
    with scripted.running() as upstream:
        settings = _ELSEWHERE.format(url=upstream.url, key=folder / "key")
        yield from _running(folder / "home", model_cache, "native", settings)


def _running(home: Path, cache: Path, kind: str, settings: str = "") -> Iterator[Site]:
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(cache / "models")
    site = Site(home, kind, settings)
    site.start()
    yield site
    site.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages as new visitors; in the end demands a silent console and no foreign request."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(
        site: Site, *, key: str | None = KEY, blocked: str | None = None, **options: object
    ) -> Page:
        context = browser.new_context(**{"locale": "en-GB", **options})  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()

        def on_console(kind: str, text: str) -> None:
            if kind not in {"error", "warning"} or text.startswith(_EXPECTED):
                return
            if blocked is None or blocked not in text:
                faults.append(text)

        def on_request(address: str) -> None:
            if urlsplit(address).netloc != urlsplit(site.url).netloc:
                faults.append(f"asked another server: {address}")

        page.on("console", lambda message: on_console(message.type, message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: on_request(request.url))
        page.goto(site.url + ("/" if key is None else f"/#key={key}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults
