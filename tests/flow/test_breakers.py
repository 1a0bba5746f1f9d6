"""Circuit breakers against what must hold at any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daulat.flow.breakers import FAILURES, FIRST_REST, LONGEST_REST, Breakers

EVENTS = st.lists(
    st.tuples(st.sampled_from(["failed", "answered", "asked", "left", "rests"]), st.floats(0, 30)),
    max_size=60,
)


def test_it_opens_after_failures_in_a_row_and_lets_one_through() -> None:
    breakers = Breakers()
    for _ in range(FAILURES - 1):
        breakers.failed("a", 0.0)
    assert breakers.waits("a", 0.0) == 0
    breakers.failed("a", 0.0)
    assert breakers.waits("a", 0.0) == FIRST_REST
    assert breakers.waits("b", 0.0) == 0
    assert breakers.waits("a", FIRST_REST) == 0
    breakers.asked("a")
    assert breakers.waits("a", FIRST_REST) > 0
    breakers.failed("a", FIRST_REST)
    assert breakers.waits("a", FIRST_REST) == 2 * FIRST_REST
    breakers.asked("a")
    breakers.answered("a")
    assert breakers.waits("a", 3 * FIRST_REST) == 0


def test_who_leaves_while_finding_out_lets_another_find_out() -> None:
    breakers = Breakers()
    for _ in range(FAILURES):
        breakers.failed("a", 0.0)
    breakers.asked("a")
    breakers.left("a")
    assert breakers.waits("a", FIRST_REST) == 0


def test_a_success_between_failures_begins_anew() -> None:
    breakers = Breakers()
    for _ in range(3 * FAILURES):
        breakers.failed("a", 0.0)
        breakers.answered("a")
    assert breakers.waits("a", 0.0) == 0


def test_retry_after_is_honoured_from_the_first_time() -> None:
    breakers = Breakers()
    breakers.rests("a", 0.0, 7.0)
    assert breakers.waits("a", 0.0) == 7.0
    assert breakers.waits("a", 7.0) == 0
    breakers.rests("a", 7.0, 10_000.0)
    assert breakers.waits("a", 7.0) == LONGEST_REST


@given(EVENTS)
def test_nobody_is_left_alone_for_ever(events: list[tuple[str, float]]) -> None:
    breakers, now = Breakers(), 0.0
    for name, passed in events:
        now += passed
        if name == "rests":
            breakers.rests("a", now, passed)
        elif name == "failed":
            breakers.failed("a", now)
        else:
            getattr(breakers, name)("a")
        assert 0 <= breakers.waits("a", now) <= max(LONGEST_REST, FIRST_REST)
    breakers.left("a")
    assert breakers.waits("a", now + LONGEST_REST) == 0


def test_what_is_shown_of_a_breaker() -> None:
    breakers = Breakers()
    assert breakers.states(0.0) == {}
    for _ in range(FAILURES - 1):
        breakers.failed("a", 0.0)
    assert breakers.states(0.0) == {"a": "closed"}
    breakers.failed("a", 0.0)
    assert breakers.states(0.0) == {"a": "open"}
    assert breakers.states(FIRST_REST) == {"a": "half_open"}
    breakers.asked("a", FIRST_REST)
    assert breakers.states(FIRST_REST) == {"a": "half_open"}
    breakers.answered("a")
    breakers.rests("b", 10.0, 3.0)
    assert breakers.states(10.0) == {"b": "open"}
    assert breakers.states(13.0) == {"b": "closed"}
