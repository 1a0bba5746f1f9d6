"""How a judge and people's labels look: sections for `compared`, in a comparison and in a report of labels
alike.

Not here: the figures (`evaluate.judges`, `evaluate.labels`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from daulat.cli.compared import Section, interval, money, score, signed
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.evaluate.judges.appointing import JudgeReport
    from daulat.evaluate.labels.book import Kind
    from daulat.evaluate.labels.correcting import Corrections
    from daulat.statistics.agreement import Agreement
    from daulat.statistics.prediction_powered import Corrected
    from daulat.statistics.samples import Estimate

FEW_LABELS: Final = 20
_STRONG_PULL: Final = 0.1


def judge(found: JudgeReport, currency: str) -> Section:
    """The judge's verdicts on pairs, with the pull of the position; of points, what became of the questions."""
    heads = (
        *(_("First"), _("Second"), _("Win rate"), _("95 % interval"), _("Wins"), _("Ties")),
        *(_("Losses"), _("Pull of the first place"), _("Turns with the order")),
    )
    rows = tuple(
        (
            *(pair.a, pair.b, score(pair.orders.rate.rate), interval(pair.orders.rate.rate)),
            *(str(pair.orders.rate.wins), str(pair.orders.rate.ties)),
            *(str(pair.orders.rate.losses), _with_interval(pair.orders.bias, sign=True)),
            _percent(pair.orders.inconsistent),
        )
        for pair in found.pairs
    )
    title = _("The judge {model}").format(model=found.model)
    return Section(title, heads, rows, tuple(range(2, 9)), tuple(_judge_remarks(found, currency)))


def _judge_remarks(found: JudgeReport, currency: str) -> Iterator[str]:
    ways = {
        "choice": _("by the probabilities of a letter that it is held to"),
        "logprobs": _("by the probabilities of a letter"),
        "json": _("in JSON"),
        "words": _("in the last line"),
    }
    verdicts = plural("{count} verdict", "{count} verdicts", found.verdicts)
    cost = "-" if found.money is None else f"{money(found.money)} {currency}"
    yield _("{verdicts}, told {way}; cost {cost}.").format(
        verdicts=verdicts, way=ways[found.way], cost=cost
    )
    if found.same:
        yield plural(
            "{count} pair of equal answers is a tie without asking.",
            "{count} pairs of equal answers are ties without asking.",
            found.same,
        )
    if found.unreadable:
        yield plural(
            "{count} reply has no verdict that can be read, and does not count:",
            "{count} replies have no verdict that can be read, and do not count:",
            found.unreadable,
        )
        yield from found.words
    if found.unanswered:
        yield plural(
            "{count} question has no reply.", "{count} questions have no reply.", found.unanswered
        )
    if found.mass is not None and found.mass < 0.5:
        yield _("Verdicts had {share} of the probability: it hardly sees what it is asked.").format(
            share=f"{found.mass:.0%}"
        )
    yield from _warnings(found)


def _warnings(found: JudgeReport) -> Iterator[str]:
    if found.related:
        yield _(
            "Warning: the judge is itself compared ({names}), and judges often prefer their own words. "
            "Take another "
            "judge, or let people label some answers."
        ).format(names=", ".join(found.related))
    for pair in found.pairs:
        pull = pair.orders.bias
        if pull.value is not None and abs(pull.value) > _STRONG_PULL and 0.0 not in pull:
            yield _(
                "Warning: {a} and {b}: the place decides much of its verdicts. Both orders cancel that, "
                "and leave less "
                "to go by."
            ).format(a=pair.a, b=pair.b)


def people(found: Corrections) -> Section:
    """What people's labels make of the scores."""
    heads = (
        *("", _("Figure"), _("People alone"), _("Judge alone"), _("Corrected"), _("Labels")),
        _("Worth"),
    )
    rows = (
        *((name, _("score"), *_figures(one, sign=False)) for name, one in found.means.items()),
        *(
            (f"{one.a} - {one.b}", _("difference"), *_figures(one.found, sign=True))
            for one in found.differences
        ),
        *(
            (f"{one.a} > {one.b}", _("win rate"), *_figures(one.found, sign=False))
            for one in found.win_rates
        ),
    )
    labels = plural("{count} label", "{count} labels", found.labels)
    title = _("Corrected by people: {labels} by {people}").format(
        labels=labels, people=", ".join(found.people) or "-"
    )
    return Section(title, heads, rows, (2, 3, 4, 5, 6), tuple(_people_remarks(found)))


def _figures(one: Corrected, *, sign: bool) -> tuple[str, ...]:
    worth = "-" if one.worth is None else f"{one.worth:.0f}"
    parts = (one.labels_only, one.judge_only, one.estimate)
    return (*(_with_interval(part, sign=sign) for part in parts), str(one.estimate.n), worth)


def _people_remarks(found: Corrections) -> Iterator[str]:
    if found.labels:
        yield _("Worth: so many labels alone would tell as much.")
    yield from _agreements(_("Judge and people"), found.judge)
    yield from _agreements(_("People among themselves"), found.among)
    if found.stale:
        yield plural(
            "{count} label is of an answer that has changed since, and does not count.",
            "{count} labels are of answers that have changed since, and do not count.",
            found.stale,
        )
    if found.untold:
        yield plural(
            "{count} time somebody could not tell: it counts as if others had labelled it.",
            "{count} times somebody could not tell: these count as if others had labelled them.",
            found.untold,
        )
    if found.labels < FEW_LABELS:
        yield _("With so few labels the intervals are a guess: give 50 or more.")


def _agreements(who: str, found: Mapping[Kind, Agreement]) -> Iterator[str]:
    for kind, one in found.items():
        what = _("which is better") if kind == "pairwise" else _("points")
        parts = [_("Krippendorff's alpha {value}").format(value=_with_interval(one.alpha))]
        if one.kappa is not None:
            parts.append(_("Cohen's kappa {value}").format(value=_with_interval(one.kappa)))
        if one.share is not None and kind == "pairwise":
            parts.append(_("{share} the same").format(share=f"{one.share:.0%}"))
        yield f"{who}, {what}: {', '.join(parts)}."


def _with_interval(found: Estimate, *, sign: bool = False) -> str:
    if found.value is None:
        return "-"
    return f"{(signed if sign else score)(found)} {interval(found)}"


def _percent(found: Estimate) -> str:
    return "-" if found.value is None else f"{found.value:.0%}"
