"""Which endpoints may see a request, as it is or with placeholders, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from daulat.policy.rules import Rules, highest
from daulat.values.plan import THIS_MACHINE

Verdict = Literal["as it is", "redacted", "refused"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a request may go to one place.

    Attributes:
        data_class: the class that decided.
        why: for people; it names classes and places, never contents.
    """

    place: str
    verdict: Verdict
    data_class: str
    why: str


def looks(rules: Rules, places: Iterable[str], floor: str) -> bool:
    """Whether what is in the texts can matter: some place is open to the floor and closed to another class.

    Args:
        floor: the class that the request has whatever is found in it.
    """
    away = {place for place in places if place != THIS_MACHINE}
    open_to_floor = {p for p in away if rules.of(floor).as_is(p)}
    return any(not rules.of(name).as_is(place) for place in open_to_floor for name in rules.order)


def judge(
    rules: Rules, place: str, floor: str, found: Sequence[str], *, replaceable: bool
) -> Judgement:
    """Whether a request may go to a place.

    Args:
        floor: the class that it has whatever is found in it: declared, or the default.
        found: the classes of what was found.
        replaceable: all that was found can be replaced by placeholders.
    """
    whole = highest(rules, (floor, *found))
    if place == THIS_MACHINE:
        return Judgement(place, "as it is", whole, "it stays on this machine")
    if rules.lock:
        return Judgement(
            place, "refused", whole, "the policy's lock is on: nothing leaves this machine"
        )
    if not rules.of(floor).as_is(place):
        return Judgement(
            place, "refused", floor, f"data of the class {floor} may not go to {place}"
        )
    if all(rules.of(name).as_is(place) for name in found):
        return Judgement(place, "as it is", whole, f"data of the class {whole} may go to {place}")
    closed = [name for name in found if not rules.of(name).as_is(place)]
    worst = highest(rules, closed)
    if replaceable and all(rules.of(name).replaced(place) for name in closed):
        why = f"data of the class {worst} may go to {place} when it is replaced by placeholders"
        return Judgement(place, "redacted", worst, why)
    return Judgement(place, "refused", worst, f"data of the class {worst} may not go to {place}")
