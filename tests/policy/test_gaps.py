"""What in rules is probably not meant: each gap once, and none in rules that mean what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daulat.policy import ORDER, Gap, Reach, Rules, gaps, judge

ENDPOINTS = {"native": "this-machine", "a": "us", "b": "eu"}
PLACES = st.frozensets(st.sampled_from(["us", "eu", "moon", "*"]), max_size=3)
RULES = st.builds(
    Rules,
    lock=st.booleans(),
    default=st.sampled_from(ORDER),
    reach=st.dictionaries(st.sampled_from(ORDER), st.builds(Reach, PLACES, PLACES)),
)


def rules(**classes: tuple[str, str]) -> Rules:
    """`class=("as it is", "redacted")`, with spaces between places."""
    made = {n: Reach(frozenset(a.split()), frozenset(b.split())) for n, (a, b) in classes.items()}
    return Rules(reach=made)


def test_rules_that_mean_what_they_say() -> None:
    good = rules(public=("*", ""), internal=("us eu", ""), personal=("eu", "us"))
    assert gaps(good, ENDPOINTS) == ()
    assert gaps(Rules(), {"native": "this-machine"}) == ()
    assert gaps(Rules(lock=True), {"native": "this-machine"}) == ()


def test_each_gap() -> None:
    assert gaps(Rules(lock=True), ENDPOINTS) == (Gap("everything locked"),)
    assert gaps(rules(public=("us", ""), internal=("us", "")), ENDPOINTS) == (
        Gap("closed", "b", "eu"),
    )
    typo = rules(public=("*", ""), internal=("*", ""), personal=("", "uss"))
    assert gaps(typo, ENDPOINTS) == (Gap("unknown place", "personal", "uss", "us"),)
    only_replaced = rules(public=("*", ""), personal=("", "eu"))
    assert gaps(only_replaced, ENDPOINTS) == (Gap("never replaced", "personal", "eu"),)
    down = rules(public=("*", ""), internal=("eu", ""), personal=("us", ""))
    assert gaps(down, ENDPOINTS) == (Gap("upside down", "internal", "us", "personal"),)


@given(RULES)
def test_a_closed_endpoint_is_one_that_no_class_reaches(made: Rules) -> None:
    found = {gap.subject for gap in gaps(made, ENDPOINTS) if gap.what == "closed"}
    for name, place in ENDPOINTS.items():
        verdicts = {judge(made, place, one, (), replaceable=True).verdict for one in ORDER}
        if made.lock:
            assert found == set()
        else:
            assert (name in found) == (verdicts == {"refused"})
