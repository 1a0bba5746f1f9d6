"""The learnt routers, as `certifying` wants them: gains of two endpoints, and thresholds to test.

Not here: the routers (`route.learning`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from daulat.errors import RequestError
from daulat.evaluate.certifying import Fit
from daulat.route.certificate import Mode
from daulat.route.learning.features import Encode, Seen, extract, seen_in
from daulat.route.learning.fitting import Tell, fit
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.router import Router, encoding


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A fitted router of an open and a closed endpoint.

    Attributes:
        router: its first endpoint is the open one.
        encode: makes vectors, for a router that needs them.
    """

    router: Router
    encode: Encode | None = None

    @property
    def mode(self) -> Mode:
        """Whether it sees the open endpoint's answer."""
        return self.router.mode

    def digest(self) -> str:
        """The router's."""
        return self.router.digest()

    def gains(self, outcomes: Outcomes) -> FloatArray:
        """float64 [n]: what a unit of price must be worth for the open endpoint to be chosen."""
        seen = seen_in(outcomes, self.router.endpoints[0])
        features = extract(seen, self.mode, encoding(self.router, self.encode))
        return self.router.steps(features).needs()

    def stops(self) -> FloatArray:
        """float64 [m]: the settings of the dial, which are quantiles of gains out of fold."""
        return np.unique(self.router.dial)


def gain(
    router: Router,
    prompt: str,
    answer: str | None,
    logprob: float | None,
    encode: Encode | None = None,
) -> float:
    """Of one request, as `Learnt.gains` has it.

    Raises:
        RequestError: the router needs an answer or vectors, and there are none.
    """
    if router.mode == "cascade" and answer is None:
        raise RequestError(
            f"This router decides after {router.endpoints[0]} has answered: give it that answer.",
            param="answer",
        )
    seen = Seen(prompt, answer=answer, logprob=math.nan if logprob is None else logprob)
    features = extract([seen], router.mode, encoding(router, encode))
    return float(router.steps(features).needs()[0])


def fitter(
    mode: Mode,
    encode: Encode | None = None,
    encoder: str = "",
    tell: Tell = lambda _what, _done, _total: None,
) -> Fit:
    """Fits such routers."""

    def fitted(outcomes: Outcomes, seed: int) -> Learnt:
        router = fit(
            outcomes,
            mode,
            endpoints=outcomes.endpoints,
            seed=seed,
            encode=encode,
            encoder=encoder,
            tell=tell,
        )
        return Learnt(router, encode)

    return fitted
