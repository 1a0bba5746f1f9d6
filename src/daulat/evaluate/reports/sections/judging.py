"""Who judged, what became of its verdicts, and what people's labels make of them.

Win rates and the pull of the place stand with the pairs. Not here: what to be careful about (`cautions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from daulat.evaluate.judges.appointing import JudgeReport
from daulat.evaluate.labels.book import Kind
from daulat.evaluate.labels.correcting import Corrections, People
from daulat.evaluate.reports.figures import Cell, Figures
from daulat.evaluate.reports.page import Column, Section, Table
from daulat.evaluate.reports.sections.parts import caveats, less
from daulat.evaluate.reports.telling import Teller
from daulat.evaluate.reports.words import Words
from daulat.statistics.agreement import Agreement
from daulat.statistics.prediction_powered import Corrected

ENOUGH: Final = 50
"""With fewer labels people are asked for more."""
_UNSURE: Final = 0.5
"""A judge whose verdicts have less than this of the probability hardly sees what it is asked."""


def judge(teller: Teller) -> Section | None:
    """What became of the judge's verdicts; None: nobody judged."""
    told, say = teller.comparison.judging, teller.say
    if told is None:
        return None
    return Section(
        "judge",
        say("The judge {judge}", judge=told.model),
        lead=tuple(_asked(told, teller)),
        notes=tuple(_became(told, teller.figures)),
    )


def _asked(told: JudgeReport, teller: Teller) -> Iterator[str]:
    say, figures = teller.say, teller.figures
    ways = {
        "choice": say("by the probabilities of a letter that it is held to"),
        "logprobs": say("by the probabilities of a letter"),
        "json": say("in JSON"),
        "words": say("in the last line"),
    }
    if told.kind == "pairwise":
        yield say("It says which of two answers is better, in both orders.")
    else:
        yield say("It gives points by a rubric, {scale}.", scale=told.scale)
    verdicts = say.plural("{count} verdict", "{count} verdicts", told.verdicts)
    if told.money is None:
        yield say(
            "{verdicts}, told {way}; what they cost is not known.",
            verdicts=verdicts,
            way=ways.get(told.way, told.way),
        )
        return
    yield say(
        "{verdicts}, told {way}; they cost {cost} {currency}.",
        verdicts=verdicts,
        way=ways.get(told.way, told.way),
        cost=figures.money(told.money),
        currency=teller.comparison.about.currency,
    )


def _became(told: JudgeReport, figures: Figures) -> Iterator[str]:
    say = figures.say
    if told.same:
        yield say.plural(
            "{count} pair of equal answers is a tie without asking.",
            "{count} pairs of equal answers are ties without asking.",
            told.same,
        )
    if told.unreadable:
        yield say("Of the replies without a verdict, the first ones:")
        yield from told.words
    if told.mass is not None and told.mass < _UNSURE:
        yield say(
            "Verdicts had {share} of the probability: it hardly sees what it is asked.",
            share=figures.percent(told.mass, 0),
        )


# --- people ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    found: Corrected


def people(teller: Teller) -> Section | None:
    """Figures by people's labels and the judge together; None: nobody labelled."""
    comparison = teller.comparison
    if comparison.people is None:
        return None
    means = (_Row(one.name, one.corrected) for one in comparison.endpoints if one.corrected)
    apart = (_Row(less(one.a, one.b), one.corrected) for one in comparison.pairs if one.corrected)
    rates = (
        _Row(_against(one.a, one.b), one.preferred) for one in comparison.pairs if one.preferred
    )
    pairwise = comparison.judging is not None and comparison.judging.kind == "pairwise"
    return _section(
        comparison.people, teller.figures, list(means), list(apart), list(rates), pairwise
    )


def labelled(found: Corrections, say: Words, *, pairwise: bool) -> Section:
    """The same without a comparison.

    Args:
        pairwise: the table's scores are a judge's preferences.
    """
    means = [_Row(name, one) for name, one in found.means.items()]
    apart = [_Row(less(one.a, one.b), one.found) for one in found.differences]
    rates = [_Row(_against(one.a, one.b), one.found) for one in found.win_rates]
    return _section(found.people, Figures(say), means, apart, rates, pairwise)


def _against(a: str, b: str) -> str:
    return f"{a} : {b}"


def _section(
    told: People,
    figures: Figures,
    means: list[_Row],
    apart: list[_Row],
    rates: list[_Row],
    pairwise: bool,
) -> Section:
    """Where scores are preferences, the win rates say all; where nobody compared, scores do."""
    say = figures.say
    tables: list[Table] = []
    if not pairwise:
        tables += [
            _table(say("Mean scores"), say("Endpoint"), means, figures),
            _table(
                say("Differences of mean scores, in points"),
                say("First less second"),
                apart,
                figures,
                points=True,
            ),
        ]
    if pairwise or "pairwise" in told.judge:
        tables.append(_table(say("Win rates"), say("First against second"), rates, figures))
    estimates = [(row.name, row.found.estimate) for row in (rates if pairwise else means)]
    return Section(
        "people",
        say("By people and judge"),
        lead=(_given(told, say),),
        tables=tuple(table for table in tables if table.rows),
        notes=(*_agreements(told, figures), *_remarks(told, say), *caveats(say, estimates)),
    )


def _given(told: People, say: Words) -> str:
    labels = say.plural("{count} label", "{count} labels", told.labels)
    names = say.several(told.names) or "?"
    return say(
        "{labels} by {people}, without knowing whose answers they saw.", labels=labels, people=names
    )


def _table(
    caption: str, head: str, rows: Iterable[_Row], figures: Figures, *, points: bool = False
) -> Table:
    say = figures.say
    write = figures.points if points else figures.quality
    columns = (
        Column(head, False),
        Column(say("By people and judge")),
        Column(say("People alone")),
        Column(say("Judge alone")),
        Column(say("Examples labelled")),
        Column(say("Worth, labels")),
    )
    shown = tuple(
        (
            Cell(row.name),
            write(row.found.estimate),
            write(row.found.labels_only),
            write(row.found.judge_only),
            figures.counted(row.found.estimate.n),
            _worth(row.found, figures),
        )
        for row in rows
    )
    return Table(caption, columns, shown)


def _worth(found: Corrected, figures: Figures) -> Cell:
    return figures.unknown() if found.worth is None else Cell(figures.number(round(found.worth)))


def _agreements(told: People, figures: Figures) -> Iterator[str]:
    say = figures.say
    yield from _agreement(say("Judge and people"), told.judge, figures)
    yield from _agreement(say("People among themselves"), told.among, figures)


def _agreement(who: str, found: Mapping[Kind, Agreement], figures: Figures) -> Iterator[str]:
    say = figures.say
    for kind, one in found.items():
        what = say("which is better") if kind == "pairwise" else say("points")
        parts = [
            say("Krippendorff's alpha {value}", value=str(_coefficient(one, "alpha", figures)))
        ]
        if one.kappa is not None:
            parts.append(
                say("Cohen's kappa {value}", value=str(_coefficient(one, "kappa", figures)))
            )
        if one.share is not None and kind == "pairwise":
            parts.append(say("{share} the same", share=figures.percent(one.share, 0)))
        yield f"{who}, {what}: {', '.join(parts)}."


def _coefficient(one: Agreement, name: str, figures: Figures) -> Cell:
    found = one.alpha if name == "alpha" else one.kappa
    if found is None or found.value is None:
        return figures.unknown()
    low, high = (figures.number(end, 2) for end in (found.low, found.high))
    return Cell(figures.number(found.value, 2), figures.say("{low} to {high}", low=low, high=high))


def _remarks(told: People, say: Words) -> Iterator[str]:
    if told.labels:
        yield say("Worth: so many labels alone would tell as much.")
    if told.stale:
        yield say.plural(
            "{count} label is of an answer that has changed since, and does not count.",
            "{count} labels are of answers that have changed since, and do not count.",
            told.stale,
        )
    if told.untold:
        yield say.plural(
            "{count} time somebody could not tell: it counts as if others had labelled it.",
            "{count} times somebody could not tell: these count as if others had labelled them.",
            told.untold,
        )
    if told.labels < ENOUGH:
        yield say("With so few labels the intervals are a guess: give 50 or more.")
