"""Examples on which two endpoints differ most, with their answers side by side."""

from __future__ import annotations

from daulat.evaluate.comparing import Contrast
from daulat.evaluate.reports.figures import Tone
from daulat.evaluate.reports.page import Case, Reply
from daulat.evaluate.reports.telling import Teller


def cases(teller: Teller) -> tuple[Case, ...]:
    """In the order of the comparison."""
    return tuple(_case(teller, one) for one in teller.comparison.contrasts)


def _case(teller: Teller, one: Contrast) -> Case:
    replies = tuple(_reply(teller, one, place) for place in (0, 1))
    title = teller.say("Example {id}", id=one.example)
    return Case(title, one.prompt, one.references, replies)


def _reply(teller: Teller, one: Contrast, place: int) -> Reply:
    score = one.scores[place]
    facts = (
        teller.say("score {score}", score=teller.figures.percent(score, 0)),
        one.details[place],
    )
    tone: Tone = "good" if score > one.scores[1 - place] else "bad"
    name = (one.a, one.b)[place]
    return Reply(name, tuple(fact for fact in facts if fact), one.answers[place], tone)
