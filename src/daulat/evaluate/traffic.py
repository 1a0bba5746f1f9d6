"""Recorded traffic as a replay needs it: what was asked, who answered, what each answer really cost.

The second answer of an audit counts as an answer to the exchange that it was about. Every number of the record
is held to bounds; money in another currency than today's is not known. Not here: which exchanges and why others
are left out (`recorded`), replaying rules (`replaying`), what audits say together (`audited`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, cast

from daulat.errors import RequestError
from daulat.evaluate.examples import MAX_EXAMPLES
from daulat.evaluate.recorded import (
    ANSWER,
    NOT_KEPT,
    Passed,
    Wanted,
    answered_by,
    passed,
    target_of,
)
from daulat.record import Entry, Record
from daulat.record.charges import MOST_TOKENS
from daulat.record.transcript import AUDITED, RESTING
from daulat.route import Target
from daulat.values.answer import Usage
from daulat.values.money import amount
from daulat.values.request import prompt_of

Json = Mapping[str, Any]
Told = Callable[[int], None]
"""Is told how many exchanges have been looked at."""
_COUNTS: Final = tuple(field.name for field in fields(Usage) if field.name != "counted")


@dataclass(frozen=True, slots=True)
class Heard:
    """What one endpoint answered.

    Attributes:
        money: in `values.money`'s amounts, of all attempts at it; None: nobody knows.
        answer: None: it did not become the exchange's answer, so the record does not have it.
    """

    usage: Usage
    money: int | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Ruled:
    """What a certificate said of an exchange then.

    Attributes:
        judged: its router was asked; what it said is `way`.
        answered: who answered was whom it had chosen.
        open, closed: the certificate's two models.
    """

    certificate: str
    way: Literal["kept", "escalated"]
    judged: bool
    answered: bool
    open: Target
    closed: Target


@dataclass(frozen=True, slots=True)
class Audit:
    """One exchange that was drawn by lot to be looked at.

    Attributes:
        share: the chance with which it was drawn, in (0, 1].
        loss: how far the open answer is from the closed one, from 0 to 1; None: the other answer did not come.
    """

    share: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class Past:
    """One exchange as it was.

    Attributes:
        answered: whose answer was given (of one that went on elsewhere, who ended it).
        asked: all endpoints that were asked, also those that failed.
        heard: those whose whole answer, or at least its cost, is known.
        usage: of the answer; `money`: of all attempts, None: nobody knows.
        seconds: from the record's opening entry to its closing one.
    """

    id: str
    time: str
    prompt: str
    cluster: str
    data_class: str
    answered: Target
    asked: frozenset[Target]
    heard: Mapping[Target, Heard]
    usage: Usage
    money: int | None
    seconds: float
    ruled: Ruled | None = None
    audit: Audit | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Attributes:
    pasts: oldest first.
    closed: the models that were a vendor's then, of all that are named.
    left_out: how many of those that were wanted cannot be replayed, and why.
    """

    pasts: tuple[Past, ...]
    closed: frozenset[Target]
    left_out: Mapping[str, int]

    def targets(self) -> tuple[Target, ...]:
        """Who answered, most often first."""
        return tuple(t for t, _count in Counter(past.answered for past in self.pasts).most_common())


def traffic(
    record: Record, wanted: Wanted, currency: str, tell: Told = lambda _looked: None
) -> Traffic:
    """The newest exchanges that are wanted; what was asked twice counts twice.

    Raises:
        RequestError: there is none, or none whose contents were kept.
        RecordError: the record cannot be read.
    """
    left_out: Counter[str] = Counter()
    looked = Counter[str]()

    def one_more() -> None:
        looked[""] += 1
        tell(looked[""])

    most = min(wanted.most, MAX_EXAMPLES)
    found = list(islice(passed(record, wanted, left_out, one_more), most))
    if not found:
        raise _nothing(looked.total(), left_out)
    audits = dict(_audits(record, wanted.since))
    pasts = [_past(one, record, audits.get(one.opened.subject), currency) for one in found]
    closed = frozenset(t for one in found for t, owner in _owners(one) if owner == "closed")
    return Traffic(tuple(reversed(pasts)), closed, left_out)


def _nothing(looked: int, left_out: Mapping[str, int]) -> RequestError:
    why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if not looked:
        said = "no exchange yet, or none in that time. Answer requests with `daulat up` or `daulat chat` first"
    elif set(left_out) == {NOT_KEPT}:
        said = (
            f'no exchange with its contents ({why}). Set contents = "full" in [record] of daulat.toml, '
            "and replay what is asked from then on"
        )
    else:
        said = "no exchange that can be replayed" + (f" ({why})" if why else "")
    return RequestError(
        f"The record has {said}. `daulat record show` lists what it has; choose with --model, --key, "
        "--project, --data-class, --since."
    )


# --- one exchange ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Attempt:
    target: Target
    usage: Usage
    money: int | None
    good: bool


def _past(one: Passed, record: Record, found: tuple[Audit, str] | None, currency: str) -> Past:
    audit, beside = found or (None, "")
    attempts = _attempts(one.opened, one.closed, currency)
    answered = answered_by(one.opened, one.closed)
    text = one.example.fields[ANSWER]
    whole = not one.closed.body.get("continued")
    heard = _heard(attempts, answered, str(text)) if whole else {}
    if beside:
        heard = {**_heard_beside(record, beside, currency), **heard}
    return Past(
        id=one.opened.subject,
        time=one.opened.time,
        prompt=prompt_of(one.example.messages),
        cluster=one.example.cluster,
        data_class=one.example.data_class,
        answered=answered,
        asked=frozenset([answered, *(attempt.target for attempt in attempts)]),
        heard=heard,
        usage=_usage(one.closed.body.get("usage")),
        money=_sum(attempt.money for attempt in attempts),
        seconds=_seconds(one.opened, one.closed),
        ruled=_ruled(one, answered),
        audit=audit,
    )


def _attempts(opened: Entry, closed: Entry, currency: str) -> Sequence[_Attempt]:
    """Those of an exchange; where the record tells none, there was one, which cost nothing."""
    told = closed.body.get("attempts")
    if not told:
        return (_Attempt(answered_by(opened, closed), _usage(closed.body.get("usage")), 0, True),)
    return tuple(
        _Attempt(
            Target(str(one["endpoint"]), str(one["model"])),
            _usage(one.get("usage")),
            _money(one.get("cost"), currency),
            "error" not in one,
        )
        for one in cast("Sequence[Json]", told)
        if one.get("error") != RESTING
    )


def _heard(attempts: Sequence[_Attempt], answered: Target, text: str) -> dict[Target, Heard]:
    """What those said that came to an end; with it what it cost to ask them in vain before."""
    good = {attempt.target: attempt.usage for attempt in attempts if attempt.good}
    return {
        target: Heard(
            usage,
            _sum(attempt.money for attempt in attempts if attempt.target == target),
            text if target == answered else None,
        )
        for target, usage in good.items()
    }


def _heard_beside(record: Record, beside: str, currency: str) -> dict[Target, Heard]:
    """What an audit's exchange says; nothing where it did not come to its end."""
    both = record.exchange(beside)
    if both is None or both.closed is None or both.closed.body.get("status") != "ok":
        return {}
    attempts = _attempts(both.opened, both.closed, currency)
    answer = record.contents(both.closed).get("answer")
    found = _heard(attempts, answered_by(both.opened, both.closed), "")
    text = None if answer is None else str(answer["choices"][0])
    return {target: Heard(one.usage, one.money, text) for target, one in found.items()}


def _ruled(one: Passed, answered: Target) -> Ruled | None:
    """What its certificate said; None where it fell under none, or one of the two could not answer."""
    told = one.closed.body.get("auto")
    steps = [target_of(step) for step in one.opened.body["plan"]["steps"]]
    if not isinstance(told, Mapping) or len(steps) != 2 or answered not in steps:
        return None
    said = cast("Json", told)
    way = said.get("way")
    if way not in ("kept", "escalated"):
        return None
    other = steps[1] if answered == steps[0] else steps[0]
    # Why is said where the one that was chosen did not answer.
    as_chosen = not said.get("why")
    pair = (answered, other) if (way == "kept") == as_chosen else (other, answered)
    return Ruled(str(said.get("certificate")), way, "gain" in said, as_chosen, *pair)


def _audits(record: Record, since: str) -> Iterator[tuple[str, tuple[Audit, str]]]:
    """By exchange: its audit, and the exchange that was opened for it; those with a known chance."""
    for entry in record.entries(kind=AUDITED, newest_first=True):
        if since and entry.time[:10] < since:
            return
        share, loss = entry.body.get("share"), entry.body.get("loss")
        if isinstance(share, int | float) and 0 < share <= 1:
            known = isinstance(loss, int | float) and 0 <= loss <= 1
            audit = Audit(float(share), float(cast("float", loss)) if known else None)
            yield entry.subject, (audit, str(entry.body.get("beside", "")))


# --- its figures ----------------------------------------------------------------------------------


def _owners(one: Passed) -> Iterator[tuple[Target, str]]:
    for step in one.opened.body["plan"]["steps"]:
        yield target_of(step), str(step.get("owner", ""))


def _usage(told: object) -> Usage:
    found = cast("Json", told if isinstance(told, Mapping) else {})
    counts = {name: _count(found.get(name, 0)) for name in _COUNTS}
    return Usage(**counts, counted=bool(found.get("counted")))


def _count(value: object) -> int:
    return min(max(value, 0), MOST_TOKENS) if isinstance(value, int) else 0


def _money(told: object, currency: str) -> int | None:
    """An amount of today's currency; None: not told, or of another one."""
    figure, _space, unit = str(told).partition(" ")
    if told is None or unit != currency:
        return None
    try:
        return amount(figure)
    except ValueError:
        return None


def _sum(amounts: Iterable[int | None]) -> int | None:
    every = list(amounts)
    return None if None in every else sum(one or 0 for one in every)


def _seconds(opened: Entry, closed: Entry) -> float:
    spent = datetime.fromisoformat(closed.time) - datetime.fromisoformat(opened.time)
    return max(0.0, spent.total_seconds())
