"""Reports: what is written is read back, the same is said in all forms, and no text of others gets through."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from comparisons import GPT, LLAMA, MISTRAL, Made, comparison
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from daulat.errors import DataError, UnavailableError
from daulat.evaluate import reports
from daulat.evaluate.comparing import Comparison
from daulat.evaluate.reports import keeping, terminal
from daulat.evaluate.reports.figures import Figures
from daulat.evaluate.reports.html import html
from daulat.evaluate.reports.markdown import markdown
from daulat.evaluate.reports.sections import build
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Estimate

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = (
    "<script>document.title='x'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>",
    "</style></title></textarea>--><svg onload=alert(1)>{{ 311*373 }}{% raw %}",
    "| a | b |\n|---|---|\n```\n# heading\n[x](javascript:alert(1)) ![y](http://127.0.0.1:9/y)",
    "\x1b[31mred\x1b[0m \u202eturned\u202c \x07 \ud800 \x00 \u2028",
    "W" * 5_000,
    "",
)
LANGUAGES = ("en", "id")


def hostile(**more: object) -> Comparison:
    made = (replace(LLAMA, name=HOSTILE[0]), replace(GPT, name="\x1b[2J|`*_[a](b)"), MISTRAL)
    return comparison(
        made,
        60,
        prompts=HOSTILE,
        answers=HOSTILE,
        categories=HOSTILE[:3],
        task="<b>task</b>",
        **more,
    )


@pytest.fixture(scope="module")
def usual() -> Comparison:
    return comparison((LLAMA, GPT, MISTRAL), 200, clusters=70)


# --- report.json ------------------------------------------------------------------------------------


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("n", [1, 3, 120])
def test_what_is_stored_is_read_back(tmp_path: Path, n: int, judged: bool) -> None:
    found = comparison((LLAMA, replace(GPT, cost=None)), n, judged=judged)
    paths = reports.write(found, tmp_path / "deep" / "folder")
    assert keeping.read(paths.json) == found
    assert keeping.stored(keeping.read(paths.json)) == paths.json.read_bytes()
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in (paths.json, paths.html, paths.markdown)
    )


def _changed(found: Comparison, **fields: object) -> bytes:
    return json.dumps({**json.loads(keeping.stored(found)), **fields}).encode()


def test_what_is_no_report_says_so(usual: Comparison) -> None:
    bad = [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, keeping.stored(usual)[:-40]),
        _changed(usual, schema="daulat.comparison/0"),
        _changed(usual, endpoints=[]),
        _changed(usual, margin=7),
        _changed(usual, examples="many"),
        keeping.stored(usual).replace(b'"a":"llama-3.1-8b"', b'"a":"nobody"'),
        re.sub(rb'"money":[\d.e-]+', b'"money":1e300', keeping.stored(usual)),
    ]
    for data in bad:
        with pytest.raises(DataError, match="`daulat compare` makes a new one"):
            keeping.restored(data, "report.json")


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, usual: Comparison) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UnavailableError, match="daulat report"):
        reports.write(usual, tmp_path / "file")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 5), st.sampled_from(LANGUAGES))
def test_every_comparison_has_every_form(seed: int, n: int, clusters: int, language: str) -> None:
    found = comparison((LLAMA, GPT, MISTRAL), n, seed=seed, clusters=clusters)
    page = build(found, language)
    assert page.answer
    for text in (html(page), markdown(page), _terminal(found, language, 100)):
        assert "nan" not in re.findall(r"[a-z]+", text)
        assert "None" not in text
        assert "{" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


# --- one page, three forms --------------------------------------------------------------------------


def _terminal(found: Comparison, language: str, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    terminal.show(found, language, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class _Words(HTMLParser):
    """The words of a page that are seen, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "action")
        ]
        assert not any(name.startswith("on") for name, _value in attrs)
        self._unseen += tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.words += data.split()


def _seen(text: str) -> _Words:
    parser = _Words()
    parser.feed(text)
    parser.close()
    return parser


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_forms_say_the_same(usual: Comparison, language: str) -> None:
    page = build(usual, language)
    plain = " ".join(_seen(html(page)).words)
    rendered = " ".join(
        _seen(MarkdownIt("commonmark").enable("table").render(markdown(page))).words
    )
    shown = " ".join(_terminal(usual, language, 400).replace("│", " ").split())
    cells = [
        str(cell)
        for one in page.sections
        for table in one.tables
        for row in table.rows
        for cell in row
    ]
    for text in (page.answer, *page.basis, *page.cautions, *cells):
        words = " ".join(text.split())
        assert words in plain
        assert words in rendered
        assert words in shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_of_others_stay_texts(language: str) -> None:
    page = build(hostile(), language)
    told = _seen(html(page))
    assert not told.tags & {"script", "img", "iframe", "object", "link", "a", "form", "input"}
    assert told.addresses == []
    assert "116003" not in html(page)
    rendered = MarkdownIt("commonmark").enable("table").render(markdown(page))
    assert not _seen(rendered).tags & {"script", "img", "a", "svg", "b"}
    headings = re.findall(r"^# .*", markdown(page), re.MULTILINE)
    assert len([one for one in headings if "heading" not in one]) == 1
    shown = _terminal(hostile(), language, 100)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", shown)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(usual: Comparison, width: int) -> None:
    for found in (usual, hostile()):
        assert max(map(len, _terminal(found, "en", width).splitlines())) <= width


# --- figures ----------------------------------------------------------------------------------------


def _estimate(value: float | None, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 0.01, 0.95, "t", 50, 50)


SPACE = "\u00a0"
MINUS = "\u2212"
ENGLISH = (
    f"78.0{SPACE}% (75.8 to 80.0)",
    f"{MINUS}1.2 ({MINUS}4.5 to +2.1)",
    "3.1 times (2.9 to 3.3)",
    "1,230 (1,100 to 1,300)",
)
INDONESIAN = (
    f"78,0{SPACE}% (75,8 s.d. 80,0)",
    f"{MINUS}1,2 ({MINUS}4,5 s.d. +2,1)",
    "3,1 kali (2,9 s.d. 3,3)",
    "1.230 (1.100 s.d. 1.300)",
)


@pytest.mark.parametrize(("language", "wanted"), [("en", ENGLISH), ("id", INDONESIAN)])
def test_figures_in_a_language(language: str, wanted: tuple[str, ...]) -> None:
    figures = Figures(Words(language))
    cells = (
        figures.quality(_estimate(0.78, 0.758, 0.8)),
        figures.points(_estimate(-0.012, -0.045, 0.021)),
        figures.ratio(_estimate(3.1, 2.9, 3.3)),
        figures.amount(_estimate(1230, 1100, 1300)),
    )
    assert tuple(map(str, cells)) == wanted


def test_figures_that_say_no_more_than_is_known() -> None:
    figures = Figures(Words("en"))
    inf = float("inf")
    assert str(figures.quality(None)) == "\u2013"
    assert str(figures.amount(_estimate(0.5, 0.25, inf))) == "0.500 (0.250 or more)"
    assert str(figures.amount(_estimate(0.0, 0.0, inf))) == "0"
    assert str(figures.points(_estimate(0.0, -0.00001, 0.00001))) == "0.00 (0.00 to 0.00)"
    assert [figures.confidence(one) for one in (1.0, 0.99, 0.0)] == [
        "> 99.9\u00a0%",
        "99.0\u00a0%",
        "< 0.1\u00a0%",
    ]
    assert [str(figures.p_value(p)) for p in (0.00099, 0.001, 1)] == [
        "<\u00a00.001",
        "0.001",
        "1.000",
    ]


def test_what_nobody_knows_is_left_out() -> None:
    unknown = [replace(one, cost=None, place="", open=None) for one in (LLAMA, MISTRAL)]
    page = build(comparison(unknown, 100), "en")
    heads = {
        column.head for one in page.sections for table in one.tables for column in table.columns
    }
    assert "Where" not in heads
    assert "Barred by the policy" not in heads
    known = build(comparison((LLAMA, GPT), 100), "en")
    assert {"quality", "pairs", "costs", "times", "losses", "advice"} <= {
        one.id for one in known.sections
    }


def test_parts_are_compared_whichever_two_the_answer_is_about() -> None:
    worst_first = (replace(MISTRAL, quality=0.3), LLAMA, GPT)
    page = build(comparison(worst_first, 300), "en")
    assert "mistral" not in page.answer
    for section in page.sections:
        if section.id.startswith("by-"):
            (head,) = [one.head for one in section.tables[0].columns if "\u2212" in one.head]
            assert head.endswith(f"\u2212 {MISTRAL.name}, points")


def test_the_lengths_of_prompts_have_words() -> None:
    page = build(comparison((LLAMA, GPT), 300), "id")
    (section,) = [one for one in page.sections if one.id == "by-length"]
    names = [row[0].text for row in section.tables[0].rows]
    assert len(names) == 3
    assert names[0].startswith("sampai ")
    assert " s.d. " in names[1]
    assert names[2].startswith("mulai ")


# --- in a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    many = tuple(Made(f"model-{i}", 0.5 + i / 30, 0.0001 * 4**i) for i in range(8))
    found = {
        "usual": comparison((LLAMA, GPT, MISTRAL), 200),
        "judged": comparison((LLAMA, GPT), 200, judged=True),
        "many": comparison(many, 120),
        "hostile": hostile(),
        "one": comparison((LLAMA,), 2),
    }
    return {
        f"{name}-{language}": reports.write(one, folder / f"{name}-{language}", language).html
        for name, one in found.items()
        for language in LANGUAGES
    }


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 720), ("light", 360)])
def test_pages_fit_load_nothing_and_run_nothing(
    browser: Browser, pages: dict[str, Path], scheme: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    for name, path in pages.items():
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        page.goto(path.as_uri())
        assert asked == [path.as_uri()], name
        assert said == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(_OUTSIDE) == [], name
        assert page.locator("h1").count() == 1
        page.close()
    context.close()


# Texts of drawings that reach beyond their drawing; of those that are shown.
_OUTSIDE = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const room = svg.getBoundingClientRect()
  if (!room.width) return []
  return [...svg.querySelectorAll('text')].filter(one => {
    const own = one.getBoundingClientRect()
    return own.left < room.left - 2 || own.right > room.right + 2 || own.bottom > room.bottom + 2
  }).map(one => one.textContent)
})"""


def test_words_stand_out_from_their_ground(browser: Browser, pages: dict[str, Path]) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), in light and in dark."""
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
        page = context.new_page()
        page.goto(pages["judged-en"].as_uri())
        faint = page.evaluate(_FAINT)
        assert faint == [], scheme
        context.close()


_FAINT = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number)
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const ground = one => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor)
      if (colour.length && (colour.length < 4 || colour[3] > 0)) return colour
    }
    return [255, 255, 255]
  }
  return [...document.querySelectorAll('p, th, td, li, dd, dt, h1, h2, h3, span, svg text')]
    .filter(one => one.textContent.trim() && one.getClientRects().length)
    .filter(one => {
      const style = getComputedStyle(one)
      const ink = one.closest('svg') ? style.fill : style.color
      const [a, b] = [light(parse(ink)), light(ground(one))].sort((x, y) => y - x)
      return (a + 0.05) / (b + 0.05) < 4.5
    }).map(one => one.textContent.trim().slice(0, 60))
}"""
