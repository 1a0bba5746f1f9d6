"""The learnt routers, as `certifying` wants them: gains of two endpoints, and thresholds to test.

A router may give one gain to many requests: it knows little of them, or only their category. A hash of the
prompt then says which comes first, so that a threshold can part them; the same prompt always goes the same way.
Not here: the routers (`route.learning`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daulat.errors import RequestError
from daulat.evaluate.certifying import Fit
from daulat.route.certificate import Mode
from daulat.route.learning.features import Encode, Features, Seen, extract, seen_in
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
        return _gains(self.router, seen_in(outcomes, self.router.endpoints[0]), self.encode)

    def stops(self) -> FloatArray:
        """float64 [m]: the settings of the dial, which are quantiles of gains out of fold; rising."""
        return np.unique(self.router.dial)


def opinion(router: Router, seen: Seen, encode: Encode | None = None) -> tuple[float, float]:
    """Of one request: its gain, as `Learnt.gains` has it, and what the closed endpoint may score more.

    Raises:
        RequestError: the router needs an answer or vectors, and there are none.
    """
    if router.mode == "cascade" and seen.answer is None:
        raise RequestError(
            f"This router decides after {router.endpoints[0]} has answered: give it that answer.",
            param="answer",
        )
    features = extract([seen], router.mode, encoding(router, encode))
    open_, closed = router.expected(features)[0].tolist()
    return float(gains_of(router, features, [seen.prompt])[0]), closed - open_


def _gains(router: Router, seen: Sequence[Seen], encode: Encode | None) -> FloatArray:
    features = extract(seen, router.mode, encoding(router, encode))
    return gains_of(router, features, [one.prompt for one in seen])


def gains_of(router: Router, features: Features, prompts: Sequence[str]) -> FloatArray:
    """float64 [n]: as `Learnt.gains`, where what is known of the examples has been extracted."""
    lots = np.array([_lot(prompt) for prompt in prompts], np.float64)
    return router.steps(features).needs() + _apart(router) * lots


def _apart(router: Router) -> float:
    """How far apart a lot can move two equal gains: less than gains that differ at all mostly do."""
    return 2.0**-30 * (float(np.abs(router.dial).max()) or 1.0)


def _lot(prompt: str) -> float:
    """In [0, 1), as if drawn at random, and always the same for one prompt."""
    drawn = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:6]
    return int.from_bytes(drawn, "big") / 2.0**48


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
