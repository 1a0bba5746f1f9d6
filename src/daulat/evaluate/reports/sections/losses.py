"""Answers that did not come, or not whole: refusals, errors and cut answers, counted apart."""

from __future__ import annotations

from daulat.evaluate.comparing import Side
from daulat.evaluate.reports.figures import Cell, Figures
from daulat.evaluate.reports.page import Column, Section, Table
from daulat.evaluate.reports.telling import Teller, unscored
from daulat.evaluate.reports.words import Words


def losses(teller: Teller) -> Section:
    """Refusals, errors, cut answers: counted apart."""
    say, figures = teller.say, teller.figures
    columns = (
        Column(say("Endpoint"), False),
        Column(say("Asked")),
        Column(say("Answered")),
        Column(say("Of these cut off")),
        Column(say("Refused")),
        Column(say("Not scored")),
        Column(say("Barred by the policy")),
        Column(say("Failed")),
        Column(say("Missing")),
        Column(say("Mean score if failures count as wrong")),
    )
    rows = tuple(_row(one, figures) for one in teller.comparison.endpoints)
    notes = [
        say("Refusals and cut answers are answers, and are scored as they are."),
        say(
            "What was barred, failed, is missing or could not be scored is left out of mean scores "
            "and differences; the last column counts what was barred or failed as wrong."
        ),
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
        tables=(Table(say("Answers, counted"), columns, rows), *_errors(teller)),
        notes=tuple(notes),
    )


def _row(one: Side, figures: Figures) -> tuple[Cell, ...]:
    counts = one.counts
    return (
        Cell(one.name),
        figures.counted(counts.wanted),
        figures.counted(counts.answered),
        figures.counted(counts.cut),
        figures.counted(counts.refused),
        figures.counted(unscored(one)),
        figures.counted(counts.barred),
        figures.counted(counts.failed),
        figures.counted(counts.missing),
        figures.quality(one.delivered),
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


def kind(say: Words, code: str) -> str:
    """What the code of an error means; one that is not known stands as it is."""
    words = {
        "upstream_timeout": say("no answer in time"),
        "upstream_rate_limited": say("too many requests"),
        "upstream_unavailable": say("not to be reached"),
        "upstream_bad_answer": say("not a whole answer"),
        "upstream_access_refused": say("key not taken"),
        "upstream_refused_request": say("request not taken"),
        "context_length_exceeded": say("too long for the model"),
        "permission_denied": say("the policy forbids it"),
        "budget_exceeded": say("the budget is used up"),
        "queue_full": say("too busy"),
    }
    return words.get(code, code)
