"""From outcomes to a certificate: split, fit a router, test its thresholds, measure what the chosen one does.

The statement, quality kept with a confidence, rests on the calibration examples alone and holds at every sample
size. What is measured besides comes from examples that had no say in the choice, where there are enough of
them; a share of requests that is measured on the calibration examples has a band that holds for all thresholds
at once, so that the choice does not matter. Not here: how a router is fitted (`route.learning`), how thresholds
are tested (`thresholds`), signing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import numpy as np

from daulat import __version__
from daulat.errors import DataError, RequestError
from daulat.evaluate.forecasting import Forecast, forecast
from daulat.evaluate.splitting import AUDIT, IntArray, Split, split
from daulat.evaluate.thresholds import ALL_CLOSED, BoolArray, Pairs, Verdict, certify, thresholds
from daulat.route.certificate import VERSION, Certificate, Identity, Measured, Mode
from daulat.route.learning.agreeing import agree
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.statistics.bounds import band
from daulat.statistics.intervals import proportion, score
from daulat.statistics.ratios import ratio
from daulat.statistics.samples import Estimate

_AGAINST_BAND: Final = 0.52
"""What share of all had no say in the choice, for these alone to give the narrower interval."""
_ENOUGH: Final = 30
"""Examples of an audit that are worth an interval."""


class Router(Protocol):
    """What was fitted: it tells what the closed endpoint's answer would gain."""

    @property
    def mode(self) -> Mode:
        """Whether it sees the open endpoint's answer."""
        ...

    def digest(self) -> str:
        """Of all that it is made of."""
        ...

    def gains(self, outcomes: Outcomes) -> FloatArray:
        """float64 [n]: of outcomes of the open and the closed endpoint, in this order, but for their scores."""
        ...

    def stops(self) -> FloatArray:
        """float64 [m]: quantiles of the gains of examples that it was not fitted on, as far as it can tell."""
        ...


Fit = Callable[[Outcomes, int], Router]
"""A router from the outcomes of the open and the closed endpoint, in this order, and a seed."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for.

    Attributes:
        open, closed: endpoints of the outcomes.
        keep: of the closed endpoint's quality, in (0, 1].
        confidence: in [0.5, 1).
        labels: most scored examples to train and to calibrate on; None: all but the audit's.
        audit: the share of the scored examples that audits, where `labels` is None; in [0, 0.5].
        seed: of all that is drawn.
    """

    open: str
    closed: str
    keep: float = 0.95
    confidence: float = 0.95
    labels: int | None = None
    audit: float = AUDIT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.open == self.closed:
            raise RequestError(
                "The open and the closed endpoint are two: name both (--open, --closed)."
            )
        if not 0 < self.keep <= 1:
            raise RequestError(
                f"--keep is a share between 0 and 1, such as 0.95, and not {self.keep:g}."
            )
        if not 0.5 <= self.confidence <= 0.9999:
            raise RequestError(
                f"--confidence lies between 0.5 and 0.9999, such as 0.95; {self.confidence:g} does not."
            )
        if self.labels is not None and self.labels < 1:
            raise RequestError("--labels is a number of examples.")
        if not 0 <= self.audit <= 0.5:
            raise RequestError(f"--audit is a share between 0 and 0.5, and not {self.audit:g}.")
        if not 0 <= self.seed < 2**63:
            raise RequestError("--seed is a whole number that is not negative.")


@dataclass(frozen=True, slots=True)
class Window:
    """Where outcomes come from.

    Attributes:
        name: what the certificate is to be called; `task`: the task or file.
        task_digest: empty: it is a file.
        identities: of endpoints, by name, where they are known.
        temperature: at which they were asked; None: not known.
    """

    name: str
    task: str
    task_digest: str = ""
    identities: tuple[Identity, ...] = ()
    temperature: float | None = None

    def identity(self, endpoint: str) -> Identity:
        """The endpoint's."""
        known = {one.endpoint: one for one in self.identities}
        return known.get(endpoint, Identity(endpoint))


@dataclass(frozen=True, slots=True, eq=False)
class Certified:
    """What came of it.

    Attributes:
        certificate: None: no threshold that leaves anything open was shown to keep enough.
        router: what was fitted.
        verdict: of the tests.
        forecast: what more labels would do.
        labels: scored examples that were used to train and to calibrate.
        open_quality, closed_quality: the mean scores of each alone, on the calibration examples.
    """

    certificate: Certificate | None
    router: Router
    verdict: Verdict
    forecast: Forecast
    labels: int
    open_quality: float
    closed_quality: float


def make(outcomes: Outcomes, demand: Demand, fit: Fit, window: Window) -> Certified:
    """Certify, or say what could be.

    Raises:
        NotFoundError: the outcomes have no such endpoint.
        DataError: too few scored examples, or the closed endpoint was never right.
    """
    pair = outcomes.only((demand.open, demand.closed))
    parts = split(pair, seed=demand.seed, labels=demand.labels, audit=demand.audit)
    router = fit(pair.with_whole_probes().take(parts.train), demand.seed)
    gains = _gains(router, pair)
    train, calibrate = (_pairs(pair, gains, rows, parts) for rows in (parts.train, parts.calibrate))
    if not calibrate.closed.any():
        raise DataError(
            f"{demand.closed} was never right, so there is no quality of it to keep. Look at the metric, or "
            "exchange --open and --closed."
        )
    # An example without an open answer has a gain unlike all others in a cascade, so only scored ones count.
    others = np.concatenate([parts.train, parts.audit])
    tested = thresholds(router.stops(), gains[others])
    verdict = certify(train, calibrate, tested, demand.keep, demand.confidence, demand.seed)
    told = forecast(train, calibrate, verdict, demand.keep, demand.confidence, demand.seed)
    worth = verdict.threshold > ALL_CLOSED and calibrate.closed_share(verdict.threshold) < 1
    certificate = (
        _certificate(pair, demand, window, router, gains, parts, verdict) if worth else None
    )
    return Certified(
        certificate,
        router,
        verdict,
        told,
        len(train) + len(calibrate),
        float(calibrate.open.mean()),
        float(calibrate.closed.mean()),
    )


def _gains(router: Router, pair: Outcomes) -> FloatArray:
    gains = np.asarray(router.gains(pair), np.float64)
    if gains.shape != (len(pair),) or not np.isfinite(gains).all():
        raise DataError("The router gives no finite gain to some examples. Fit it again.")
    return gains


def _pairs(pair: Outcomes, gains: FloatArray, rows: IntArray, parts: Split) -> Pairs:
    groups = None
    if parts.clustered:
        names = _names(pair, rows)
        codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
        groups = np.array([codes[name] for name in names], np.int64)
    scores = pair.scores[rows]
    return Pairs(gains[rows], scores[:, 0], scores[:, 1], groups, parts.largest)


def _certificate(
    pair: Outcomes,
    demand: Demand,
    window: Window,
    router: Router,
    gains: FloatArray,
    parts: Split,
    verdict: Verdict,
) -> Certificate:
    closed = gains >= verdict.threshold
    return Certificate(
        version=VERSION,
        name=window.name,
        task=window.task,
        task_digest=window.task_digest,
        data_digest=pair.digest(),
        router=router.digest(),
        mode=router.mode,
        open=window.identity(demand.open),
        closed=window.identity(demand.closed),
        threshold=verdict.threshold,
        keep=demand.keep,
        confidence=demand.confidence,
        kept=_kept(pair, closed, parts),
        closed_share=_closed_share(pair, closed, parts, router.mode),
        saved=_saved(pair, closed, parts, router.mode),
        differ=_differ(pair, closed, parts),
        temperature=window.temperature,
        train=len(parts.train),
        calibrate=len(parts.calibrate),
        audit=len(parts.audit),
        set_aside=parts.repeated + len(parts.unscored),
        method=f"{verdict.method}, fixed sequence",
        tested=min(verdict.shown + 1, len(verdict.tested)),
        seed=demand.seed,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        program=__version__,
    )


# --- what is measured --------------------------------------------------------------------------------------


def _kept(pair: Outcomes, closed: BoolArray, parts: Split) -> Measured:
    rows, where = _audited(parts)
    scores = pair.scores[rows]
    routed = np.where(closed[rows], scores[:, 1], scores[:, 0])
    found = ratio(routed, scores[:, 1], clusters=_clusters(pair, rows, parts))
    return _measured(found, f"{found.method}, {where}")


def _closed_share(pair: Outcomes, closed: BoolArray, parts: Split, mode: Mode) -> Measured:
    unscored: list[int] = parts.unscored.tolist()
    # Where the router looks at the open answer, an example without one says nothing.
    told = [row for row in unscored if mode == "before" or pair.answers[row][0] is not None]
    apart = np.concatenate([parts.audit, np.array(told, np.int64)])
    every = np.concatenate([parts.calibrate, apart])
    if parts.clustered:
        found = score(closed[every].astype(np.float64), clusters=_clusters(pair, every, parts))
        return _measured(found, f"{found.method}, calibration and audit")
    if len(apart) >= _AGAINST_BAND * len(every):
        found = proportion(int(closed[apart].sum()), len(apart), exact=True)
        return _measured(found, f"{found.method}, audit")
    share, wide = float(closed[every].mean()), band(len(every), 0.05)
    low, high = max(0.0, share - wide), min(1.0, share + wide)
    return Measured(
        share, low, high, 0.95, "band over all thresholds, calibration and audit", len(every)
    )


def _saved(pair: Outcomes, closed: BoolArray, parts: Split, mode: Mode) -> Measured:
    rows, where = _audited(parts)
    spent, dear = _costs(pair, closed, mode)
    known = rows[~np.isnan(spent[rows]) & ~np.isnan(dear[rows])]
    found = ratio(spent[known], dear[known], clusters=_clusters(pair, known, parts))
    flipped = found.mirrored()
    if flipped.value is None:
        return Measured(None, None, None, found.confidence, f"{found.method}, {where}", found.n)
    low, high = (1 + end if np.isfinite(end) else None for end in (flipped.low, flipped.high))
    return Measured(
        1 + flipped.value, low, high, found.confidence, f"{found.method}, {where}", found.n
    )


def _differ(pair: Outcomes, closed: BoolArray, parts: Split) -> Measured:
    rows, where = _audited(parts)
    both: list[int] = [row for row in rows.tolist() if None not in pair.answers[row]]
    lost = [not closed[row] and not agree(*map(str, pair.answers[row])) for row in both]
    found = score(
        np.array(lost, np.float64), clusters=_clusters(pair, np.array(both, np.int64), parts)
    )
    return _measured(found, f"{found.method}, {where}")


def _costs(pair: Outcomes, closed: BoolArray, mode: Mode) -> tuple[FloatArray, FloatArray]:
    """[n] and [n]: what each example costs when it is routed, and when the closed endpoint answers all."""
    near, far = pair.costs[:, 0], pair.costs[:, 1]
    # In a cascade the open answer is there before the choice, and paid.
    spent = np.where(closed, far, near) if mode == "before" else near + np.where(closed, far, 0.0)
    return spent, far


def _audited(parts: Split) -> tuple[IntArray, str]:
    if len(parts.audit) >= _ENOUGH:
        return parts.audit, "audit"
    return parts.calibrate, "calibration, on which the threshold was chosen"


def _clusters(pair: Outcomes, rows: IntArray, parts: Split) -> list[str] | None:
    return _names(pair, rows) if parts.clustered else None


def _names(pair: Outcomes, rows: IntArray) -> list[str]:
    numbers: list[int] = rows.tolist()
    return [pair.clusters[row] for row in numbers]


def _measured(found: Estimate, method: str) -> Measured:
    low, high = (end if np.isfinite(end) else None for end in (found.low, found.high))
    return Measured(found.value, low, high, found.confidence, method, found.n)
