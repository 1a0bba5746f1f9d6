"""A comparison with what a judge says of its answers, and people of some of them.

Not here: asking the judge (`conducting`, `judges`), asking people and the estimates (`labels`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from daulat.evaluate.comparing import Comparison, Table, outcomes
from daulat.evaluate.conducting import Verdicts
from daulat.evaluate.judges.rounds import NO_VERDICTS, Judged
from daulat.evaluate.labels.book import Labels
from daulat.evaluate.labels.correcting import Corrections, corrected


def by_people(folder: Path, table: Table, judged: Judged | None = None) -> Corrections | None:
    """A comparison's scores corrected by what people said of these answers; None: nobody did.

    Raises:
        DataError: the file of labels is damaged.
    """
    labels = Labels(folder).all()
    if not labels:
        return None
    found = outcomes(table)
    kept = np.isin([example.id for example in table.examples], found.ids)
    preferred = (judged or NO_VERDICTS).preferences()
    told = corrected(found, labels, {pair: values[kept] for pair, values in preferred.items()})
    return told if told.people.labels or told.people.stale else None


def heard(
    comparison: Comparison, verdicts: Verdicts | None, people: Corrections | None
) -> Comparison:
    """The comparison with what a judge and people say of its endpoints."""
    if verdicts is not None:
        pairs = (
            replace(one, judged=verdicts.orders.get((one.a, one.b))) for one in comparison.pairs
        )
        comparison = replace(
            comparison,
            judge=verdicts.report.model,
            judging=verdicts.report,
            strengths=verdicts.strengths,
            pairs=tuple(pairs),
        )
    return comparison if people is None else _corrected(comparison, people)


def _corrected(comparison: Comparison, people: Corrections) -> Comparison:
    differences = {(one.a, one.b): one.found for one in people.differences}
    rates = {(one.a, one.b): one.found for one in people.win_rates}
    sides = (replace(one, corrected=people.means.get(one.name)) for one in comparison.endpoints)
    pairs = (
        replace(
            one,
            corrected=differences.get((one.a, one.b)),
            preferred=rates.get((one.a, one.b)),
        )
        for one in comparison.pairs
    )
    return replace(comparison, people=people.people, endpoints=tuple(sides), pairs=tuple(pairs))
