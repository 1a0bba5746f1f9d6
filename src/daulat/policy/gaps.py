"""What in the rules is probably not meant so: places and classes against the endpoints that there are.

Not here: whether a request may go somewhere (`places`), and the words for people (`cli.policy`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from daulat.policy.rules import Rules
from daulat.values.plan import ANYWHERE, THIS_MACHINE

What = Literal["closed", "unknown place", "never replaced", "upside down", "everything locked"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is probably not meant so.

    Attributes:
        what: `closed`: no class may reach the endpoint `subject`. `unknown place`: the class `subject` names a
            place that no endpoint has. `never replaced`: the class `subject` may go to `place` with
            placeholders, and a text in which nothing else is found may not go there at all. `upside down`: the
            class `subject` may not go to `place`, though the more delicate `other` may. `everything locked`:
            there are endpoints, and the lock closes them all.
        other: a class, or the place that was probably meant; empty: none.
    """

    what: What
    subject: str = ""
    place: str = ""
    other: str = ""


def gaps(rules: Rules, endpoints: Mapping[str, str]) -> tuple[Gap, ...]:
    """All gaps of the rules.

    Args:
        endpoints: the places of the endpoints, by their names.
    """
    away = {name: place for name, place in endpoints.items() if place != THIS_MACHINE}
    if rules.lock:
        return (Gap("everything locked"),) if away else ()
    places = tuple(dict.fromkeys(away.values()))
    return (
        *_closed(rules, away),
        *_unknown(rules, places),
        *_never_replaced(rules, places),
        *_upside_down(rules, places),
    )


def _closed(rules: Rules, away: Mapping[str, str]) -> Iterator[Gap]:
    for name, place in away.items():
        if not any(rules.of(one).as_is(place) for one in rules.order):
            yield Gap("closed", name, place)


def _unknown(rules: Rules, places: Iterable[str]) -> Iterator[Gap]:
    there = (*places, ANYWHERE, THIS_MACHINE)
    for name, reach in rules.reach.items():
        for place in sorted((reach.places | reach.redacted).difference(there)):
            near = difflib.get_close_matches(place, there, 1)
            yield Gap("unknown place", name, place, near[0] if near else "")


def _never_replaced(rules: Rules, places: Iterable[str]) -> Iterator[Gap]:
    for place in places:
        if rules.of(rules.default).as_is(place):
            continue
        for name in rules.order:
            if rules.of(name).replaced(place) and not rules.of(name).as_is(place):
                yield Gap("never replaced", name, place)


def _upside_down(rules: Rules, places: Iterable[str]) -> Iterator[Gap]:
    for place in places:
        for at, name in enumerate(rules.order):
            above = [one for one in rules.order[at + 1 :] if rules.of(one).as_is(place)]
            if above and not rules.of(name).as_is(place):
                yield Gap("upside down", name, place, above[-1])
