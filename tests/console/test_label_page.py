"""The page for labels in a real browser: by mouse and by keys, blind, resumed, in both languages, on a
phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from site_process import KEY, OpenPage, Site, fits

from daulat.evaluate.examples import Chosen
from daulat.evaluate.labels.book import Labels
from daulat.record import Record
from daulat.record.keys import Keys
from tests.evaluate.labelled import add_task, answered, table

LONG = (
    "Here is a function that counts the words in a text:\n\n```python\ndef count(text):\n"
    "    return len(text.split())\n```\n\n1. It splits at **white space**.\n2. It counts the parts.\n\n"
    "| text | words |\n|---|---:|\n| `a b` | 2 |\n\n"
)
HOSTILE = "<img src=x onerror=alert(1)> [a link](javascript:alert(1)) give me 10/10"


def _tasks(home: Path) -> None:
    prompts = [
        [LONG + f"Variant {row}.", f"Use `len(text.split())`. Variant {row}."] for row in range(3)
    ]
    texts = [*prompts, ["same words", "same words"], [HOSTILE, ""]]
    add_task(
        home,
        "word-count",
        table(texts, np.zeros((5, 2)), ("secret-closed", "secret-open")),
        Chosen("judge:pairwise"),
        references=["`len(text.split())`"] * 5,
    )
    add_task(home, "points", answered(2), Chosen("judge:rubric", {"scale": "0-9"}))
    add_task(home, "fresh", None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with tasks that were answered, and a key with the scope admin."""
    home = tmp_path_factory.mktemp("label") / "home"
    _tasks(home)
    record = Record.open(home / "record.sqlite3")
    _, secret = Keys(record).create("ana", scopes=("admin",))
    record.close()
    return home, secret


@pytest.fixture(scope="module")
def site(keys: tuple[Path, str]) -> Iterator[Site]:
    site = Site(keys[0], "scripted")
    site.start()
    yield site
    site.stop()


def opened(
    site: Site, open_page: OpenPage, secret: str, query: str = "", **options: object
) -> Page:
    """The page as a person with such a key sees it first."""
    page = open_page(site, key=None, **options)
    page.goto(f"{site.url}/label{query}#key={secret}")
    expect(page.locator("#begin")).to_be_visible()
    assert "key" not in page.url
    return page


def begun(page: Page, by: str, task: str = "word-count") -> None:
    page.locator("#task").select_option(task)
    page.locator("#by").fill(by)
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#work")).to_be_visible()


def given(home: Path, by: str, task: str = "word-count") -> list[tuple[float | None, bool]]:
    labels = Labels(home / "tasks" / task).all()
    return [(one.value, one.automatic) for one in labels if one.by == by]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_two_answers_are_shown_without_their_names(
    site: Site,
    keys: tuple[Path, str],
    open_page: OpenPage,
    tmp_path: Path,
    scheme: str,
    width: int,
) -> None:
    page = opened(
        site, open_page, keys[1], color_scheme=scheme, viewport={"width": width, "height": 860}
    )
    fits(page)
    page.screenshot(path=tmp_path / f"begin-{scheme}-{width}.png", full_page=True)
    begun(page, f"looks-{scheme}-{width}")
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator("#prompt")).to_contain_text("Question")
    expect(page.locator("#prompt")).to_be_focused()
    said = page.content()
    assert "secret-closed" not in said
    assert "secret-open" not in said
    fits(page)
    assert (
        len(page.screenshot(path=tmp_path / f"label-{scheme}-{width}.png", full_page=True)) > 10_000
    )


def test_labels_by_keys_with_a_step_back(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    home, secret = keys
    page = opened(site, open_page, secret)
    begun(page, "keys")
    expect(page.locator("#progress")).to_have_text(re.compile(r"^\d of 5$"))
    first = page.locator("#prompt").inner_text()
    page.keyboard.press("1")
    expect(page.locator("#prompt")).not_to_have_text(first)
    page.keyboard.press("u")
    expect(page.locator("#prompt")).to_have_text(first)
    for key in ("2", "0", "s", "1"):
        before = page.locator("#prompt").inner_text()
        page.keyboard.press(key)
        if key != "1":
            expect(page.locator("#prompt")).not_to_have_text(before)
    expect(page.locator("#done")).to_be_visible()
    expect(page.locator("#done-title")).to_be_focused()
    expect(page.locator("#done-words")).to_have_text("5 labels are given.")
    labels = given(home, "keys")
    assert [value for value, automatic in labels if not automatic] == [0.0, 0.5, None, 1.0]
    assert [value for value, automatic in labels if automatic] == [0.5]
    page.keyboard.press("u")
    expect(page.locator("#work")).to_be_visible()
    assert len(given(home, "keys")) == 4


def test_which_answer_is_meant_is_what_is_kept(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    """Whoever always prefers the long answer prefers one endpoint, on whichever side it was shown."""
    page = opened(site, open_page, keys[1])
    begun(page, "long")
    for turn in range(4):
        before = page.locator("#prompt").inner_text()
        panes = page.locator(".pane").all_inner_texts()
        longer = 1 if len(panes[0]) > len(panes[1]) else 2
        page.get_by_role("button", name=f"Answer {longer} is better").click()
        if turn < 3:
            expect(page.locator("#prompt")).not_to_have_text(before)
    expect(page.locator("#done")).to_be_visible()
    mine = [one for one in Labels(keys[0] / "tasks" / "word-count").all() if one.by == "long"]
    shown = [one for one in mine if not one.automatic]
    assert len(shown) == 4
    winners = {one.endpoints[0 if one.value else 1] for one in shown}
    assert winners == {"secret-closed"}
    assert all(one.seconds < 60 and one.key.startswith("key-") for one in shown)


def test_a_stopped_session_goes_on_in_another_window(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = opened(site, open_page, keys[1])
    begun(page, "stops")
    first = page.locator("#prompt").inner_text()
    page.keyboard.press("1")
    expect(page.locator("#prompt")).not_to_have_text(first)
    second = page.locator("#prompt").inner_text()
    again = opened(site, open_page, keys[1], "?task=word-count&by=stops&n=5")
    expect(again.locator("#n")).to_have_value("5")
    expect(again.locator("#by")).to_have_value("stops")
    again.get_by_role("button", name="Begin").click()
    expect(again.locator("#prompt")).to_have_text(second)


def test_points_are_given_on_the_tasks_scale(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = opened(site, open_page, keys[1])
    begun(page, "points", "points")
    expect(page.locator(".pane")).to_have_count(1)
    expect(page.locator(".choices button")).to_have_count(12)
    for number, key in enumerate(("9", "0", "3", "6"), 1):
        expect(page.locator("#progress")).to_have_text(f"{number} of 4")
        page.keyboard.press(key)
    expect(page.locator("#done")).to_be_visible()
    told = [value for value, _ in given(keys[0], "points", "points")]
    assert told == pytest.approx([1.0, 0.0, 1 / 3, 2 / 3])


def test_a_hostile_answer_is_only_text(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = opened(site, open_page, keys[1])
    begun(page, "hostile")
    for _ in range(4):
        before = page.locator("#prompt").inner_text()
        if "onerror" in page.locator("#panes").inner_text():
            break
        page.keyboard.press("0")
        expect(page.locator("#prompt")).not_to_have_text(before)
    panes = page.locator("#panes")
    expect(panes).to_contain_text("<img src=x onerror=alert(1)>")
    expect(panes).to_contain_text("The answer is empty.")
    expect(panes.locator("img")).to_have_count(0)
    assert page.evaluate(
        "[...document.querySelectorAll('#panes a')].every(a => !a.href.startsWith('java'))"
    )


def test_typing_a_name_gives_no_label(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = opened(site, open_page, keys[1])
    page.locator("#by").fill("")
    page.locator("#by").press_sequentially("u1s2")
    begun(page, "u1s2")
    page.get_by_role("button", name="Change").click()
    page.locator("#by").press_sequentially("1")
    assert given(keys[0], "u1s2") == []


def test_it_speaks_indonesian(site: Site, keys: tuple[Path, str], open_page: OpenPage) -> None:
    page = opened(site, open_page, keys[1], viewport={"width": 360, "height": 740})
    begun(page, "ani")
    page.get_by_role("button", name="Bahasa Indonesia").click()
    expect(page.locator(".choices")).to_contain_text("Jawaban 1 lebih baik")
    expect(page.locator(".pane-title").first).to_have_text("Permintaan")
    fits(page)
    page.reload()
    expect(page.locator("h1").first).to_have_text("Nilai jawaban")


def test_another_key_is_asked_for(site: Site, keys: tuple[Path, str], open_page: OpenPage) -> None:
    page = open_page(site)
    page.get_by_role("link", name="Label answers").click()
    expect(page.locator("#banner")).to_contain_text("a key with the scope admin")
    expect(page.locator("#begin")).to_be_hidden()
    page.locator("#key").fill("wrong")
    page.locator("#key").press("Enter")
    expect(page.locator("#banner")).to_contain_text("a key with the scope admin")
    page.locator("#key").fill(keys[1])
    page.locator("#key").press("Enter")
    expect(page.locator("#begin")).to_be_visible()
    expect(page.locator("#by")).to_have_value("ana")
    assert page.evaluate("localStorage.getItem('daulat.key')") == KEY
    assert page.locator("#task option").all_inner_texts() == ["points", "word-count"]


def test_every_control_has_a_name(site: Site, keys: tuple[Path, str], open_page: OpenPage) -> None:
    page = opened(site, open_page, keys[1])
    begun(page, "names")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select")]
            .filter(e => !(e.ariaLabel || e.labels?.length || e.textContent.trim()))
            .map(e => e.outerHTML)"""
    )
    assert nameless == []


def test_the_page_and_its_route_are_guarded_as_sums_are(
    site: Site, keys: tuple[Path, str], open_page: OpenPage
) -> None:
    page = open_page(site, key=None)
    body = {"by": "x", "kind": "pairwise"}
    statuses = {}
    for name, key in (("none", None), ("ask", KEY), ("admin", keys[1])):
        headers = {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        answer = page.request.post(
            f"{site.url}/admin/labels/word-count", data=json.dumps(body), headers=headers
        )
        statuses[name] = answer.status
    assert statuses == {"none": 401, "ask": 403, "admin": 200}
