"""A router's parts as plain JSON and back, with every number checked on the way in.

Arrays are `{"shape": [...], "data": [...]}`; a float is written so that reading it gives the same float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError
from daulat.route.learning.cells import MAX_NAME, MAX_PROBE
from daulat.route.learning.features import BUCKETS
from daulat.route.learning.mapping import FeatureMap
from daulat.route.learning.outcomes import FloatArray
from daulat.route.learning.parts import Average, Linear, Neighbours, Part, Prior, Trees

Plain = dict[str, Any]
_MOST: Final = 20_000_000
_LARGEST: Final = 1e300
_PROBES: Final = ("probe_means", "probe_spreads")


def as_plain(part: Part) -> Plain:
    """A part as JSON."""
    match part:
        case Prior():
            return {"kind": "prior", **_prior(part)}
        case Linear():
            return {
                "kind": "linear",
                "map": _map(part.map),
                "weights": _array(part.weights),
                "intercept": _array(part.intercept),
                "logistic": part.logistic,
            }
        case Neighbours():
            return {
                "kind": "neighbours",
                "map": _map(part.map),
                "places": _array(part.places),
                "scores": _array(part.scores),
                "count": part.count,
                "strength": part.strength,
            }
        case Trees():
            arrays = {name: _array(getattr(part, name)) for name in _TREES}
            return {"kind": "trees", "prior": _prior(part.prior), **arrays}
        case Average():
            return {"kind": "average", "parts": [as_plain(one) for one in part.parts]}
        case _:
            raise TypeError(f"{part.name} is not a part that is stored")


_TREES: Final = (
    *("starts", "endpoint", "feature", "threshold", "left", "right", "value", "baseline"),
)


def _prior(part: Prior) -> Plain:
    return {
        "categories": list(part.categories),
        "means": _array(part.means),
        "rest": _array(part.rest),
    }


def _map(map_: FeatureMap) -> Plain:
    arrays = {
        name: _array(getattr(map_, name))
        for name in ("columns", "means", "spreads", "terms", "idf")
    }
    told = {"categories": list(map_.categories), **arrays, "width": map_.width}
    # A map without probes is stored as it was before there were any: its router's digest stays.
    return told | ({name: _array(getattr(map_, name)) for name in _PROBES} if _probed(map_) else {})


def _probed(map_: FeatureMap) -> bool:
    return len(map_.probe_means) > 0


def _array(values: NDArray[Any]) -> Plain:
    flat: list[float] = np.ravel(values).tolist()
    return {"shape": list(values.shape), "data": flat}


# --- and back -------------------------------------------------------------------------------------


class Reader:
    """Takes values out of an object of JSON, and refuses what they may not be.

    Args:
        what: names the object in errors, such as `router.part`.
    """

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise wrong(what, "is not an object")
        self._values = cast("Mapping[str, Any]", value)
        self._what = what

    def inner(self, name: str) -> Reader:
        return Reader(self._get(name), f"{self._what}.{name}")

    def inner_value(self, name: str) -> Any:
        return self._get(name)

    def listed(self, name: str, most: int) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or len(cast("list[Any]", value)) > most:
            raise self._wrong(name, f"is not a list of at most {most}")
        return cast("list[Any]", value)

    def text(self, name: str, most: int = MAX_NAME) -> str:
        value = self._get(name)
        if not isinstance(value, str) or len(value) > most:
            raise self._wrong(name, f"is not a text of at most {most} characters")
        return value

    def texts(self, name: str, most: int = 100_000) -> tuple[str, ...]:
        found = self.listed(name, most)
        if not all(isinstance(one, str) and len(one) <= MAX_NAME for one in found):
            raise self._wrong(name, "holds something else than short texts")
        return tuple(found)

    def has(self, name: str) -> bool:
        return name in self._values

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "is neither true nor false")
        return value

    def whole(self, name: str, least: int, most: int) -> int:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(name, f"is not a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float = -_LARGEST, most: float = _LARGEST) -> float:
        """A number; null is NaN."""
        value = self._get(name)
        if value is None:
            return math.nan
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value <= most
        ):
            raise self._wrong(name, f"is not a number from {least:g} to {most:g}")
        return float(value)

    def floats(self, name: str, *shape: int | None) -> FloatArray:
        """An array of finite numbers; None in the shape: any length."""
        data, found = self._flat(name, shape, lambda v: isinstance(v, int | float))
        values = np.array(data, np.float64)
        if not (np.isfinite(values).all() and (np.abs(values) <= _LARGEST).all()):
            raise self._wrong(name, "holds a number that is not finite")
        return values.reshape(found)

    def ints(self, name: str, least: int, most: int, *shape: int | None) -> NDArray[np.int64]:
        data, found = self._flat(name, shape, lambda v: isinstance(v, int))
        if not all(least <= value <= most for value in data):
            raise self._wrong(name, f"holds a number that is not from {least} to {most}")
        return np.array(data, np.int64).reshape(found)

    def _flat(
        self, name: str, shape: Sequence[int | None], fits: Callable[[Any], bool]
    ) -> tuple[list[Any], tuple[int, ...]]:
        inner = self.inner(name)
        data, found = inner.listed("data", _MOST), inner.listed("shape", 2)
        good = len(found) == len(shape) and all(
            isinstance(one, int) and one >= 0 and wanted in (None, one)
            for one, wanted in zip(found, shape, strict=True)
        )
        if not good or math.prod(found) != len(data):
            raise self._wrong(name, "has not the shape that it should have")
        if not all(fits(value) and not isinstance(value, bool) for value in data):
            raise self._wrong(name, "holds something else than numbers")
        return data, tuple(found)

    def _get(self, name: str) -> Any:
        if name not in self._values:
            raise self._wrong(name, "is missing")
        return self._values[name]

    def _wrong(self, name: str, why: str) -> DataError:
        return wrong(f"{self._what}.{name}", why)


def wrong(what: str, why: str) -> DataError:
    """The error for a stored router that is not one."""
    return DataError(f"{what} {why}: the stored router is damaged. Fit it again.")


def from_plain(value: Any, k: int, width: int, depth: int = 0) -> Part:
    """A part from JSON.

    Args:
        k: endpoints; width: figures an example has.

    Raises:
        DataError: it is not one.
    """
    reader = Reader(value, "router.part")
    kind = reader.text("kind")
    if kind == "average" and depth == 0:
        parts = reader.listed("parts", 16)
        if parts:
            return Average(tuple(from_plain(one, k, width, depth + 1) for one in parts))
    if kind == "prior":
        return _read_prior(reader, k)
    if kind == "linear":
        map_ = _read_map(reader.inner("map"), width)
        weights = reader.floats("weights", map_.size, k)
        return Linear(map_, weights, reader.floats("intercept", k), reader.flag("logistic"))
    if kind == "neighbours":
        return _read_neighbours(reader, k, width)
    if kind == "trees":
        return _read_trees(reader, k, width)
    raise wrong("router.part.kind", "is not one that is known")


def _read_prior(reader: Reader, k: int) -> Prior:
    categories = reader.texts("categories")
    return Prior(categories, reader.floats("means", len(categories), k), reader.floats("rest", k))


def _read_map(reader: Reader, width: int) -> FeatureMap:
    columns = reader.ints("columns", 0, width - 1, None)
    terms = reader.ints("terms", 0, BUCKETS - 1, None)
    spreads = reader.floats("spreads", len(columns))
    probes = _read_probes(reader)
    if (np.diff(terms) <= 0).any() or (spreads <= 0).any() or (probes[1] <= 0).any():
        raise wrong("router.part.map", "is not in order")
    return FeatureMap(
        reader.texts("categories"),
        columns,
        reader.floats("means", len(columns)),
        spreads,
        terms,
        reader.floats("idf", len(terms)),
        reader.whole("width", 0, 1 << 16),
        *probes,
    )


def _read_probes(reader: Reader) -> tuple[FloatArray, FloatArray]:
    """Means and spreads; none where the router was stored without."""
    if not any(reader.has(name) for name in _PROBES):
        return np.zeros(0), np.zeros(0)
    means = reader.floats("probe_means", None)
    if not 0 < len(means) <= MAX_PROBE:
        raise wrong("router.part.map.probe_means", f"has not 1 to {MAX_PROBE} numbers")
    return means, reader.floats("probe_spreads", len(means))


def _read_neighbours(reader: Reader, k: int, width: int) -> Neighbours:
    map_ = _read_map(reader.inner("map"), width)
    scores = reader.floats("scores", None, k)
    if len(scores) == 0:
        raise wrong("router.part.scores", "has no neighbours")
    wide = len(map_.columns) + map_.width + len(map_.probe_means)
    places = reader.floats("places", len(scores), wide)
    return Neighbours(
        map_,
        places.astype(np.float32),
        scores,
        reader.whole("count", 1, 10_000),
        reader.number("strength", 0, 1e6),
    )


def _read_trees(reader: Reader, k: int, width: int) -> Trees:
    starts = reader.ints("starts", 0, _MOST, None)
    nodes = int(starts[-1]) if len(starts) else 0
    if len(starts) < 2 or starts[0] != 0 or (np.diff(starts) < 1).any():
        raise wrong("router.part.starts", "does not count nodes")
    prior = _read_prior(reader.inner("prior"), k)
    feature = reader.ints("feature", -1, width + k - 1, nodes)
    left = reader.ints("left", 0, nodes - 1, nodes)
    right = reader.ints("right", 0, nodes - 1, nodes)
    inner = feature >= 0
    own = np.arange(nodes)
    # Every step goes on to a later node, so that a walk always ends.
    if (left[inner] <= own[inner]).any() or (right[inner] <= own[inner]).any():
        raise wrong("router.part.left", "leads back")
    return Trees(
        prior,
        starts,
        reader.ints("endpoint", 0, k - 1, len(starts) - 1),
        feature,
        reader.floats("threshold", nodes),
        left,
        right,
        reader.floats("value", nodes),
        reader.floats("baseline", k),
    )
