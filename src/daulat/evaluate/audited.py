"""How often what a rule would have answered agrees with the closed model, as far as audits tell.

A request under a certificate is audited by the toss of a coin of known chance: the open answer that was kept
is held against the closed model's. So audited answers are a random sample of those that were kept, each to be
weighted by the inverse of its chance; what the closed model answers agrees with it by definition. Audits say
nothing of open answers that were not kept: a rule that would keep such is not judged. Not here: audits
(`flow.audits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daulat.evaluate.traffic import Past
from daulat.route.learning.outcomes import FloatArray
from daulat.statistics.intervals import score
from daulat.statistics.ratios import ratio
from daulat.statistics.samples import Estimate

BY_DEFINITION: Final = "by definition"
"""The method where only the closed model answers."""
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Agreement:
    """Attributes:
    estimate: the share of answers that agree; None: not known.
    audits: so many it stands on; exchanges: so many it is about, those under certificates with audits.
    unknown: exchanges among them whose answer by the rule no audit can have looked at.
    """

    estimate: Estimate | None
    audits: int
    exchanges: int
    unknown: int


def audited(pasts: Sequence[Past]) -> frozenset[str]:
    """The certificates of which audits tell something."""
    return frozenset(
        past.ruled.certificate
        for past in pasts
        if past.ruled is not None and past.audit is not None and past.audit.loss is not None
    )


def agreement(pasts: Sequence[Past], opens: FloatArray, closeds: FloatArray) -> Agreement:
    """What audits say of a rule.

    Args:
        opens, closeds: float64 [n]: with which probability the rule gives the answer of the open and of the
            closed model of the certificate that an exchange was under.
    """
    told = audited(pasts)
    rows = [i for i, past in enumerate(pasts) if past.ruled and past.ruled.certificate in told]
    kept = [i for i in rows if opens[i] > 0]
    elsewhere = opens + closeds < 1 - _ROUNDING
    unknown = sum(1 for i in rows if elsewhere[i] or (opens[i] > 0 and not _could_be(pasts[i])))
    looked = [i for i in kept if _loss(pasts[i]) is not None]
    if unknown or not rows or (kept and not looked):
        return Agreement(None, len(looked), len(rows), unknown)
    estimate = _weighted([pasts[i] for i in looked], opens[looked])
    return Agreement(_over(estimate, len(kept), len(rows)), len(looked), len(rows), 0)


def _could_be(past: Past) -> bool:
    """Whether an audit can have held its open answer against the closed one."""
    return past.ruled is not None and past.ruled.way == "kept" and past.ruled.answered


def _loss(past: Past) -> float | None:
    return past.audit.loss if past.audit is not None and _could_be(past) else None


def _weighted(pasts: Sequence[Past], opens: FloatArray) -> Estimate:
    """The mean over all that could be audited, from those that were (Hájek's estimator)."""
    losses = np.array([_loss(past) for past in pasts], np.float64)
    weights = np.array([1 / past.audit.share for past in pasts if past.audit], np.float64)
    values, clusters = 1 - opens * losses, [past.cluster for past in pasts]
    if not len(weights) or weights.min() == weights.max():
        # Equal weights cancel, and the interval of a plain mean keeps to its range.
        return score(values, clusters=clusters)
    found = ratio(weights * values, weights, clusters=clusters)
    return replace(found, low=min(found.low, 1.0), high=min(found.high, 1.0))


def _over(kept: Estimate, part: int, whole: int) -> Estimate:
    """With the answers of the closed model, which agree."""
    if not part:
        return replace(kept, value=1.0, low=1.0, high=1.0, method=BY_DEFINITION)
    share = part / whole
    value, low, high = (1 - share * (1 - (one or 0.0)) for one in (kept.value, kept.low, kept.high))
    error = None if kept.error is None else kept.error * share
    return replace(kept, value=value, low=low, high=high, error=error)
