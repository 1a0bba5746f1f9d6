"""Metrics: what an answer is worth, from 0 to 1. A table: a name, and how a scorer is made of its options.

A scorer takes an example and an answer and gives a `Score`, at once or awaited: a metric that has to ask
somebody (a judge) awaits. docs/compare.md says for users what each one does; its module says it exactly.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Mapping
from typing import Final

from daulat.errors import RequestError
from daulat.evaluate.examples import Chosen, Example
from daulat.evaluate.metrics import choices, code, fields, judged, numbers, own, texts
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools

__all__ = ["METRICS", "Metric", "Option", "Score", "Scorer", "Tools", "metric", "scored", "scorer"]

METRICS: Final[Mapping[str, Metric]] = {
    one.name: one
    for one in (
        *(*texts.METRICS, choices.CHOICE, numbers.NUMBER, fields.JSON, code.TESTS),
        *judged.METRICS,
    )
}


def metric(name: str) -> Metric:
    """The metric of that name; `FILE.py:FUNCTION` is a function of the user's.

    Raises:
        RequestError: there is none.
    """
    if name in METRICS:
        return METRICS[name]
    if own.is_named(name):
        return own.metric(name)
    near = difflib.get_close_matches(name, METRICS, 1)
    hint = (
        f"Did you mean {near[0]!r}?"
        if near
        else f"There are: {', '.join(METRICS)}, FILE.py:FUNCTION."
    )
    raise RequestError(f"There is no metric {name[:80]!r}. {hint}", param="metric")


def scorer(chosen: Chosen, tools: Tools | None = None) -> Scorer:
    """What scores the answers of a task.

    Raises:
        RequestError: there is no such metric, or it has no such option.
    """
    found = metric(chosen.name)
    for name, value in chosen.options.items():
        option = found.options.get(name)
        if option is None:
            there = ", ".join(found.options) or "none"
            raise RequestError(
                f"The metric {found.name} has no option {name[:80]!r}. It has: {there}.",
                param="option",
            )
        if option.choices and value not in option.choices:
            raise RequestError(
                f"The option {name} of the metric {found.name} is one of {', '.join(option.choices)}, not "
                f"{value[:80]!r}.",
                param="option",
            )
    options = {name: option.default for name, option in found.options.items()}
    return found.make({**options, **chosen.options}, tools or Tools())


async def scored(judge: Scorer, example: Example, answer: str) -> Score:
    """The score of one answer, waited for where it has to be.

    Raises:
        DaulatError: the metric cannot judge this example; the message says why.
    """
    found = judge(example, answer)
    return await found if inspect.isawaitable(found) else found


@functools.cache
def names() -> tuple[str, ...]:
    """Of all metrics that have one."""
    return tuple(METRICS)
