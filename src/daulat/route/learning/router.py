"""A fitted router: what it is, how it is stored, and how it decides.

It is frozen and stored as canonical JSON, named by its digest. `decide` is quick (numpy on a few thousand
numbers) and sends nothing anywhere. The dial goes from 0, always the cheapest endpoint, to 1, always the
dearest: at 0.3 about 30 % of work like that it was fitted on leaves the cheapest endpoint. A higher setting
never moves a request to a cheaper endpoint.

Not here: fitting (`fitting`), and what quality a setting is sure to keep (`route.certificate`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np

from daulat.canon import canonical, digest
from daulat.errors import DataError, RequestError
from daulat.route.learning.choosing import Steps, steps
from daulat.route.learning.curves import Figures, Interval
from daulat.route.learning.features import FIGURES, Encode, Features, Mode, Seen, extract
from daulat.route.learning.outcomes import FloatArray
from daulat.route.learning.parts import Part
from daulat.route.learning.profile import Profile
from daulat.route.learning.storing import Plain, Reader, as_plain, from_plain, wrong

FORMAT: Final = 1
STOPS: Final = 201
"""Settings of the dial that are stored, evenly from 0 to 1."""
MAX_BYTES: Final = 1 << 28
GIVEN: Final = ("category", "logprob", "samples", "probe")
"""What a router may rely on that not every request has."""


@dataclass(frozen=True, slots=True)
class FittedOn:
    """What a router was fitted on.

    Attributes:
        outcomes: digest of the whole table; examples: rows in it with every score.
        labels: examples that it was fitted on; groups: of these, clusters and equal prompts counted once.
        left_out: rows without every score.
        limit: the most labels that were allowed, 0: no limit; seed: of what is random.
    """

    outcomes: str
    examples: int
    labels: int
    groups: int
    left_out: int
    limit: int
    seed: int


@dataclass(frozen=True, slots=True)
class Point:
    """What a setting of the dial delivered in cross-validation; NaN: not known. See `choosing.Spent`."""

    level: float
    share: float
    quality: float
    cost: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """A fitted router.

    Attributes:
        mode: when it decides: before anything is asked, or after the first endpoint has answered.
        endpoints: k names from cheap to dear.
        prices: float64 [k], rising: what leaving the first for another costs; 0, 1, ... where costs are not
            known.
        encoder: name of the model whose vectors of prompts it needs; empty: none.
        part: predicts scores, [n, k].
        slopes, intercepts: float64 [k], calibration out of fold: of the first endpoint's score, and of the
            others' gains over it.
        dial: float64 [STOPS], falling: what a unit of price is worth at each setting.
        candidates: what was tried, with the share of the gains' variance that it explains in cross-validation.
        curve: what settings delivered in cross-validation; figures: of two endpoints.
        given: what examples had besides a prompt and an answer, of `GIVEN`: requests need it, too.
        profile: what their prompts look like.
    """

    mode: Mode
    endpoints: tuple[str, ...]
    prices: FloatArray
    encoder: str
    part: Part
    slopes: FloatArray
    intercepts: FloatArray
    dial: FloatArray
    fitted_on: FittedOn
    candidates: tuple[tuple[str, float], ...]
    curve: tuple[Point, ...]
    figures: Figures | None
    given: tuple[str, ...]
    profile: Profile

    def digest(self) -> str:
        """The digest of what is stored."""
        return digest(to_json(self))

    def expected(self, features: Features) -> FloatArray:
        """float64 [n, k]: the calibrated score that each endpoint's answer is expected to get."""
        return calibrated(self.part.predict(features), self.slopes, self.intercepts)

    def steps(self, features: Features) -> Steps:
        """Which endpoints the dial chooses for these examples."""
        return steps(self.expected(features), self.prices)

    def worth(self, level: float) -> float:
        """What a unit of price is worth at a setting of the dial: from infinite at 0 to minus infinite at 1.

        Raises:
            RequestError: the level is not from 0 to 1.
        """
        if not 0 <= level <= 1:
            raise RequestError(f"A router's level is from 0 to 1, not {level:g}.", param="level")
        if level in (0, 1):
            return math.inf if level == 0 else -math.inf
        return float(np.interp(level, np.linspace(0, 1, STOPS), self.dial))

    def earned(self) -> float:
        """The mean quality in cross-validation over all that can be spent, from cheapest to dearest.

        Routers of one table can be compared by it whatever their mode: a cascade pays for the answers that it
        throws away. Where costs are not known, the share that leaves the cheapest takes their place, and the
        cheapest's answers are free. NaN where nothing was cross-validated.
        """
        if not self.curve:
            return math.nan
        known = all(math.isfinite(point.cost) for point in self.curve)
        paid = [point.cost if known else point.share for point in self.curve]
        most = paid[-1] - (paid[0] if known and self.mode == "cascade" else 0.0)
        best = np.maximum.accumulate([point.quality for point in self.curve])
        if most <= paid[0]:
            return float(best[0])
        at: FloatArray = np.linspace(paid[0], most, 1001)
        got: FloatArray = np.interp(at, np.maximum.accumulate(paid), best)
        return float(np.trapezoid(got, at)) / (most - paid[0])

    def level_keeping(self, part: float) -> float:
        """The lowest setting that kept this part of the dearest endpoint's quality in cross-validation.

        NaN where none did, or nothing was cross-validated. An estimate without a guarantee: that is what a
        certificate is for.
        """
        if not self.curve:
            return math.nan
        goal = part * self.curve[-1].quality
        return next((one.level for one in self.curve if one.quality >= goal - 1e-12), math.nan)


def calibrated(raw: FloatArray, slopes: FloatArray, intercepts: FloatArray) -> FloatArray:
    """The first column and the others' gains over it, each on its line."""
    first = intercepts[0] + slopes[0] * raw[:, :1]
    gains = intercepts[1:] + slopes[1:] * (raw[:, 1:] - raw[:, :1])
    return np.concatenate([first, first + gains], axis=1)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a router decided about one request.

    Attributes:
        endpoint: who answers; in a cascade the first endpoint: keep its answer.
        probability: the score that its answer is expected to get; of scores 0 and 1, the probability that it
            is good.
        expected: that of every endpoint, in the router's order.
        need: the share of work like that it was fitted on that needs a dearer endpoint less than this does.
        why: a sentence.
    """

    endpoint: str
    probability: float
    expected: tuple[float, ...]
    need: float
    why: str


def decide(router: Router, one: Seen, level: float, encode: Encode | None = None) -> Decision:
    """Choose for one request.

    Args:
        one: in mode *cascade* with the first endpoint's answer.
        level: the dial, from 0 to 1.
        encode: makes vectors, for a router that needs them.

    Raises:
        RequestError: the level is out of bounds, or what the router needs is missing.
    """
    if router.mode == "cascade" and one.answer is None:
        raise RequestError(
            f"This router decides after {router.endpoints[0]} has answered: give it that answer.",
            param="answer",
        )
    features = extract([one], router.mode, encoding(router, encode))
    return decisions(router, features, level)[0]


def encoding(router: Router, encode: Encode | None) -> Encode | None:
    """The encoder, where the router needs it.

    Raises:
        RequestError: it needs one and there is none.
    """
    if router.encoder and encode is None:
        raise RequestError(
            f"This router needs vectors of {router.encoder}: `daulat models pull {router.encoder}`.",
            param="encode",
        )
    return encode if router.encoder else None


def decisions(router: Router, features: Features, level: float) -> list[Decision]:
    """Choose for many requests."""
    expected = router.expected(features)
    found = steps(expected, router.prices)
    chosen = found.choose(router.worth(level))
    shares = 1 - np.interp(-found.needs(), -router.dial, np.linspace(0, 1, STOPS))
    shown = np.clip(expected, 0, 1)
    return [
        _decision(router, shown[i].tolist(), int(chosen[i]), float(shares[i]), level)
        for i in range(len(chosen))
    ]


def _decision(
    router: Router, expected: Sequence[float], chosen: int, need: float, level: float
) -> Decision:
    name, first = router.endpoints[chosen], router.endpoints[0]
    best = max(range(len(expected)), key=expected.__getitem__)
    scores = f"{first} {expected[0]:.2f}, {router.endpoints[best or -1]} {expected[best or -1]:.2f}"
    why = (
        f"expected scores: {scores}; {need:.0%} of such work needs a dearer endpoint less than this, "
        f"and {level:.0%} of it may have one"
    )
    return Decision(name, float(expected[chosen]), tuple(expected), need, why)


# --- as JSON --------------------------------------------------------------------------------------


def to_json(router: Router) -> bytes:
    """The router as canonical JSON."""
    plain: Plain = {
        "format": FORMAT,
        "mode": router.mode,
        "endpoints": list(router.endpoints),
        "prices": _numbers(router.prices.tolist()),
        "encoder": router.encoder,
        "figures_seen": list(FIGURES[router.mode]),
        "part": as_plain(router.part),
        "slopes": router.slopes.tolist(),
        "intercepts": router.intercepts.tolist(),
        "dial": router.dial.tolist(),
        "fitted_on": asdict(router.fitted_on),
        "candidates": [[name, share] for name, share in router.candidates],
        "curve": [_numbers(asdict(point).values()) for point in router.curve],
        "figures": None
        if router.figures is None
        else {name: _numbers(one.values()) for name, one in asdict(router.figures).items()},
        "given": list(router.given),
        "profile": router.profile.to_json(),
    }
    return canonical(plain)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _numbers(values: Any) -> list[float | None]:
    return [_number(value) for value in values]


def from_json(data: bytes) -> Router:
    """The router that was stored.

    Raises:
        DataError: these are not the bytes of one, or those of another version.
    """
    if len(data) > MAX_BYTES:
        raise wrong("router", f"has more than {MAX_BYTES >> 20} MiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wrong("router", "is not JSON") from error
    reader = Reader(value, "router")
    if reader.whole("format", 0, 1 << 30) != FORMAT:
        raise DataError("This router was stored by another version of Daulat. Fit it again.")
    mode = reader.text("mode")
    if mode not in FIGURES or reader.texts("figures_seen") != FIGURES[mode]:
        raise DataError("This router sees other figures than this version. Fit it again.")
    return _read(reader, mode)


def _read(reader: Reader, mode: Mode) -> Router:
    endpoints = reader.texts("endpoints", 32)
    k = len(endpoints)
    prices, dial = _list(reader, "prices", k), _list(reader, "dial", STOPS)
    if (
        k < 2
        or len(set(endpoints)) != k
        or (np.diff(prices) <= 0).any()
        or (np.diff(dial) > 0).any()
    ):
        raise wrong("router", "has endpoints, prices or a dial out of order")
    return Router(
        mode=mode,
        endpoints=endpoints,
        prices=prices,
        encoder=reader.text("encoder"),
        part=from_plain(reader.inner_value("part"), k, len(FIGURES[mode])),
        slopes=_list(reader, "slopes", k),
        intercepts=_list(reader, "intercepts", k),
        dial=dial,
        fitted_on=_fitted_on(reader.inner("fitted_on")),
        candidates=tuple(_candidate(one) for one in reader.listed("candidates", 1000)),
        curve=tuple(Point(*_row(one, 5)) for one in reader.listed("curve", 1000)),
        figures=_figures(reader),
        given=_given(reader),
        profile=_profile(reader),
    )


def _list(reader: Reader, name: str, length: int) -> FloatArray:
    values = _row(reader.listed(name, length), length)
    if any(math.isnan(value) for value in values):
        raise wrong(f"router.{name}", "lacks a number")
    return np.array(values)


def _row(value: Any, length: int) -> list[float]:
    row = cast("list[Any]", value) if isinstance(value, list) else []
    if len(row) != length:
        raise wrong("router", "has a row of another length")
    inner = Reader(dict(zip(map(str, range(length)), row, strict=True)), "router.row")
    return [inner.number(str(i)) for i in range(length)]


def _candidate(value: Any) -> tuple[str, float]:
    row = cast("list[Any]", value) if isinstance(value, list) else []
    inner = Reader(dict(zip(("name", "explained"), row, strict=False)), "router.candidates")
    return inner.text("name"), inner.number("explained")


def _fitted_on(reader: Reader) -> FittedOn:
    counts = ("examples", "labels", "groups", "left_out", "limit", "seed")
    return FittedOn(reader.text("outcomes"), *(reader.whole(name, 0, 1 << 53) for name in counts))


def _given(reader: Reader) -> tuple[str, ...]:
    given = reader.texts("given", len(GIVEN))
    if not set(given) <= set(GIVEN):
        raise wrong("router.given", f"names something else than {', '.join(GIVEN)}")
    return given


def _profile(reader: Reader) -> Profile:
    try:
        return Profile.from_json(reader.inner_value("profile"))
    except ValueError as error:
        raise wrong("router.profile", f"is none: {error}") from error


def _figures(reader: Reader) -> Figures | None:
    if reader.inner_value("figures") is None:
        return None
    inner = reader.inner("figures")
    names = ("apgr", "cpt50", "cpt80", "keep90", "keep95", "keep99")
    return Figures(*(Interval(*_row(inner.listed(name, 3), 3)) for name in names))
