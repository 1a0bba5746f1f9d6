"""Answers that did not come, or not whole: refusals, errors and cut answers, counted apart."""

from __future__ import annotations

from collections.abc import Callable

from daulat.evaluate.comparing import Side
from daulat.evaluate.reports.cautions import kind, unscored
from daulat.evaluate.reports.figures import Cell
from daulat.evaluate.reports.page import Column, Section, Table
from daulat.evaluate.reports.telling import Teller


def losses(teller: Teller) -> Section:
    """Refusals, errors, cut answers: counted apart."""
    say, figures = teller.say, teller.figures
    sides = teller.comparison.endpoints
    counts: tuple[tuple[str, Callable[[Side], int], bool], ...] = (
        (say("Asked"), lambda one: one.counts.wanted, True),
        (say("Answered"), lambda one: one.counts.answered, True),
        (say("Of these cut off"), lambda one: one.counts.cut, True),
        (say("Refused"), lambda one: one.counts.refused, True),
        (say("Not scored"), unscored, False),
        (say("Barred by the policy"), lambda one: one.counts.barred, False),
        (say("Failed"), lambda one: one.counts.failed, True),
        (say("Missing"), lambda one: one.counts.missing, False),
    )
    told = [(head, of) for head, of, always in counts if always or any(map(of, sides))]
    lost = any(one.counts.barred + one.counts.failed for one in sides)
    columns = [Column(say("Endpoint"), False), *(Column(head) for head, _of in told)]
    columns += [Column(say("Mean score if failures count as wrong"))] if lost else []
    rows = tuple(
        (
            Cell(one.name),
            *(figures.counted(of(one)) for _head, of in told),
            *([figures.quality(one.delivered)] if lost else []),
        )
        for one in sides
    )
    notes = [
        say("Refusals and cut answers are answers, and are scored as they are."),
        say(
            "What was barred, failed, is missing or could not be scored is left out of mean scores "
            "and differences; the last column counts what was barred or failed as wrong."
        )
        if lost
        else say("What is missing or could not be scored is left out of mean scores."),
    ]
    redacted = [one for one in teller.comparison.endpoints if one.counts.redacted]
    notes += [
        say.plural(
            "{name}: in {count} prompt, what the guard found was replaced before it was sent.",
            "{name}: in {count} prompts, what the guard found was replaced before they were sent.",
            one.counts.redacted,
            name=one.name,
        )
        for one in redacted
    ]
    return Section(
        "losses",
        say("Answers that did not come, or not whole"),
        tables=(Table(say("Answers, counted"), tuple(columns), rows), *_errors(teller)),
        notes=tuple(notes),
    )


def _errors(teller: Teller) -> list[Table]:
    """Each kind of error with how often it came."""
    say, figures = teller.say, teller.figures
    rows = [
        (Cell(one.name), Cell(kind(say, code)), figures.counted(count))
        for one in teller.comparison.endpoints
        for code, count in one.errors.items()
        if count
    ]
    if not rows:
        return []
    columns = (
        Column(say("Endpoint"), False),
        Column(say("Kind"), False),
        Column(say("Times seen")),
    )
    return [Table(say("Failures by kind"), columns, tuple(rows))]
