"""What a judge said, read: which of two answers it prefers, or how many points it gives.

A verdict is read where the judge was told to put it, and nowhere else: in a JSON object, in the first token's
probabilities, or in the last line. What cannot be read is None, never a guess. Not here: what a judge is asked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from daulat.errors import RequestError

FIRST: Final = "A"
SECOND: Final = "B"
TIE: Final = "C"
PREFERENCES: Final[Mapping[str, float]] = {FIRST: 1.0, SECOND: 0.0, TIE: 0.5}
"""What a letter means for the answer that is shown first."""

HIGHEST: Final = 100
_MAX_ANSWER: Final = 200_000
_MAX_REASON: Final = 2_000

_FENCED: Final = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)
_AROUND: Final = r"""[\s*_"'`>\[\](){}.!]*"""
_LETTER: Final = re.compile(rf"{_AROUND}(?:(?:verdict|putusan)\W{{1,8}})?([A-Z]){_AROUND}", re.I)
_POINTS: Final = re.compile(
    rf"{_AROUND}(?:(?:score|nilai|skor)\W{{1,8}})?(\d{{1,3}}(?:[.,]\d{{1,4}})?)(?:\s*/\s*(\d{{1,3}}))?{_AROUND}",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Points that a judge or a person gives, whole numbers from `low` to `high`.

    Raises:
        RequestError: not 0 <= low < high <= 100.
    """

    low: int = 1
    high: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= HIGHEST:
            raise RequestError(
                f"A scale is two whole numbers from 0 to {HIGHEST}, the lower one first: 1-5.",
                param="scale",
            )

    @property
    def values(self) -> range:
        """Every number of points."""
        return range(self.low, self.high + 1)

    def unit(self, points: float) -> float:
        """Points as a score from 0 to 1."""
        return (points - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


FIVE: Final = Scale()


def scale_of(text: str) -> Scale:
    """The scale that is written `1-5`.

    Raises:
        RequestError: it is none.
    """
    found = re.fullmatch(r"\s*(\d{1,3})\s*(?:-|to)\s*(\d{1,3})\s*", text[:40])
    return Scale(int(found[1]), int(found[2])) if found else Scale(1, 0)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a judge's probabilities say.

    Attributes:
        shares: of each choice, adding up to 1.
        mass: how probable it was that the judge said one of them at all.
    """

    shares: Mapping[str, float]
    mass: float

    def mean(self, worth: Mapping[str, float]) -> float:
        """What is expected of the choices' worth."""
        return math.fsum(share * worth[choice] for choice, share in self.shares.items())


def weighed(beginnings: Sequence[tuple[str, float]], choices: Sequence[str]) -> Weighed | None:
    """The choices by the probabilities of an answer's first token; None: none of them is among them.

    Each choice is a token's whole text, but for the space around it. Y. Liu et al., "G-Eval"
    (arXiv:2303.16634), weigh scores in this way, and AlpacaEval 2 verdicts.

    Args:
        beginnings: (text, natural-log probability) of the likeliest first tokens.
    """
    masses = dict.fromkeys(choices, 0.0)
    for text, logprob in beginnings:
        choice = text.strip()
        if choice in masses and logprob <= 1e-6:
            masses[choice] += math.exp(min(logprob, 0.0))
    total = math.fsum(masses.values())
    if not total > 0:
        return None
    return Weighed({choice: mass / total for choice, mass in masses.items()}, min(total, 1.0))


def letter(text: str, letters: Sequence[str]) -> str | None:
    """The letter that is the verdict: of the field `verdict`, or alone in the last line."""
    told = _object(text)
    if told is not None:
        value = told.get("verdict")
        return value if isinstance(value, str) and value in letters else None
    found = _LETTER.fullmatch(_last_line(text))
    return found[1] if found and found[1] in letters else None


def points(text: str, scale: Scale) -> float | None:
    """The points that are given: in the field `score`, or alone in the last line (`7`, `Score: 7/10`)."""
    told = _object(text)
    if told is not None:
        value = told.get("score")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return _on(value, scale)
    found = _POINTS.fullmatch(_last_line(text))
    if not found or (found[2] and int(found[2]) != scale.high):
        return None
    return _on(float(found[1].replace(",", ".")), scale)


def reason(text: str) -> str:
    """Why, where the judge said so in the field `reason`; else empty."""
    told = _object(text)
    said = told.get("reason") if told is not None else None
    return said[:_MAX_REASON] if isinstance(said, str) else ""


def _on(value: float, scale: Scale) -> float | None:
    # A comparison with NaN is false, and a whole number too large for a float is outside in any case.
    return float(value) if scale.low <= value <= scale.high else None


def _last_line(text: str) -> str:
    """Empty where the answer began as a JSON object and is none."""
    lines = text[-_MAX_ANSWER:].strip().splitlines()
    return "" if not lines or lines[0].startswith(("{", "```")) else lines[-1][-200:]


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that an answer is, alone or in a block of code; None: it is something else.

    An object that has a name twice is none: it says two things.
    """
    bare = text.strip()
    if len(bare) > _MAX_ANSWER:
        return None
    fenced = _FENCED.fullmatch(bare)
    try:
        told = json.loads(fenced[1] if fenced else bare, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", told) if isinstance(told, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made
