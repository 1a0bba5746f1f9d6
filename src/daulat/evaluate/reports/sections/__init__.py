"""The sections of a report: what was found, as tables, charts and sentences.

`quality` mean scores, `pairs` differences, `judging` judge and people, `slices` parts of the examples, `costs`
money, tokens and times, `losses` answers that did not come, `cases` examples side by side, `closing` method
and settings. Not here: the answer itself (`telling`), what forms make of it.
"""

from __future__ import annotations

from daulat.evaluate.comparing import Comparison
from daulat.evaluate.reports.cautions import cautions
from daulat.evaluate.reports.cleaning import cleaned
from daulat.evaluate.reports.figures import Figures, Tone
from daulat.evaluate.reports.orienting import oriented
from daulat.evaluate.reports.page import Page, Section
from daulat.evaluate.reports.sections.cases import cases
from daulat.evaluate.reports.sections.closing import method, settings, time
from daulat.evaluate.reports.sections.costs import costs, times
from daulat.evaluate.reports.sections.judging import judge, people
from daulat.evaluate.reports.sections.losses import losses
from daulat.evaluate.reports.sections.pairs import advice, pairs
from daulat.evaluate.reports.sections.quality import quality
from daulat.evaluate.reports.sections.slices import slices
from daulat.evaluate.reports.telling import Teller
from daulat.evaluate.reports.verdict import Standing, verdict
from daulat.evaluate.reports.words import Words

_CLEAR = (Standing.AS_GOOD, Standing.BETTER, Standing.WORSE, Standing.NOT_WORSE)


def build(comparison: Comparison, language: str) -> Page:
    """The report's page in a language.

    Raises:
        FileNotFoundError: there is no such language.
    """
    say = Words(language)
    harmless = cleaned(comparison)
    found = verdict(harmless)
    if found.gap:
        harmless = oriented(harmless, found.gap.a, found.gap.b)
    teller = Teller(harmless, found, say, Figures(say))
    told: list[Section | None] = [
        quality(teller),
        pairs(teller),
        judge(teller),
        people(teller),
        costs(teller),
        times(teller),
        *slices(teller),
        losses(teller),
        advice(teller),
    ]
    tone: Tone = "good" if teller.verdict.standing in _CLEAR else "quiet"
    return Page(
        comparison=harmless,
        language=language,
        title=say("Comparison: {task}", task=harmless.about.task),
        about=_about(teller),
        answer=teller.answer(),
        tone=tone,
        basis=teller.basis(),
        cautions=cautions(teller),
        sections=tuple(one for one in told if one is not None),
        cases_title=say("Where they differ most"),
        cases=cases(teller),
        closing=(method(teller), settings(teller)),
    )


def _about(teller: Teller) -> tuple[str, ...]:
    comparison, say = teller.comparison, teller.say
    return (
        say.several([one.name for one in comparison.endpoints][:12]),
        say.plural("{count} example", "{count} examples", comparison.examples),
        time(comparison.about.created),
    )
