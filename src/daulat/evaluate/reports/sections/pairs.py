"""Two endpoints side by side: differences, tests, what a judge prefers, how many examples it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from daulat.evaluate.comparing import Pair
from daulat.evaluate.plots import Axis, Intervals
from daulat.evaluate.reports.figures import Cell, Figures, Tone
from daulat.evaluate.reports.page import Column, Plot, Section, Table
from daulat.evaluate.reports.sections.parts import bar, brief, caveats, less, tick
from daulat.evaluate.reports.telling import Teller, about, margin
from daulat.evaluate.reports.verdict import FEWEST, Gap, Standing, gap_of, standing

MOST_PAIRS: Final = 30
"""Of more pairs than these, only those of the endpoints that the answer is about are shown."""


def pairs(teller: Teller) -> Section | None:
    """Paired differences, with tests and what they mean."""
    comparison, say, figures = teller.comparison, teller.say, teller.figures
    found = [(pair, gap_of(comparison, pair)) for pair in shown_pairs(teller)]
    if not found:
        return None
    bars = tuple(
        bar(
            less(brief(gap.a), brief(gap.b)),
            gap.apart,
            str(figures.points(gap.apart)),
            solid=not gap.apart.low <= 0 <= gap.apart.high,
        )
        for _pair, gap in found
    )
    axis = Axis(
        lambda one: figures.number(100 * one, tick(100 * one), signed=True),
        least=-1,
        most=1,
        zero=True,
        band=comparison.margin,
    )
    several = len(comparison.pairs) > 1
    lead = say(
        "Each pair on the same examples, so that what is hard for both cancels out: points that "
        "the first is ahead."
    )
    left = len(comparison.pairs) - len(shown_pairs(teller))
    notes = [
        say("Chance to be better on an example: the better ones and half of the same ones."),
        say("Confidence to be ahead: one less the p-value of a one-sided test."),
    ]
    if several:
        notes.append(
            say(
                "There are {count} pairs: intervals hold for all of them at once (Bonferroni), "
                "p-values are adjusted for all of them (Holm).",
                count=figures.number(len(comparison.pairs)),
            )
        )
    if left:
        notes.append(
            say.plural(
                "{count} more pair stands in report.json.",
                "{count} more pairs stand in report.json.",
                left,
            )
        )
    notes += caveats(say, [(less(gap.a, gap.b), gap.apart) for _pair, gap in found])
    tables = [_differences(teller, found), *_judged(teller, [pair for pair, _gap in found])]
    return Section(
        "pairs",
        say("Side by side"),
        lead=(lead,),
        tables=tuple(tables),
        plots=(
            Plot(
                Intervals(say("Differences of mean scores, in points"), bars, axis),
                say(
                    "Shaded: differences up to {points} points, which do not matter here "
                    "(--margin). Filled marks: the interval leaves out zero.",
                    points=margin(teller),
                ),
            ),
        ),
        notes=tuple(notes),
    )


def shown_pairs(teller: Teller) -> tuple[Pair, ...]:
    """All pairs, or where there are too many those of the endpoint that the answer is about."""
    found = teller.comparison.pairs
    if len(found) <= MOST_PAIRS:
        return found
    about = teller.verdict.gap.b if teller.verdict.gap else teller.verdict.subject
    names = {teller.verdict.subject, about}
    return tuple(one for one in found if names & {one.a, one.b})[: 2 * MOST_PAIRS]


def _differences(teller: Teller, found: Sequence[tuple[Pair, Gap]]) -> Table:
    say, figures = teller.say, teller.figures
    several = len(teller.comparison.pairs) > 1
    columns = (
        Column(say("First less second"), False),
        Column(say("Difference, points")),
        Column(say("p, after Holm") if several else say("p")),
        Column(say("Better / same / worse")),
        Column(say("Chance to be better on an example")),
        Column(say("Confidence to be ahead")),
        Column(say("Which means"), False),
    )
    rows = tuple(
        (
            Cell(less(gap.a, gap.b)),
            figures.points(gap.apart),
            figures.unknown() if gap.p is None or gap.apart.n < FEWEST else figures.p_value(gap.p),
            *_wins(pair, figures),
            _means(teller, gap),
        )
        for pair, gap in found
    )
    return Table(say("Differences of mean scores, in points"), columns, rows)


def _wins(pair: Pair, figures: Figures) -> tuple[Cell, Cell, Cell]:
    scores = pair.scores
    counts = " / ".join(figures.number(one) for one in (scores.wins, scores.ties, scores.losses))
    return Cell(counts), figures.quality(scores.beats), Cell(figures.confidence(scores.above))


def _means(teller: Teller, gap: Gap) -> Cell:
    say = teller.say
    told = standing(gap, teller.comparison.margin, teller.comparison.confidence)
    words: dict[Standing, tuple[str, Tone]] = {
        Standing.TOO_FEW: (say("not tested: too few"), "quiet"),
        Standing.AS_GOOD: (say("as good"), "good"),
        Standing.BETTER: (say("first is better"), "good"),
        Standing.WORSE: (say("second is better"), "bad"),
        Standing.NOT_WORSE: (
            say("first not worse by {points} points", points=margin(teller)),
            "good",
        ),
        Standing.UNCLEAR: (say("cannot be told"), "quiet"),
    }
    text, tone = words[told]
    return Cell(text, tone=tone)


def _judged(teller: Teller, found: Sequence[Pair]) -> list[Table]:
    """What a judge prefers, in both orders."""
    say, figures = teller.say, teller.figures
    known = [(pair, pair.judged) for pair in found if pair.judged is not None]
    if not known:
        return []
    columns = (
        Column(say("First against second"), False),
        Column(say("Win rate")),
        Column(say("Wins / ties / losses")),
        Column(say("Pull of the first place, points")),
        Column(say("Verdict turns with the order")),
    )
    rows = tuple(
        (
            Cell(f"{pair.a} : {pair.b}"),
            figures.quality(one.rate.rate),
            Cell(
                " / ".join(
                    figures.number(n) for n in (one.rate.wins, one.rate.ties, one.rate.losses)
                )
            ),
            figures.points(one.bias),
            figures.quality(one.inconsistent),
        )
        for pair, one in known
    )
    title = say("Preferred by the judge {judge}", judge=teller.comparison.judge or "?")
    return [Table(title, columns, rows), *_strengths(teller)]


def _strengths(teller: Teller) -> list[Table]:
    say, figures, found = teller.say, teller.figures, teller.comparison.strengths
    if not found:
        return []
    columns = (
        Column(say("Endpoint"), False),
        Column(say("Strength (Bradley-Terry, logits)")),
        Column(say("Expected win rate")),
        Column(say("Verdicts")),
    )
    rows = tuple(
        (
            Cell(one.name),
            figures.amount(one.strength),
            Cell(figures.percent(one.rate)),
            figures.counted(one.comparisons),
        )
        for one in sorted(found, key=lambda one: -(one.strength.value or 0.0))
    )
    return [Table(say("Strengths of all"), columns, rows)]


def advice(teller: Teller) -> Section | None:
    """How many examples would tell endpoints apart."""
    say, figures = teller.say, teller.figures
    known = [one for one in shown_pairs(teller) if one.advice or one.wanted]
    if not known:
        return None
    told = next(one for pair in known for one in (pair.wanted, pair.advice) if one)
    columns = (
        Column(say("First and second"), False),
        Column(say("Examples now")),
        Column(say("Smallest difference these show, points")),
        Column(say("Needed for {points} points", points=margin(teller))),
        Column(say("Needed for the difference seen")),
    )
    rows = tuple(
        (
            Cell(f"{pair.a} : {pair.b}"),
            figures.counted((pair.wanted or pair.advice or told).n),
            _smallest(pair, figures),
            _needed(pair.wanted.needed if pair.wanted else None, teller),
            _needed(pair.advice.needed if pair.advice else None, teller),
        )
        for pair in known
    )
    values = {
        "power": figures.percent(told.power, 0),
        "level": figures.percent(teller.comparison.confidence, 0),
        "count": figures.number(len(teller.comparison.pairs)),
    }
    lead = (
        say(
            "So many examples show a difference with a chance of {power}, at {level} confidence for all "
            "{count} pairs at once.",
            **values,
        )
        if len(teller.comparison.pairs) > 1
        else say(
            "So many examples show a difference with a chance of {power}, at {level} confidence.",
            **values,
        )
    )
    note = say(
        "The difference seen is itself uncertain, so the last column is a guess with a wide "
        "margin; go by the difference that matters to you."
    )
    return Section(
        "advice",
        say("How many examples it takes"),
        lead=(lead,),
        tables=(Table(say("Examples needed"), columns, rows),),
        notes=(note,),
    )


def _smallest(pair: Pair, figures: Figures) -> Cell:
    told = pair.wanted or pair.advice
    if told is None or told.detectable is None:
        return figures.unknown()
    if told.detectable > 1:
        return Cell(figures.say("over 100"), tone="quiet")
    return Cell(figures.number(100 * told.detectable, 1))


def _needed(count: int | None, teller: Teller) -> Cell:
    if count is None:
        return Cell(teller.say("more than 10 million"), tone="quiet")
    return Cell(teller.say("about {n}", n=teller.figures.number(about(count))))
