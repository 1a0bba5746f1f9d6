"""Where data may go: the judgement against a plain reading of the rules, and what must never happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import RequestError
from daulat.policy import ORDER, Reach, Rules, highest, judge, known, looks
from daulat.values.plan import THIS_MACHINE

PLACES = [THIS_MACHINE, "own-network", "us", "eu"]
AWAY = st.frozensets(st.sampled_from([*PLACES[1:], "*"]), max_size=3)
CLASSES = st.sampled_from(ORDER)
RULES = st.builds(
    Rules,
    lock=st.booleans(),
    reach=st.dictionaries(CLASSES, st.builds(Reach, AWAY, AWAY), max_size=4),
)
FOUND = st.lists(CLASSES, max_size=4)


def reaches(rules: Rules, name: str, place: str) -> bool:
    """A plain reading: the class is listed with the place or with every place."""
    listed = rules.reach.get(name, Reach()).places
    return place in listed or "*" in listed


@given(RULES, st.sampled_from(PLACES), CLASSES, FOUND, st.booleans())
def test_nothing_goes_where_a_class_of_it_may_not(
    rules: Rules, place: str, floor: str, found: list[str], replaceable: bool
) -> None:
    judged = judge(rules, place, floor, found, replaceable=replaceable)
    if place == THIS_MACHINE:
        assert judged.verdict == "as it is"
        return
    if rules.lock or not reaches(rules, floor, place):
        assert judged.verdict == "refused"
    closed = [name for name in found if not reaches(rules, name, place)]
    if judged.verdict == "as it is":
        assert not closed
    if judged.verdict == "redacted":
        assert closed
        assert replaceable
        for name in closed:
            replaced = rules.reach.get(name, Reach()).redacted
            assert place in replaced or "*" in replaced
    assert judged.why


@given(RULES, st.sampled_from(PLACES), CLASSES, FOUND, st.booleans())
def test_what_may_go_does(
    rules: Rules, place: str, floor: str, found: list[str], replaceable: bool
) -> None:
    """The verdict and the class that decided, by a plain reading of the rules."""
    whole = max([floor, *found], key=ORDER.index)
    closed = [name for name in found if not reaches(rules, name, place)]
    replaced = {n: rules.reach.get(n, Reach()).redacted & {place, "*"} for n in closed}
    if place == THIS_MACHINE:
        expected = ("as it is", whole)
    elif rules.lock:
        expected = ("refused", whole)
    elif not reaches(rules, floor, place):
        expected = ("refused", floor)
    elif not closed:
        expected = ("as it is", whole)
    else:
        verdict = "redacted" if replaceable and all(replaced.values()) else "refused"
        expected = (verdict, max(closed, key=ORDER.index))
    judged = judge(rules, place, floor, found, replaceable=replaceable)
    assert (judged.verdict, judged.data_class) == expected
    assert judged.place == place


def test_what_may_go_with_placeholders() -> None:
    rules = Rules(
        reach={
            "internal": Reach(frozenset({"us"})),
            "personal": Reach(frozenset(), frozenset({"us"})),
        }
    )
    judged = judge(rules, "us", "internal", ("personal",), replaceable=True)
    assert (judged.verdict, judged.data_class) == ("redacted", "personal")
    assert "placeholders" in judged.why
    for found, replaceable in ((("personal",), False), (("personal", "secret"), True)):
        judged = judge(rules, "us", "internal", found, replaceable=replaceable)
        assert (judged.verdict, judged.data_class) == ("refused", found[-1])


def test_what_a_class_reaches() -> None:
    reach = Reach(frozenset({"us"}), frozenset({"eu"}))
    assert [reach.as_is(place) for place in PLACES] == [True, False, True, False]
    assert [reach.replaced(place) for place in PLACES] == [False, False, False, True]
    everywhere = Reach(frozenset("*"), frozenset("*"))
    assert all(everywhere.as_is(place) and everywhere.replaced(place) for place in PLACES)
    assert Rules(reach={"public": reach}).of("public") == reach
    assert Rules(lock=True, reach={"public": reach}).of("public") == Reach()


def test_a_look_is_taken_where_a_finding_would_matter() -> None:
    """Only then: looking takes time."""
    rules = Rules(reach={"internal": Reach(frozenset({"us"})), "public": Reach(frozenset({"us"}))})
    assert looks(rules, PLACES, "internal")
    assert not looks(rules, [THIS_MACHINE], "internal")
    assert not looks(rules, ["eu"], "internal")
    assert not looks(rules, PLACES, "secret")
    every = Rules(reach={name: Reach(frozenset("*")) for name in ORDER})
    assert not looks(every, PLACES, "public")


@given(RULES, CLASSES, FOUND, st.booleans())
def test_a_stricter_class_never_opens_a_place(
    rules: Rules, floor: str, found: list[str], replaceable: bool
) -> None:
    order = {"refused": 0, "redacted": 1, "as it is": 2}
    for place in PLACES:
        before = judge(rules, place, floor, found, replaceable=replaceable)
        for more in ORDER:
            after = judge(rules, place, floor, [*found, more], replaceable=replaceable)
            assert order[after.verdict] <= order[before.verdict]


@given(RULES, CLASSES, FOUND, st.booleans())
def test_texts_need_no_look_only_where_no_finding_changes_a_verdict(
    rules: Rules, floor: str, found: list[str], replaceable: bool
) -> None:
    if looks(rules, PLACES, floor):
        return
    for place in PLACES:
        blind = judge(rules, place, floor, (), replaceable=False).verdict
        assert judge(rules, place, floor, found, replaceable=replaceable).verdict == blind


def test_without_rules_nothing_leaves_this_machine() -> None:
    for place in PLACES[1:]:
        assert judge(Rules(), place, "public", (), replaceable=True).verdict == "refused"
    assert judge(Rules(), THIS_MACHINE, "secret", (), replaceable=False).verdict == "as it is"


def test_the_lock_is_above_all_rules() -> None:
    rules = Rules(lock=True, reach={"public": Reach(frozenset("*"), frozenset("*"))})
    judged = judge(rules, "us", "public", (), replaceable=True)
    assert (judged.verdict, "lock" in judged.why) == ("refused", True)


def test_a_class_that_nobody_knows_is_the_most_delicate() -> None:
    assert highest(Rules(), ("public", "guesswork", "secret")) == "guesswork"
    with pytest.raises(RequestError, match="public, internal, personal, secret") as caught:
        known(Rules(), "guesswork" * 10, "daulat-class")
    assert f"`{('guesswork' * 10)[:64]}`" in caught.value.message
    assert caught.value.param == "daulat-class"
    assert known(Rules(), "secret", "daulat-class") == "secret"
