"""How good the answers are: mean scores with intervals."""

from __future__ import annotations

from daulat.evaluate.comparing import Side
from daulat.evaluate.plots import Axis, Intervals
from daulat.evaluate.reports.figures import DASH, Cell
from daulat.evaluate.reports.page import Column, Plot, Section, Table
from daulat.evaluate.reports.sections.parts import bar, caveats, tick
from daulat.evaluate.reports.telling import Teller, metric
from daulat.evaluate.reports.words import Words


def quality(teller: Teller) -> Section | None:
    """Mean scores with intervals."""
    comparison, say, figures = teller.comparison, teller.say, teller.figures
    scored = [one for one in comparison.endpoints if one.score is not None]
    if not scored:
        return None
    labelled = any(one.corrected for one in scored)
    placed = any(one.place or one.open is not None for one in scored)
    columns = [Column(say("Endpoint"), False)]
    columns += [Column(say("Where"), False)] if placed else []
    columns += [Column(say("Mean score"))]
    columns += [Column(say("By people and judge"))] if labelled else []
    columns += [Column(say("Examples scored"))]
    rows: list[tuple[Cell, ...]] = []
    for one in scored:
        where = [Cell(_where(one, say))] if placed else []
        row = [Cell(one.name), *where, figures.quality(one.score)]
        row += (
            [figures.quality(one.corrected.estimate if one.corrected else None)] if labelled else []
        )
        rows.append((*row, figures.counted(one.score.n if one.score else 0)))
    bars = tuple(bar(one.name, one.score, str(figures.quality(one.score))) for one in scored)
    chart = Intervals(
        say("Mean scores"),
        bars,
        Axis(lambda one: figures.percent(one, tick(100 * one)), least=0, most=1),
    )
    return Section(
        "quality",
        say("Quality"),
        lead=(_metric(teller),),
        tables=(Table(say("Mean scores"), tuple(columns), tuple(rows)),),
        plots=(Plot(chart),),
        notes=(
            say("In brackets: {level} intervals.", level=figures.percent(comparison.confidence, 0)),
            *caveats(say, [(one.name, one.score) for one in scored]),
        ),
    )


def _metric(teller: Teller) -> str:
    comparison, say = teller.comparison, teller.say
    values = {
        "metric": metric(comparison) or say("scores of the file"),
        "n": teller.figures.number(comparison.examples),
        "clusters": teller.figures.number(comparison.clusters),
    }
    if comparison.clusters < comparison.examples:
        return say("Metric: {metric}; {n} examples of {clusters} documents or sessions.", **values)
    return say("Metric: {metric}; {n} examples.", **values)


def _where(one: Side, say: Words) -> str:
    kind = {True: say("open"), False: say("closed"), None: ""}[one.open]
    return " · ".join(part for part in (one.place, kind) if part) or DASH
