"""What the answers cost, in money, tokens and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from daulat.evaluate.comparing import Side
from daulat.evaluate.plots import Axis, Intervals, Scatter, Spot, spans_decades
from daulat.evaluate.reports.figures import PER, Cell, Figures
from daulat.evaluate.reports.page import Column, Plot, Section, Table
from daulat.evaluate.reports.sections.parts import bar, caveats, tick
from daulat.evaluate.reports.telling import Teller
from daulat.statistics.samples import Estimate


def costs(teller: Teller) -> Section | None:
    """Money and tokens; None: neither is known."""
    comparison, say, figures = teller.comparison, teller.say, teller.figures
    unit = {"currency": comparison.about.currency, "count": figures.number(PER)}
    counted = any(one.prompt_tokens or one.completion_tokens for one in comparison.endpoints)
    if not counted and all(one.cost is None for one in comparison.endpoints):
        return None
    columns = (
        Column(say("Endpoint"), False),
        Column(say("{currency} for {count} answers", **unit)),
        Column(say("{currency} for {count} good answers", **unit)),
        Column(say("All answers, {currency}", **unit)),
        *([Column(say("Tokens in")), Column(say("Tokens out"))] if counted else []),
    )
    rows = tuple(
        (
            Cell(one.name),
            figures.amount(one.cost, PER),
            figures.amount(one.cost_per_good, PER),
            figures.unknown() if one.cost is None else Cell(figures.money(one.money)),
            *(_tokens(one, figures) if counted else ()),
        )
        for one in comparison.endpoints
    )
    notes = [
        say("Good answers: cost divided by mean score."),
        *([say("Tokens: mean of an answer.")] if counted else []),
        *caveats(say, [(one.name, one.cost_per_good) for one in comparison.endpoints]),
    ]
    chart = _scatter(teller)
    return Section(
        "costs",
        say("Costs"),
        tables=(Table(say("Costs and tokens"), columns, rows),),
        plots=(chart,) if chart else (),
        notes=tuple(notes),
    )


def _scatter(teller: Teller) -> Plot | None:
    comparison, say, figures = teller.comparison, teller.say, teller.figures
    spots = tuple(
        Spot(
            one.name,
            bar(one.name, _times(one.cost, PER), str(figures.amount(one.cost, PER))),
            bar(one.name, one.score, str(figures.quality(one.score))),
        )
        for one in comparison.endpoints
        if one.cost is not None and one.score is not None
        if one.cost.value is not None and one.score.value is not None
    )
    if len(spots) < 2:
        return None
    unit = {"currency": comparison.about.currency, "count": figures.number(PER)}
    across = Axis(
        figures.plain, say("{currency} for {count} answers", **unit), least=0, logarithmic=True
    )
    up = Axis(lambda one: figures.percent(one, tick(100 * one)), say("Mean score"), least=0, most=1)
    note = (
        say("The scale of costs is logarithmic: equal steps are equal ratios.")
        if spans_decades([one.across for one in spots], across)
        else ""
    )
    return Plot(Scatter(say("Quality and cost"), spots, across, up), note)


def _tokens(one: Side, figures: Figures) -> tuple[Cell, Cell]:
    return _mean(one.prompt_tokens, one, figures), _mean(one.completion_tokens, one, figures)


def _mean(tokens: int, one: Side, figures: Figures) -> Cell:
    """Tokens of an answer on average."""
    given = one.counts.answered + one.counts.refused
    return Cell(figures.significant(tokens / given)) if given and tokens else figures.unknown()


def _times(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None or estimate.value is None:
        return estimate
    return replace(
        estimate,
        value=estimate.value * factor,
        low=estimate.low * factor,
        high=estimate.high * factor,
    )


def times(teller: Teller) -> Section | None:
    """Percentiles of latencies."""
    say, figures, sides = teller.say, teller.figures, teller.comparison.endpoints
    if not any(one.seconds for one in sides):
        return None
    ends = [(one, one.seconds or {}) for one in sides]
    first = [(one, one.first_seconds or {}) for one in sides]
    title = say("Seconds to the end of the answer")
    tables = [_latencies(teller, title, ends)]
    if any(found for _one, found in first):
        tables.append(_latencies(teller, say("Seconds to the first token"), first))
    bars = tuple(
        bar(_share(name, figures), seconds, str(figures.amount(seconds)), group=one.name)
        for one, found in ends
        for name, seconds in found.items()
    )
    axis = Axis(figures.plain, least=0, zero=True, logarithmic=True)
    return Section(
        "times",
        say("Times"),
        tables=tuple(tables),
        plots=(Plot(Intervals(title, bars, axis)),),
        notes=(
            say("Times are those of the day of the comparison, with its load. Failures have none."),
        ),
    )


def _share(name: str, figures: Figures) -> str:
    """Of a percentile's name, such as p99."""
    number = name.removeprefix("p")
    if not number.replace(".", "", 1).isdigit():
        return name
    return figures.percent(float(number) / 100, 0 if float(number).is_integer() else 1)


def _latencies(
    teller: Teller, caption: str, found: Sequence[tuple[Side, Mapping[str, Estimate]]]
) -> Table:
    say, figures = teller.say, teller.figures
    names = list(dict.fromkeys(name for _one, ones in found for name in ones))
    columns = (
        Column(say("Endpoint"), False),
        *(Column(say("{share} of answers", share=_share(name, figures))) for name in names),
    )
    rows = tuple(
        (Cell(one.name), *(figures.amount(ones.get(name)) for name in names)) for one, ones in found
    )
    return Table(caption, columns, rows)
