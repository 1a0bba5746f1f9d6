"""Charts: whatever the figures, all lies inside, ticks rise and are round, labels keep apart."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daulat.evaluate.plots import (
    NARROW,
    WIDE,
    Axis,
    Bar,
    Chart,
    Intervals,
    Panel,
    Panels,
    Scatter,
    Spot,
    draw,
    spans_decades,
)
from daulat.evaluate.plots.axes import span, ticks
from daulat.evaluate.plots.labels import Box, place
from daulat.evaluate.plots.svg import shortened, width_of

SVG = "{http://www.w3.org/2000/svg}"
NAMES = st.text(max_size=40) | st.sampled_from(
    [
        "<script>x</script>",
        "\u202eabc",
        "👩\u200d👩\u200d👧" * 9,
        "W" * 300,
        "a&b\"'",
        "مرحبا",
        "\x00\ud800",
    ]
)
FIGURES = st.floats(0, 1e6, allow_nan=False) | st.floats(0, 1)


def plainly(value: float) -> str:
    return f"{value:.6g}"


@st.composite
def bars(draws: st.DrawFn) -> Bar:
    low, value, high = sorted(draws(st.tuples(FIGURES, FIGURES, FIGURES)))
    known = draws(st.integers(0, 9))
    return Bar(
        draws(NAMES),
        None if known == 0 else value,
        low,
        math.inf if known == 1 else high,
        draws(st.sampled_from(["1 (0 to 2)", "78.0 % (75.8 to 80.0)"])),
        draws(st.booleans()),
    )


AXES = st.builds(
    Axis,
    st.just(plainly),
    NAMES,
    st.sampled_from([None, 0.0]),
    st.none(),
    st.booleans(),
    st.sampled_from([0.0, 0.02]),
    st.booleans(),
)
LINES = st.lists(bars(), min_size=1, max_size=6).map(tuple)
CHARTS = (
    st.builds(Intervals, NAMES, LINES, AXES)
    | st.builds(
        Panels, NAMES, st.lists(st.builds(Panel, NAMES, LINES, AXES), max_size=5).map(tuple)
    )
    | st.builds(
        Scatter,
        NAMES,
        st.lists(st.builds(Spot, NAMES, bars(), bars()), min_size=1, max_size=8).map(tuple),
        AXES,
        AXES,
    )
)


@settings(deadline=None, max_examples=150)
@given(CHARTS, st.sampled_from([WIDE, NARROW]))
def test_everything_lies_inside_and_nothing_is_a_number_that_is_none(
    chart: Chart, width: float
) -> None:
    root = drawn(chart, width)
    _left, _top, right, bottom = (float(one) for one in root.attrib["viewBox"].split())
    assert right == width
    for x, y in points(root):
        assert -0.01 <= x <= right + 0.01
        assert -0.01 <= y <= bottom + 0.01
    for box in texts(root):
        assert box.left >= -0.5
        assert box.right <= right + 0.5
        assert box.bottom <= bottom + 0.5


@settings(deadline=None, max_examples=100)
@given(CHARTS, st.sampled_from([WIDE, NARROW]))
def test_no_words_lie_on_words(chart: Chart, width: float) -> None:
    found = list(texts(drawn(chart, width)))
    for one, other in itertools.combinations(found, 2):
        assert not one.meets(other), (one, other)


@settings(deadline=None)
@given(CHARTS)
def test_a_chart_is_told_in_words_and_has_no_markup_of_others(chart: Chart) -> None:
    root = drawn(chart, WIDE)
    assert root.attrib["role"] == "img"
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    used = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert used <= {"svg", "title", "desc", "path", "circle", "rect", "text", "g"}
    assert not any(
        name.startswith("on") or "href" in name for one in root.iter() for name in one.attrib
    )


def test_the_words_of_a_chart_have_every_figure() -> None:
    rows = (Bar("a", 0.5, 0.4, 0.6, "50 % (40 to 60)"), Bar("b", None, 0, 1, "not known"))
    root = drawn(Intervals("Scores", rows, Axis(plainly)), WIDE)
    told = root.findtext(f"{SVG}desc")
    assert told == "a: 50 % (40 to 60); b: not known"


# --- axes -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(LINES, AXES, st.floats(120, 700))
def test_ticks_rise_within_the_range_and_are_round(
    found: tuple[Bar, ...], axis: Axis, width: float
) -> None:
    scale = span(found, axis, 0.0, width)
    marks = ticks(scale, axis, 11.5)
    assert list(marks) == sorted(set(marks))
    slack = 1e-9 * (scale.high - scale.low)
    assert all(scale.low - slack <= one <= scale.high + slack for one in marks)
    places = [scale(one) for one in marks]
    assert places == sorted(places)
    labels = [axis.write(one) for one in marks]
    assert len(set(labels)) == len(labels)
    for (a, x), (b, y) in itertools.pairwise(zip(labels, places, strict=True)):
        assert y - x >= (width_of(a, 11.5) + width_of(b, 11.5)) / 2
    if len(marks) > 1 and not scale.logarithmic:
        step = (marks[-1] - marks[0]) / (len(marks) - 1)
        first = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(first - one) for one in (1, 2, 2.5, 5, 10)) < 1e-6


@settings(deadline=None)
@given(LINES, AXES)
def test_a_greater_number_is_never_further_left(found: tuple[Bar, ...], axis: Axis) -> None:
    scale = span(found, axis, 10.0, 300.0)
    numbers = sorted(one for bar in found for one in (bar.low, bar.high) if math.isfinite(one))
    places = [scale(one) for one in numbers]
    assert places == sorted(places)
    assert all(10 <= one <= 300 for one in places)


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [((0.01, 10.0), True), ((1.0, 20.0), False), ((0.0, 5.0), False), ((0.0, 0.01, 9.0), True)],
)
def test_decades_alone_make_a_logarithmic_axis(values: Sequence[float], logarithmic: bool) -> None:
    rows = [Bar("x", one, one, one, "") for one in values]
    axis = Axis(plainly, logarithmic=True)
    assert spans_decades(rows, axis) is logarithmic
    assert span(rows, axis, 0, 100).logarithmic is logarithmic
    assert not span(rows, Axis(plainly), 0, 100).logarithmic


def test_zero_has_a_place_beside_a_logarithmic_axis() -> None:
    rows = [Bar("x", one, one, one, "") for one in (0.0, 0.01, 9.0)]
    scale = span(rows, Axis(plainly, logarithmic=True), 0, 100)
    assert scale(0.0) == 0
    assert scale(0.01) > 5


def test_equal_figures_still_have_a_range() -> None:
    for value in (0.0, 1.0, 123.0):
        rows = [Bar("x", value, value, value, "")]
        scale = span(rows, Axis(plainly, least=0, most=1000), 0, 100)
        assert scale.low < scale.high
        assert 0 <= scale(value) <= 100


# --- names ------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(50, 650), st.floats(30, 270)), max_size=12),
    st.lists(st.floats(10, 200), min_size=12, max_size=12),
)
def test_names_cover_neither_each_other_nor_points(
    found: list[tuple[float, float]], widths: list[float]
) -> None:
    area = Box(40, 20, 700, 280)
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in found]
    boxes = place(found, [(w, 16.0) for w in widths[: len(found)]], taken, area)
    shown = [box for box in boxes if box is not None]
    for one, other in itertools.combinations(shown, 2):
        assert not one.meets(other)
    assert not any(box.meets(mark) for box in shown for mark in taken)
    assert all(box.within(area) for box in shown)
    assert len(shown) == len(found), "there is room for all of them"


def test_where_there_is_no_room_a_name_is_left_out() -> None:
    area = Box(0, 0, 50, 20)
    boxes = place([(25, 10), (26, 10)], [(45, 16), (45, 16)], [], area)
    assert boxes[1] is None


@given(st.text(max_size=400), st.floats(20, 300))
@example("W" * 300, 60.0)
def test_shortened_names_fit(name: str, room: float) -> None:
    assert width_of(shortened(name, 13.0, room), 13.0) <= max(room, 2 * 13 * 1.4 + 13)


def test_a_name_that_fits_stays_and_a_long_one_keeps_both_ends() -> None:
    assert shortened("gpt-4", 13.0, 200) == "gpt-4"
    short = shortened("meta-llama/Meta-Llama-3.1-8B-Instruct-Q4_1.gguf", 13.0, 160)
    assert short.startswith("meta-llama")
    assert short.endswith(".gguf")
    assert "…" in short


# --- reading a drawing ------------------------------------------------------------------------------


def drawn(chart: Chart, width: float) -> ET.Element:
    return ET.fromstring(draw(chart, width, "x"))  # noqa: S314 - a drawing of our own


def shifted(root: ET.Element) -> Iterator[tuple[ET.Element, float, float]]:
    """Every element with how far it is moved."""

    def walk(one: ET.Element, x: float, y: float) -> Iterator[tuple[ET.Element, float, float]]:
        found = re.search(r"translate\(([\d.]+) ([\d.]+)\)", one.attrib.get("transform", ""))
        if found:
            x, y = x + float(found[1]), y + float(found[2])
        yield one, x, y
        for child in one:
            yield from walk(child, x, y)

    yield from walk(root, 0.0, 0.0)


def points(root: ET.Element) -> Iterator[tuple[float, float]]:
    for one, dx, dy in shifted(root):
        kind = one.tag.removeprefix(SVG)
        if kind == "circle":
            x, y, r = (float(one.attrib[name]) for name in ("cx", "cy", "r"))
            yield x + dx - r, y + dy - r
            yield x + dx + r, y + dy + r
        elif kind == "rect":
            x, y, w, h = (float(one.attrib[name]) for name in ("x", "y", "width", "height"))
            assert w >= 0
            assert h >= 0
            yield x + dx, y + dy
            yield x + dx + w, y + dy + h
        elif kind == "path":
            yield from ((x + dx, y + dy) for x, y in steps(one.attrib["d"]))


def steps(path: str) -> Iterator[tuple[float, float]]:
    x = y = 0.0
    for letter, rest in re.findall(r"([MLHV])([^MLHV]*)", path):
        numbers = [float(one) for one in rest.split()]
        if letter in "ML":
            x, y = numbers
        elif letter == "H":
            (x,) = numbers
        else:
            (y,) = numbers
        yield x, y


def texts(root: ET.Element) -> Iterator[Box]:
    for one, dx, dy in shifted(root):
        if one.tag != f"{SVG}text" or not one.text:
            continue
        size, x, y = (float(one.attrib[name]) for name in ("font-size", "x", "y"))
        width = width_of(one.text, size)
        anchor = one.attrib.get("text-anchor", "start")
        left = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor]
        yield Box(left, y + dy - 0.7 * size, left + width, y + dy)
