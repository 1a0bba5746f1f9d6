"""The answer of a report in sentences: what the verdict is, by which figures, and what to be careful about.

Not here: the rules that choose the verdict (`verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from daulat.evaluate.comparing import Comparison, Side
from daulat.evaluate.reports.figures import Figures
from daulat.evaluate.reports.verdict import Gap, Standing, Verdict
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Caveat, Estimate

_OFTEN: Final = 0.05
"""Refusals and cut answers above this share are told at the top."""


@dataclass(frozen=True, slots=True)
class Teller:
    """What sentences are made with."""

    comparison: Comparison
    verdict: Verdict
    say: Words
    figures: Figures

    def answer(self) -> str:
        """The sentence that a report begins with."""
        gap = self.verdict.gap
        if gap is None or self.verdict.standing is None:
            return self._alone()
        told = _SENTENCES[self.verdict.standing](self, gap)
        if gap.source == "judge" and (
            gap.won is None or self.verdict.standing is not Standing.BETTER
        ):
            return self.say("As the judge sees it: {sentence}", sentence=told)
        return told

    # --- one sentence for each standing ------------------------------------------------------------

    def as_good(self, gap: Gap) -> str:
        return self.say(
            "{a} is as good as {b} on this task, within ±{points} points{cost}.",
            a=gap.a,
            b=gap.b,
            points=self._up(max(abs(gap.apart.low), abs(gap.apart.high))),
            cost=self.cost(gap),
        )

    def better(self, gap: Gap) -> str:
        if gap.won is not None and gap.source == "judge":
            return self._preferred(gap, gap.won)
        values = {"a": gap.a, "b": gap.b, "points": self._by(gap), "cost": self.cost(gap)}
        if self.verdict.field > 2 and self.verdict.tops:
            field = self.figures.number(self.verdict.field)
            return self.say(
                "{a} is the best of the {field} on this task, {points} points ahead of {b}{cost}.",
                field=field,
                **values,
            )
        return self.say("{a} is better than {b} on this task, by {points} points{cost}.", **values)

    def worse(self, gap: Gap) -> str:
        return self.better(gap.mirrored())

    def not_worse(self, gap: Gap) -> str:
        behind = self._up(max(0.0, -gap.apart.low))
        values = {"a": gap.a, "b": gap.b, "cost": self.cost(gap)}
        if not any(digit in "123456789" for digit in behind):
            return self.say("{a} is at least as good as {b} on this task{cost}.", **values)
        return self.say(
            "{a} is at most {points} points worse than {b} on this task, and may be better{cost}.",
            points=behind,
            **values,
        )

    def unclear(self, gap: Gap) -> str:
        several = self.verdict.field > 2
        rivals = self._rivals(gap)
        count = self.figures.number(gap.apart.n)
        if gap.needed is None:
            text = (
                self.say(
                    "{a} does best, but cannot be told apart from {b} with these {n} examples."
                )
                if several
                else self.say("{a} and {b} cannot be told apart with these {n} examples.")
            )
            return text.format(a=gap.a, b=rivals, n=count)
        text = (
            self.say(
                "{a} does best, but cannot be told apart from {b} with these {n} examples: about "
                "{needed} are needed to see a difference of {points} points."
            )
            if several
            else self.say(
                "{a} and {b} cannot be told apart with these {n} examples: about {needed} are "
                "needed to see a difference of {points} points."
            )
        )
        points = margin(self)
        needed = self.figures.number(about(gap.needed))
        return text.format(a=gap.a, b=rivals, n=count, needed=needed, points=points)

    def too_few(self, gap: Gap) -> str:
        apart = gap.apart
        if apart.caveat is Caveat.ONE_CLUSTER:
            return self.say(
                "{a} and {b} cannot be compared: all examples are of one document or session. Add "
                "examples of others.",
                a=gap.a,
                b=gap.b,
            )
        return self.say.plural(
            "{count} example is too little to compare {a} and {b}: nothing was tested.",
            "{count} examples are too few to compare {a} and {b}: nothing was tested.",
            apart.n,
            a=gap.a,
            b=gap.b,
        )

    def _preferred(self, gap: Gap, won: Estimate) -> str:
        return self.say(
            "The judge {judge} prefers {a} to {b}: {rate} of the time{cost}.",
            judge=self.comparison.judge,
            a=gap.a,
            b=gap.b,
            rate=str(self.figures.quality(won)),
            cost=self.cost(gap),
        )

    def _alone(self) -> str:
        """Where nothing is compared by scores."""
        first, field = self.comparison.endpoints[0], len(self.comparison.endpoints)
        if first.score is not None and field == 1:
            return self.say(
                "{name} scores {quality} on this task.",
                name=first.name,
                quality=str(self.figures.quality(first.score)),
            )
        if all(one.score is None for one in self.comparison.endpoints) and not metric(
            self.comparison
        ):
            return self.say("Answers were not judged: costs and times alone are compared.")
        return self.say("No answer could be scored: nothing can be said of quality.")

    # --- parts of sentences --------------------------------------------------------------------------

    def cost(self, gap: Gap) -> str:
        """What a costs beside b, as the end of a sentence; nothing where that is not known."""
        result = next(one for one in self.comparison.endpoints if one.name == gap.a)
        other = next(one for one in self.comparison.endpoints if one.name == gap.b)
        if result.cost is not None and result.cost.value == 0 and _paid(other):
            return self.say(", at no price per answer")
        ratio = gap.cost
        if ratio is None or ratio.value is None or math.isinf(ratio.high):
            return ""
        if ratio.low <= 1 <= ratio.high:
            return self.say(", at about the same cost")
        told = self.figures.ratio(ratio).text
        if ratio.value >= 2:
            return self.say(", at {times} its cost", times=told)
        return self.say(", at {share} of its cost", share=told)

    def basis(self) -> tuple[str, ...]:
        """The figures that the answer rests on."""
        gap = self.verdict.gap
        if gap is None or gap.apart.value is None:
            return ()
        figures, say = self.figures, self.say
        level = figures.percent(self.comparison.confidence, 0)
        several = len(self.comparison.pairs)
        apart = figures.points(gap.apart)
        told = [
            say("{a} less {b}: {points} points", a=gap.a, b=gap.b, points=str(apart)),
            say("{level} confidence", level=level)
            if several < 2
            else say(
                "{level} confidence for all {count} pairs at once",
                level=level,
                count=figures.number(several),
            ),
        ]
        if gap.p is not None and gap.apart.error is not None:
            p = figures.p_value(gap.p).text
            told.append(say("p {p}, after Holm", p=p) if several > 1 else say("p {p}", p=p))
        return (*told, *self._price(gap))

    def _price(self, gap: Gap) -> tuple[str, ...]:
        """What a costs beside b, with its interval."""
        if gap.cost is None or gap.cost.value is None:
            return ()
        told = self.figures.ratio(gap.cost)
        values = {"a": gap.a, "b": gap.b, "value": told.text, "interval": told.interval}
        if gap.cost.value >= 2:
            return (self.say("{a} costs {value} ({interval}) what {b} costs", **values),)
        return (self.say("{a} costs {value} ({interval}) of what {b} costs", **values),)

    def _by(self, gap: Gap) -> str:
        """A difference without its sign, with its interval."""
        apart = gap.apart
        places = self.figures.percent_places(apart)
        value, low, high = (
            self.figures.number(100 * (one or 0.0), places)
            for one in (apart.value, apart.low, apart.high)
        )
        return self.say("{value} ({low} to {high})", value=value, low=low, high=high)

    def _up(self, share: float) -> str:
        """Points, rounded up: what is promised must hold."""
        places = 1 if share >= 0.001 else 2
        factor = 10.0**places
        return self.figures.number(math.ceil(100 * share * factor - 1e-9) / factor, places)

    def _rivals(self, gap: Gap) -> str:
        others = len(self.verdict.others)
        if not others or self.verdict.field == 2:
            return gap.b
        return self.say.plural("{b} and {count} other", "{b} and {count} others", others, b=gap.b)


_SENTENCES: Final[Mapping[Standing, Callable[[Teller, Gap], str]]] = {
    Standing.AS_GOOD: Teller.as_good,
    Standing.BETTER: Teller.better,
    Standing.WORSE: Teller.worse,
    Standing.NOT_WORSE: Teller.not_worse,
    Standing.UNCLEAR: Teller.unclear,
    Standing.TOO_FEW: Teller.too_few,
}


def about(count: int) -> int:
    """A number of examples, rounded up to two digits: it is a guess and must not look like more."""
    if count < 100:
        return count
    step = 10 ** (len(str(count)) - 2)
    return -(-count // step) * step


def metric(comparison: Comparison) -> str:
    """The metric with its options, as one text; empty: there is none."""
    told = dict(comparison.about.metric)
    name, options = str(told.pop("name", "")), told.pop("options", {})
    if isinstance(options, Mapping):
        told |= cast("Mapping[str, Any]", options)
    listed = ", ".join(f"{key} {value}" for key, value in told.items())
    return f"{name} ({listed})" if name and listed else name


def margin(teller: Teller) -> str:
    """The largest difference that does not matter, in points."""
    points = 100 * teller.comparison.margin
    places = next((n for n in (0, 1) if math.isclose(points, round(points, n))), 2)
    return teller.figures.number(points, places)


def _paid(result: Side) -> bool:
    return result.cost is not None and bool(result.cost.value)


# --- what to be careful about -----------------------------------------------------------------------


def cautions(teller: Teller) -> tuple[str, ...]:
    """What a reader must know before using the answer, most important first."""
    found = [
        *_stopped(teller),
        *_lost(teller),
        *_behaviour(teller),
        *_certain_and_small(teller),
        *_doubts(teller),
        *_judges(teller),
        *_costs(teller),
    ]
    return tuple(found)


def _stopped(teller: Teller) -> list[str]:
    about, say = teller.comparison.about, teller.say
    if about.ended == "done":
        return []
    reasons = {
        "budget": say("the budget was used up"),
        "failing": say("too many requests failed one after the other"),
        "stopped": say("it was stopped"),
    }
    told = say("Not everything was asked: {reason}.", reason=reasons.get(about.ended, about.ended))
    return [f"{told} {about.why}".strip()]


def _lost(teller: Teller) -> list[str]:
    """Examples without an answer, and what they would change."""
    say, found = teller.say, list[str]()
    for one in teller.comparison.endpoints:
        counts = one.counts
        lost = counts.barred + counts.failed + counts.missing
        if lost:
            found.append(
                say.plural(
                    "{name}: {count} of {asked} examples has no answer and is left out.",
                    "{name}: {count} of {asked} examples have no answer and are left out.",
                    lost,
                    name=one.name,
                    asked=teller.figures.number(counts.wanted),
                )
                + _delivered(teller, one)
            )
        if unscored(one):
            found.append(
                say.plural(
                    "{name}: {count} answer could not be scored and is left out.",
                    "{name}: {count} answers could not be scored and are left out.",
                    unscored(one),
                    name=one.name,
                )
            )
    return found


def _delivered(teller: Teller, one: Side) -> str:
    if one.delivered is None or not one.counts.barred + one.counts.failed:
        return ""
    told = str(teller.figures.quality(one.delivered))
    return " " + teller.say("If failures count as wrong, its mean score is {score}.", score=told)


def unscored(one: Side) -> int:
    """Answers that the metric could not judge."""
    if one.score is None:
        return 0
    return max(0, one.counts.answered + one.counts.refused - one.score.n)


def _behaviour(teller: Teller) -> list[str]:
    """Refusals and cut answers, where there are many."""
    found: list[str] = []
    for one in teller.comparison.endpoints:
        given = one.counts.answered + one.counts.refused
        if given and one.counts.refused / given >= _OFTEN:
            share = teller.figures.percent(one.counts.refused / given)
            found.append(
                teller.say(
                    "{name} refused to answer {share} of the time.", name=one.name, share=share
                )
            )
        if given and one.counts.cut / given >= _OFTEN:
            share = teller.figures.percent(one.counts.cut / given)
            found.append(
                teller.say(
                    "{name}: {share} of the answers were cut off at the limit of tokens; a higher "
                    "--max-tokens may raise its score.",
                    name=one.name,
                    share=share,
                )
            )
    return found


def _certain_and_small(teller: Teller) -> list[str]:
    gap = teller.verdict.gap
    if gap is None or teller.verdict.standing is not Standing.AS_GOOD or 0.0 in gap.apart:
        return []
    ahead, behind = (gap.a, gap.b) if gap.apart.low > 0 else (gap.b, gap.a)
    return [
        teller.say(
            "{ahead} is ahead of {behind} at {level} confidence, but by less than the {points} "
            "points that matter.",
            level=teller.figures.percent(teller.comparison.confidence, 0),
            ahead=ahead,
            behind=behind,
            points=margin(teller),
        )
    ]


def _doubts(teller: Teller) -> list[str]:
    """Why the interval of the answer says less than usual."""
    gap = teller.verdict.gap
    if gap is None or teller.verdict.standing is Standing.TOO_FEW:
        return []
    words = caveat(teller.say, gap.apart.caveat)
    return [teller.say("Take it with care: {reason}.", reason=words)] if words else []


def _judges(teller: Teller) -> list[str]:
    comparison, say = teller.comparison, teller.say
    if not comparison.judge:
        return []
    found: list[str] = []
    if not any(one.corrected for one in comparison.endpoints) and not any(
        one.corrected for one in comparison.pairs
    ):
        found.append(
            say(
                "The scores are those of a judge ({judge}) that nobody has checked: a few labels "
                "of people, by the command daulat label, correct them.",
                judge=comparison.judge,
            )
        )
    if comparison.judge in {one.name for one in comparison.endpoints}:
        found.append(
            say("{judge} judges its own answers, too: judges favour them.", judge=comparison.judge)
        )
    return found


def _costs(teller: Teller) -> list[str]:
    say, results = teller.say, teller.comparison.endpoints
    found: list[str] = []
    unknown = tuple(one.name for one in results if one.cost is None or one.cost.value is None)
    if unknown and len(unknown) < len(results):
        found.append(say("No price is known of {names}.", names=say.several(unknown)))
    free = tuple(
        one.name for one in results if one.cost is not None and one.cost.value == 0 and one.open
    )
    if free:
        found.append(
            say(
                "{names}: prices are per answer; the machine that it runs on is not counted.",
                names=say.several(free),
            )
        )
    return found


def caveat(say: Words, why: Caveat) -> str:
    """Why a figure says less than usual, in words; empty: it does not."""
    words = {
        Caveat.EMPTY: say("there are no examples"),
        Caveat.SINGLE: say("there is one example only"),
        Caveat.ONE_CLUSTER: say("all examples are of one document or session"),
        Caveat.CONSTANT: say("all values are equal"),
        Caveat.FEW_CLUSTERS: say("documents or sessions are few, or a few outweigh the others"),
        Caveat.FEW_DIFFER: say("the two differ on few examples"),
        Caveat.NOTHING_GOOD: say("no answer was good"),
        Caveat.UNBOUNDED: say("there are too few examples to bound it"),
        Caveat.NO_LABELS: say("people gave no labels"),
        Caveat.FEW_LABELS: say("people gave few labels"),
        Caveat.SEPARATED: say("some never lose to some others"),
    }
    return words.get(why, "")
