"""What a reader must know before using the answer of a report: losses, doubts, judges, prices.

Not here: the answer itself (`telling`).
"""

from __future__ import annotations

from typing import Final

from daulat.evaluate.comparing import Side
from daulat.evaluate.reports.telling import Teller, margin
from daulat.evaluate.reports.verdict import Standing
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Caveat

_OFTEN: Final = 0.05
"""Refusals and cut answers above this share are told at the top."""
_STRONG_PULL: Final = 0.1
"""Of the place, beyond one half."""
_MOST_PULLED: Final = 3


def cautions(teller: Teller) -> tuple[str, ...]:
    """What a reader must know before using the answer, most important first."""
    found = [
        *_stopped(teller),
        *_lost(teller),
        *_behaviour(teller),
        *_certain_and_small(teller),
        *_doubts(teller),
        *_judges(teller),
        *_costs(teller),
    ]
    return tuple(found)


def _stopped(teller: Teller) -> list[str]:
    about, say = teller.comparison.about, teller.say
    if about.ended == "done":
        return []
    reasons = {
        "budget": say("the budget was used up"),
        "failing": say("too many requests failed one after the other"),
        "stopped": say("it was stopped"),
    }
    told = say("Not everything was asked: {reason}.", reason=reasons.get(about.ended, about.ended))
    return [f"{told} {about.why}".strip()]


def _lost(teller: Teller) -> list[str]:
    """Examples without an answer, and what they would change."""
    say, found = teller.say, list[str]()
    for one in teller.comparison.endpoints:
        counts = one.counts
        lost = counts.barred + counts.failed + counts.missing
        if lost:
            found.append(
                say.plural(
                    "{name}: {count} of {asked} examples has no answer and is left out.",
                    "{name}: {count} of {asked} examples have no answer and are left out.",
                    lost,
                    name=one.name,
                    asked=teller.figures.number(counts.wanted),
                )
                + _why(teller, one)
                + _delivered(teller, one)
            )
        if unscored(one):
            found.append(
                say.plural(
                    "{name}: {count} answer could not be scored and is left out.",
                    "{name}: {count} answers could not be scored and are left out.",
                    unscored(one),
                    name=one.name,
                )
            )
    return found


def _why(teller: Teller, one: Side) -> str:
    """What most failures were."""
    found = max(one.errors.items(), key=lambda error: error[1], default=None)
    if found is None or not found[1]:
        return ""
    code, count = found
    return " " + teller.say(
        "Most often: {kind} ({count}).",
        kind=kind(teller.say, code),
        count=teller.figures.number(count),
    )


def _delivered(teller: Teller, one: Side) -> str:
    if one.delivered is None or not one.counts.barred + one.counts.failed:
        return ""
    told = str(teller.figures.quality(one.delivered))
    return " " + teller.say("If failures count as wrong, its mean score is {score}.", score=told)


def unscored(one: Side) -> int:
    """Answers that the metric could not judge."""
    if one.score is None:
        return 0
    return max(0, one.counts.answered + one.counts.refused - one.score.n)


def _behaviour(teller: Teller) -> list[str]:
    """Refusals and cut answers, where there are many."""
    found: list[str] = []
    for one in teller.comparison.endpoints:
        given = one.counts.answered + one.counts.refused
        if given and one.counts.refused / given >= _OFTEN:
            share = teller.figures.percent(one.counts.refused / given)
            found.append(
                teller.say(
                    "{name} refused to answer {share} of the time.", name=one.name, share=share
                )
            )
        if given and one.counts.cut / given >= _OFTEN:
            share = teller.figures.percent(one.counts.cut / given)
            found.append(
                teller.say(
                    "{name}: {share} of the answers were cut off at the limit of tokens; a higher "
                    "--max-tokens may raise its score.",
                    name=one.name,
                    share=share,
                )
            )
    return found


def _certain_and_small(teller: Teller) -> list[str]:
    gap = teller.verdict.gap
    if gap is None or teller.verdict.standing is not Standing.AS_GOOD or 0.0 in gap.apart:
        return []
    ahead, behind = (gap.a, gap.b) if gap.apart.low > 0 else (gap.b, gap.a)
    return [
        teller.say(
            "{ahead} is ahead of {behind} at {level} confidence, but by less than the {points} "
            "points that matter.",
            level=teller.figures.percent(teller.comparison.confidence, 0),
            ahead=ahead,
            behind=behind,
            points=margin(teller),
        )
    ]


def _doubts(teller: Teller) -> list[str]:
    """Why the interval of the answer says less than usual."""
    gap = teller.verdict.gap
    if gap is None or teller.verdict.standing is Standing.TOO_FEW:
        return []
    words = caveat(teller.say, gap.apart.caveat)
    return [teller.say("Take it with care: {reason}.", reason=words)] if words else []


def _judges(teller: Teller) -> list[str]:
    comparison, say = teller.comparison, teller.say
    if not comparison.judge:
        return []
    found: list[str] = []
    if not any(one.corrected for one in comparison.endpoints) and not any(
        one.corrected or one.preferred for one in comparison.pairs
    ):
        found.append(
            say(
                "The scores are those of a judge ({judge}) that nobody has checked: a few labels "
                "of people, by the command daulat label, correct them.",
                judge=comparison.judge,
            )
        )
    own = {one.name for one in comparison.endpoints if one.name == comparison.judge}
    if own or (comparison.judging and comparison.judging.related):
        found.append(
            say("{judge} judges its own answers, too: judges favour them.", judge=comparison.judge)
        )
    return [*found, *_unread(teller), *_pulled(teller)]


def _unread(teller: Teller) -> list[str]:
    """Questions to the judge that have no verdict."""
    told, say = teller.comparison.judging, teller.say
    if told is None:
        return []
    found: list[str] = []
    if told.unreadable:
        found.append(
            say.plural(
                "{count} reply of the judge has no verdict that can be read: what it was asked about is "
                "left out, which may favour one side.",
                "{count} replies of the judge have no verdict that can be read: what they were asked about "
                "is left out, which may favour one side.",
                told.unreadable,
            )
        )
    if told.unanswered:
        found.append(
            say.plural(
                "{count} question to the judge has no reply: it is left out. The same command asks it again.",
                "{count} questions to the judge have no reply: they are left out. The same command asks "
                "them again.",
                told.unanswered,
            )
        )
    return found


def _pulled(teller: Teller) -> list[str]:
    """Pairs of which the judge prefers the place more than the answer."""
    return [
        teller.say(
            "{a} and {b}: the place decides much of the judge's verdicts. Both orders cancel that, and leave "
            "less to go by.",
            a=pair.a,
            b=pair.b,
        )
        for pair in teller.comparison.pairs
        if pair.judged is not None
        and (pull := pair.judged.bias).value is not None
        and abs(pull.value) > _STRONG_PULL
        and not pull.low <= 0 <= pull.high
    ][:_MOST_PULLED]


def _costs(teller: Teller) -> list[str]:
    say, results = teller.say, teller.comparison.endpoints
    found: list[str] = []
    unknown = tuple(one.name for one in results if one.cost is None or one.cost.value is None)
    if unknown and len(unknown) < len(results):
        found.append(say("No price is known of {names}.", names=say.several(unknown)))
    free = tuple(
        one.name for one in results if one.cost is not None and one.cost.value == 0 and one.open
    )
    if free:
        found.append(
            say(
                "{names}: prices are per answer; the machine that it runs on is not counted.",
                names=say.several(free),
            )
        )
    return found


def caveat(say: Words, why: Caveat) -> str:
    """Why a figure says less than usual, in words; empty: it does not."""
    words = {
        Caveat.EMPTY: say("there are no examples"),
        Caveat.SINGLE: say("there is one example only"),
        Caveat.ONE_CLUSTER: say("all examples are of one document or session"),
        Caveat.CONSTANT: say("all values are equal"),
        Caveat.FEW_CLUSTERS: say("documents or sessions are few, or a few outweigh the others"),
        Caveat.FEW_DIFFER: say("the two differ on few examples"),
        Caveat.NOTHING_GOOD: say("no answer was good"),
        Caveat.UNBOUNDED: say("there are too few examples to bound it"),
        Caveat.NO_LABELS: say("people gave no labels"),
        Caveat.FEW_LABELS: say("people gave few labels"),
        Caveat.SEPARATED: say("some never lose to some others"),
    }
    return words.get(why, "")


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
