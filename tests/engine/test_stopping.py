"""Stop strings: the same answer however the text is cut, at once, and in linear time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daulat.engine.stopping import StopStrings

# Few letters, so that beginnings, overlaps and repetitions are common.
TEXTS = st.text("ab", max_size=40) | st.text("abc\n", max_size=40) | st.text(max_size=20)
STOPS = st.lists(st.text("ab", min_size=1, max_size=6) | st.text("abc\n", min_size=1), max_size=5)


def plainly(text: str, stops: list[str]) -> tuple[str, bool]:
    """Add a character at a time; stop when the text ends with a stop string."""
    for end in range(1, len(text) + 1):
        found = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(found)], True
    return text, False


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    reader = StopStrings(stops)
    shown = ""
    for piece in pieces:
        emit, stopped = reader.push(piece)
        shown += emit
        if stopped:
            return shown, True
    return shown + reader.finish(), False


@given(TEXTS, STOPS, st.lists(st.integers(0, 40)))
@example("aab", ["ab"], [1, 2])
@example("abcd", ["abcd", "c"], [])
@example("xabc", ["c", "bc", "abc"], [2])
def test_any_text_any_cut_any_stops(text: str, stops: list[str], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert run(pieces, stops) == plainly(text, stops)


@given(TEXTS, STOPS.filter(lambda stops: len(stops) == 1))
def test_one_stop_cuts_at_its_first_occurrence(text: str, stops: list[str]) -> None:
    shown, stopped = run(list(text), stops)
    assert stopped == (stops[0] in text)
    assert shown == text.partition(stops[0])[0]


@given(TEXTS, STOPS)
def test_the_stop_that_ended_it_is_known(text: str, stops: list[str]) -> None:
    reader = StopStrings(stops)
    shown, stopped = reader.push(text)
    assert (reader.matched is not None) == stopped
    if reader.matched is not None:
        assert reader.matched in stops
        assert text.startswith(shown + reader.matched)
        assert shown == plainly(text, stops)[0]


@given(TEXTS, STOPS)
def test_no_more_is_held_back_than_may_become_a_stop(text: str, stops: list[str]) -> None:
    reader, shown, read = StopStrings(stops), "", ""
    for character in text:
        emit, stopped = reader.push(character)
        if stopped:
            return
        shown, read = shown + emit, read + character
        beginnings = {stop[:i] for stop in stops for i in range(len(stop))}
        longest = max((len(b) for b in beginnings if read.endswith(b)), default=0)
        assert shown == read[: len(read) - longest]


def test_without_stops_everything_goes_through() -> None:
    reader = StopStrings(())
    assert reader.push("anything") == ("anything", False)
    assert reader.finish() == ""


def test_the_stop_itself_is_not_shown() -> None:
    reader = StopStrings(["\nUser:"])
    assert reader.push("Hello.\nUs") == ("Hello.", False)
    assert reader.push("er: more") == ("", True)


def test_what_did_not_become_a_stop_is_shown_at_the_end() -> None:
    reader = StopStrings(["###"])
    assert reader.push("a##") == ("a", False)
    assert reader.finish() == "##"
    assert reader.finish() == ""


def test_an_empty_stop_is_a_defect() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopStrings(["a", ""])


def test_linear_time_on_stops_made_to_be_slow() -> None:
    stops = ["a" * 240 + character * 16 for character in "bcdefghijklmnopq"]
    began = time.process_time()
    text = ("a" * 255 + "x") * 800  # 200,000 characters
    assert run([text[i : i + 4] for i in range(0, len(text), 4)], stops) == (text, False)
    assert time.process_time() - began < 5


@given(
    TEXTS, STOPS.filter(bool), st.text("ab", min_size=1, max_size=3), st.lists(st.integers(0, 40))
)
def test_nothing_stops_behind_the_text_that_opens(
    text: str, stops: list[str], until: str, cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader, shown, stopped = StopStrings(stops, until), "", False
    for a, b in pairwise(places):
        emit, stopped = reader.push(text[a:b])
        shown += emit
        if stopped:
            break
    shown += "" if stopped else reader.finish()
    end = text.find(until)
    before = text if end < 0 else text[: end + len(until)]
    expected = plainly(before, stops)
    assert (shown, stopped) == (expected if expected[1] else (text, False))
