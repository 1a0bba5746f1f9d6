"""One value of a file of outcomes: its bounds, and the words for what is wrong with it.

Liberal in how a value is written (`true`, `1`, `"0.5"`), strict in what it may be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from daulat.errors import DataError

MAX_TEXT: Final = 1 << 20
"""Characters of a prompt or an answer."""
MAX_NAME: Final = 255
"""Characters of an id, a category, a cluster or an endpoint's name."""
MAX_SAMPLES: Final = 64
MAX_PROBE: Final = 1024
"""Figures of one answer's probe."""
_LARGEST: Final = 1e30

MISSING: Final = frozenset({"", "na", "n/a", "nan", "none", "null"})
"""How tables write that a number is not there, in small letters."""
_TRUTH: Final = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a value stands, for the words of an error."""

    file: str
    line: int
    unit: str = "line"
    column: str = ""

    def at(self, column: str) -> Place:
        return Place(self.file, self.line, self.unit, column)

    def __str__(self) -> str:
        column = f", {self.column!r}" if self.column else ""
        return f"{self.file}, {self.unit} {self.line}{column}"


def fail(place: Place, what: str) -> NoReturn:
    """Raise the error for a place: what is wrong there, and what to do."""
    raise DataError(f"{place}: {what}", param=place.column or None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be, and what to do when it is not."""

    least: float
    most: float
    remedy: str


NUMBERS: Final[Mapping[str, Bounds]] = {
    "score": Bounds(0, 1, "Divide by the highest score that can be reached."),
    "cost": Bounds(0, 1e9, "It is the money that one answer cost, in your currency."),
    "seconds": Bounds(0, 1e6, "It is how long one answer took."),
    "logprob": Bounds(
        -1e4, 0, "It is the mean natural log-probability of the answer's tokens: 0 or below."
    ),
}


def number(value: Any, name: str, place: Place) -> float:
    """A number of `NUMBERS`, NaN where there is none.

    Raises:
        DataError: it is not a number, or not within its bounds.
    """
    bounds = NUMBERS[name]
    found = _float(value, name, place)
    if math.isnan(found):
        return found
    if not bounds.least <= found <= bounds.most:
        fail(
            place,
            f"{found:g} is not between {bounds.least:g} and {bounds.most:g}. {bounds.remedy}",
        )
    return found + 0.0  # -0.0 is 0.0, so that equal tables have equal digests


def _float(value: Any, name: str, place: Place) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) and name == "score":
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, place)
    if not isinstance(value, str):
        fail(
            place, f"a {name} is a number, not {_kind(value)}. Leave it out where it is not known."
        )
    text = value.strip().lower()
    if text in MISSING:
        return math.nan
    if name == "score" and text in _TRUTH:
        return _TRUTH[text]
    try:
        found = float(text)
    except ValueError:
        fail(
            place,
            f"{value[:40]!r} is not a number. A {name} is written like 0.5; leave the cell empty where it "
            "is not known.",
        )
    return _finite(found, place)


def _finite(value: float, place: Place) -> float:
    if isinstance(value, int) and abs(value) > 1 << 62:
        value = math.inf
    if math.isinf(value):
        fail(place, "the number is infinite, or nearly so. Leave it out where it is not known.")
    return float(value)


def text(value: Any, place: Place) -> str | None:
    """A prompt or an answer; None where there is none.

    Raises:
        DataError: it is not a text, or too long.
    """
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    if not isinstance(value, str):
        fail(place, f"this must be a text, not {_kind(value)}. Write it as one string.")
    if len(value) > MAX_TEXT:
        fail(
            place, f"the text has {len(value):,} characters; at most {MAX_TEXT:,} are read. Cut it."
        )
    return value


def name(value: Any, place: Place) -> str:
    """An id, a category or a cluster; empty where there is none.

    Raises:
        DataError: it is not a short text or a whole number.
    """
    if value is None:
        return ""
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        fail(place, f"this must be a short text, not {_kind(value)}. Write it in quotes.")
    found = str(value).strip()
    if len(found) > MAX_NAME:
        fail(place, f"this has {len(found)} characters; at most {MAX_NAME} are read. Shorten it.")
    return found


def samples(value: Any, place: Place) -> tuple[str, ...]:
    """Further answers of the same endpoint: a list of texts, or that list as JSON.

    Raises:
        DataError: it is neither, or has too many.
    """
    found = _items(value, place, "samples are a", "list of texts", '["one", "two"]')
    if len(found) > MAX_SAMPLES:
        fail(place, f"there are {len(found)} samples; at most {MAX_SAMPLES} are read.")
    return tuple(text(one, place) or "" for one in found)


def probe(value: Any, place: Place) -> tuple[float, ...]:
    """Figures of the hidden states of an answer: a list of numbers, or that list as JSON; empty: not known.

    Raises:
        DataError: it is neither, has too many, or one that is not finite or very large.
    """
    found = _items(value, place, "a probe is a", "list of numbers", "[0.25, -1.5]")
    if len(found) > MAX_PROBE:
        fail(place, f"the probe has {len(found):,} numbers; at most {MAX_PROBE:,} are read.")
    return tuple(_figure(one, place) for one in found)


def _items(value: Any, place: Place, this_is: str, what: str, example: str) -> list[Any]:
    """A list, or that list as JSON; empty where there is nothing."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            fail(place, f"{this_is} JSON {what}, like {example}.")
    if value is None:
        return []
    if not isinstance(value, list):
        fail(place, f"{this_is} {what}, not {_kind(value)}.")
    return cast("list[Any]", value)


def _figure(value: Any, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(place, f"a probe is a list of numbers, and one of them is {_kind(value)}.")
    if not -_LARGEST <= value <= _LARGEST:  # NaN is refused here, too
        fail(
            place, f"every number of a probe is between {-_LARGEST:g} and {_LARGEST:g}. Scale them."
        )
    return float(value) + 0.0


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", float: "a number", int: "a number", dict: "an object"}
    kinds |= {str: "a text", type(None): "nothing"}
    return kinds.get(cast("type[Any]", type(value)), "a list")
