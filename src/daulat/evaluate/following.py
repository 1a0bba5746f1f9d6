"""A certificate as a rule that a backtest replays, and the examples that had no say in it.

Not here: rules and their replay (`route.learning`), serving under a certificate (`standing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daulat.evaluate.routers import Learnt
from daulat.evaluate.splitting import split
from daulat.route.certificate import Certificate
from daulat.route.learning.features import Encode
from daulat.route.learning.outcomes import Outcomes
from daulat.route.learning.router import Router
from daulat.route.learning.rules import Played, answered


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A certificate's router at its threshold. See `route.learning.rules.Rule`."""

    certificate: Certificate
    router: Router
    encode: Encode | None = None

    @property
    def name(self) -> str:
        """For a table."""
        return f"certificate {self.certificate.name}"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """See `Rule`."""
        return (self.certificate.open.endpoint, self.certificate.closed.endpoint)

    @property
    def needs(self) -> frozenset[str]:
        """See `Rule`."""
        return frozenset(self.router.given)

    def play(self, outcomes: Outcomes) -> Played:
        """See `Rule`."""
        first, second = (outcomes.column(name) for name in self.endpoints)
        closed = Learnt(self.router, self.encode).gains(outcomes) >= self.certificate.threshold
        answers = np.zeros((len(outcomes), len(outcomes.endpoints)))
        answers[np.arange(len(outcomes)), np.where(closed, second, first)] = 1.0
        asks, seen = answers.copy(), np.ones(len(outcomes), bool)
        if self.certificate.mode == "cascade":
            asks[:, first] = 1.0
            seen = answered(outcomes, self.endpoints[0])
        return Played(answers, asks, seen)


def not_used(outcomes: Outcomes, certificate: Certificate) -> Outcomes:
    """The examples that it was neither fitted nor calibrated on; of other outcomes than its own, all of them.

    Raises:
        NotFoundError: the outcomes lack one of its endpoints.
    """
    pair = outcomes.only((certificate.open.endpoint, certificate.closed.endpoint))
    if pair.digest() != certificate.data_digest:
        return outcomes
    labels = certificate.train + certificate.calibrate
    parts = split(pair, seed=certificate.seed, labels=labels)
    return outcomes.take(np.sort(np.concatenate([parts.audit, parts.unscored])))
