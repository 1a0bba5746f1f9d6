"""The answer of a report in a sentence: what the verdict is, and by which figures.

Not here: the rules that choose the verdict (`verdict`), what to be careful about (`cautions`).
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
        if gap.won is not None and gap.source in ("judge", "people"):
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
        values = {
            "a": gap.a,
            "b": gap.b,
            "rate": str(self.figures.quality(won)),
            "cost": self.cost(gap),
        }
        if gap.source == "people":
            return self.say(
                "People and judge together prefer {a} to {b}: {rate} of the time{cost}.", **values
            )
        return self.say(
            "The judge {judge} prefers {a} to {b}: {rate} of the time{cost}.",
            judge=self.comparison.judge,
            **values,
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
        if any(one.score is not None for one in self.comparison.endpoints):
            return self.say("No example has scores of two endpoints: nothing can be compared.")
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
        tested = gap.apart.error is not None and self.verdict.standing is not Standing.TOO_FEW
        if gap.p is not None and tested:
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
