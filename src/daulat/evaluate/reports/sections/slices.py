"""Parts of the examples: by category, language, length.

Where there are many endpoints, only the two that the answer is about are shown; all stand in report.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from daulat.evaluate.comparing import Division, Part
from daulat.evaluate.plots import Axis, Bar, Panel, Panels
from daulat.evaluate.reports.figures import Cell, Figures
from daulat.evaluate.reports.orienting import turned_slice
from daulat.evaluate.reports.page import Column, Plot, Section, Table
from daulat.evaluate.reports.sections.parts import bar, less, tick
from daulat.evaluate.reports.telling import Teller
from daulat.evaluate.reports.verdict import FEWEST
from daulat.evaluate.reports.words import Words
from daulat.statistics.multiple import Slice

_MOST_ENDPOINTS: Final = 4
_MOST_ROWS: Final = 80
_LENGTHS: Final = re.compile(r"(\d{1,9})?-(\d{1,9})?")


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is shown of a division: some endpoints' means, and one pair's differences by the slice's name."""

    division: Division
    shown: tuple[str, ...]
    pair: tuple[str, str] | None
    differences: Mapping[str, Slice]


def slices(teller: Teller) -> tuple[Section, ...]:
    """A section for each way to part the examples."""
    return tuple(_section(teller, one) for one in teller.comparison.divisions if one.parts)


def _section(teller: Teller, division: Division) -> Section:
    cut, say, figures = _cut(teller, division), teller.say, teller.figures
    notes = [
        say(
            "Intervals of differences hold for all {count} slices at once (Bonferroni), p-values "
            "are adjusted for all of them (Holm).",
            count=figures.number(len(division.parts)),
        ),
    ]
    if any(not _testable(one) for one in cut.differences.values()):
        notes.append(
            say(
                "Not tested: the slice has fewer than {count} examples on which both were scored.",
                count=figures.number(FEWEST),
            )
        )
    if len(division.parts) > _MOST_ROWS:
        left = len(division.parts) - _MOST_ROWS
        notes.append(
            say.plural(
                "{count} more slice stands in report.json.",
                "{count} more slices stand in report.json.",
                left,
            )
        )
    return Section(
        f"by-{division.by}",
        _title(say, division.by),
        tables=(_table(teller, cut),),
        plots=(Plot(_chart(teller, cut), _note(teller, cut)),),
        notes=tuple(notes),
    )


def _note(teller: Teller, cut: _Cut) -> str:
    """How the chart is to be read."""
    if cut.pair is None:
        return ""
    return teller.say(
        "Difference: {pair}. Filled marks: means, and differences whose p, after Holm, is below {level}.",
        pair=less(*cut.pair),
        level=teller.figures.number(1 - teller.comparison.confidence, 2),
    )


def _named(teller: Teller, by: str, name: str) -> str:
    """A slice's name as people read it: lengths have no words yet."""
    found = _LENGTHS.fullmatch(name) if by == "length" else None
    if found is None:
        return name
    say, number = teller.say, teller.figures.number
    low, high = (int(one) if one else None for one in found.groups())
    if low is None:
        return say("up to {high}", high=number(high or 0))
    if high is None:
        return say("from {low}", low=number(low))
    return say("{low} to {high}", low=number(low), high=number(high))


def _title(say: Words, by: str) -> str:
    return {
        "category": say("By category"),
        "language": say("By language"),
        "length": say("By length of the prompt, in characters"),
    }.get(by, by)


def _cut(teller: Teller, division: Division) -> _Cut:
    names = [one.name for one in teller.comparison.endpoints]
    gap = teller.verdict.gap
    wanted = (gap.a, gap.b) if gap else tuple(names[:2])
    few = len(names) <= _MOST_ENDPOINTS
    shown = tuple(name for name in names if few or name in wanted)
    first, against = names[0], division.against
    if wanted[0] == first and wanted[-1] in against:
        found = against[wanted[-1]]
    elif wanted[-1] == first and wanted[0] in against:
        found = tuple(map(turned_slice, against[wanted[0]]))
    elif wanted[0] in against:
        # Parts are compared with the first endpoint only: then with it.
        wanted = (wanted[0], first)
        found = tuple(map(turned_slice, against[wanted[0]]))
    else:
        return _Cut(division, shown, None, {})
    return _Cut(division, shown, (wanted[0], wanted[-1]), {one.name: one for one in found})


def _table(teller: Teller, cut: _Cut) -> Table:
    say, figures = teller.say, teller.figures
    columns = [Column(say("Slice"), False), Column(say("Examples"))]
    columns += [Column(name) for name in cut.shown]
    if cut.pair:
        columns += [Column(say("{pair}, points", pair=less(*cut.pair)))]
        columns += [Column(say("p, after Holm"))]
    rows = tuple(
        (
            Cell(_named(teller, cut.division.by, part.name)),
            figures.counted(part.examples),
            *(figures.quality(part.scores.get(name)) for name in cut.shown),
            *(_tested(teller, cut.differences.get(part.name)) if cut.pair else ()),
        )
        for part in cut.division.parts[:_MOST_ROWS]
    )
    return Table(_title(say, cut.division.by), tuple(columns), rows)


def _testable(one: Slice | None) -> TypeGuard[Slice]:
    """Whether there are enough examples to say anything."""
    if one is None or one.simultaneous.value is None:
        return False
    return one.simultaneous.error is not None and one.simultaneous.n >= FEWEST


def _tested(teller: Teller, one: Slice | None) -> tuple[Cell, Cell]:
    if not _testable(one):
        return Cell(teller.say("not tested"), tone="quiet"), teller.figures.unknown()
    return teller.figures.points(one.simultaneous), teller.figures.p_value(one.adjusted)


def _chart(teller: Teller, cut: _Cut) -> Panels:
    say, figures, comparison = teller.say, teller.figures, teller.comparison
    parts = cut.division.parts[:_MOST_ROWS]

    def label(part: Part) -> str:
        return _named(teller, cut.division.by, part.name)

    score = Axis(lambda one: figures.percent(one, tick(100 * one)), least=0, most=1)
    panels = [
        Panel(name, tuple(_mean(label(part), part, name, figures) for part in parts), score)
        for name in cut.shown
    ]
    if cut.pair:
        apart = Axis(
            lambda one: figures.number(100 * one, tick(100 * one), signed=True),
            least=-1,
            most=1,
            zero=True,
            band=comparison.margin,
        )
        bars = tuple(
            _difference(teller, label(part), cut.differences.get(part.name)) for part in parts
        )
        panels.append(Panel(say("Difference, points"), bars, apart))
    return Panels(_title(say, cut.division.by), tuple(panels))


def _mean(label: str, part: Part, name: str, figures: Figures) -> Bar:
    found = part.scores.get(name)
    return bar(label, found, str(figures.quality(found)))


def _difference(teller: Teller, name: str, one: Slice | None) -> Bar:
    if not _testable(one):
        return bar(name, None, teller.say("not tested"))
    solid = one.adjusted < 1 - teller.comparison.confidence
    return bar(name, one.simultaneous, str(teller.figures.points(one.simultaneous)), solid=solid)
