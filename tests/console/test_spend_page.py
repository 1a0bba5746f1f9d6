"""The page of sums in a real browser: what it shows, in both languages, colours and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from site_process import KEY, OpenPage, Site, fits
from sqlalchemy import create_engine

from daulat.record import Record, statistics
from daulat.record.keys import Keys
from daulat.record.statistics import Used
from daulat.values.answer import Usage
from daulat.values.money import amount

TODAY = datetime.now(UTC).date().isoformat()
USED = (
    ("openai", "gpt-5", "41.283", Usage(912_400, 211_000, 30_000, 0, 90_000), False, 412),
    ("openai", "gpt-5", "0", Usage(0), True, 3),
    (
        "vertex-jakarta",
        "gemini-3-pro-preview-with-a-long-name",
        "7.5",
        Usage(88_000, 41_900),
        False,
        57,
    ),
    ("watsonx", "ibm/granite-4-h-small", "0.00042", Usage(1200, 310, counted=True), False, 2),
    ("own-vllm", "llama-3.3-70b", None, Usage(40_000, 9_000), False, 18),
    ("native", "SmolLM2-135M-Instruct", "0", Usage(23_000, 12_000), False, 130),
)


def attempts(
    endpoint: str, model: str, money: str | None, usage: Usage, failed: bool, count: int
) -> Iterator[Used]:
    """So many attempts that together have that usage; the first has all of it."""
    for i in range(count):
        known = None if money is None else amount(money) if i == 0 else 0
        used = usage if i == 0 else Usage(0)
        yield Used(TODAY, "key-1", "", endpoint, model, known, used, failed)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home where something was used, and a key with the scope admin."""
    home = tmp_path_factory.mktemp("spend") / "home"
    home.mkdir(mode=0o700)
    record = Record.open(home / "record.sqlite3")
    _, secret = Keys(record).create("boss", scopes=("admin",))
    record.close()
    with create_engine(f"sqlite:///{home / 'record.sqlite3'}").begin() as connection:
        statistics.add(connection, (one for row in USED for one in attempts(*row)))
    return home, secret


@pytest.fixture(scope="module")
def site(keys: tuple[Path, str]) -> Iterator[Site]:
    site = Site(keys[0], "scripted")
    site.start()
    yield site
    site.stop()


def shown(site: Site, open_page: OpenPage, secret: str, **options: object) -> Page:
    """The page with its sums, for who has such a key."""
    page = open_page(site, key=None, **options)
    page.evaluate("key => sessionStorage.setItem('daulat.admin-key', key)", secret)
    page.goto(site.url + "/spend")
    expect(page.locator("#table tbody tr").first).to_be_visible()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_sums_are_shown(
    site: Site,
    keys: tuple[Path, str],
    open_page: OpenPage,
    tmp_path: Path,
    scheme: str,
    width: int,
) -> None:
    page = shown(
        site, open_page, keys[1], color_scheme=scheme, viewport={"width": width, "height": 860}
    )
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.first).to_contain_text("openai")
    expect(rows.first).to_contain_text(re.compile(r"USD\s41\.28"))
    expect(page.locator("#sums")).to_contain_text(re.compile(r"USD\s48\.78"))
    expect(page.locator("#sums")).to_contain_text("622")
    expect(rows.filter(has_text="own-vllm")).to_contain_text("not known")
    expect(page.locator("#remarks")).to_contain_text("18 requests have no known price")
    bars = page.evaluate("[...document.querySelectorAll('.track > span')].map(b => b.clientWidth)")
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > 5 * bars[1] > 0
    fits(page)
    picture = page.screenshot(path=tmp_path / f"spend-{scheme}-{width}.png", full_page=True)
    assert len(picture) > 10_000


def test_it_speaks_indonesian(site: Site, keys: tuple[Path, str], open_page: OpenPage) -> None:
    page = shown(site, open_page, keys[1], viewport={"width": 360, "height": 740})
    page.get_by_role("button", name="Bahasa Indonesia").click()
    expect(page.locator("h1")).to_have_text("Pengeluaran")
    expect(page.locator("#table thead")).to_contain_text("Permintaan")
    expect(page.locator("#sums")).to_contain_text(re.compile(r"48,78"))
    fits(page)
    page.reload()
    expect(page.locator("h1")).to_have_text("Pengeluaran")


def test_by_day_and_without_use(site: Site, keys: tuple[Path, str], open_page: OpenPage) -> None:
    page = shown(site, open_page, keys[1])
    page.locator("#by").select_option("day")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#table tbody tr")).to_have_count(1)
    expect(page.locator("#table tbody")).to_contain_text(TODAY)
    page.locator("#since").fill("2001-01-01")
    page.locator("#until").fill("2001-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#table")).to_contain_text("Nothing was used")
    page.locator("#since").fill("2001-02-01")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#banner")).to_contain_text("before the first")


def test_another_key_is_asked_for_and_kept_for_the_tab(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = open_page(site)
    page.get_by_role("link", name="Spend").click()
    expect(page.locator("#banner")).to_contain_text("a key with the scope admin")
    expect(page.locator("#report")).to_be_hidden()
    page.locator("#key").fill("wrong")
    page.locator("#key").press("Enter")
    expect(page.locator("#banner")).to_contain_text("a key with the scope admin")
    page.locator("#key").fill(keys[1])
    page.locator("#key").press("Enter")
    expect(page.locator("#table tbody tr")).to_have_count(5)
    expect(page.locator("#key-form")).to_be_hidden()
    assert keys[1] not in page.evaluate("JSON.stringify(localStorage)")
    assert page.evaluate("localStorage.getItem('daulat.key')") == KEY
    page.get_by_role("link", name="Back to the conversations").click()
    expect(page.locator("#draft")).to_be_visible()
