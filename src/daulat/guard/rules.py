"""What a detector is, and the rule that most detectors are: a form, a check, and words beside it.

A rule costs nothing where its needles are absent or a text has no numbers. Every pattern of a rule
is linear in the text: it has no nested quantifiers but over separators that cannot be mistaken for what
they separate, and its repeats are bounded.

Not here: the rules themselves (`guard.people`, `guard.money`, `guard.contacts`, `guard.credentials`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from daulat.guard.views import View

Spot = tuple[int, int, float]
"""Start, end (exclusive) and score."""
Judge = Callable[[str, re.Match[str]], Spot | None]

THRESHOLD: Final = 0.5
"""A spot below it is not a finding."""
CONTEXT: Final = 0.4
"""What a word beside it adds to a score."""
_AFTER: Final = 32
"""Characters behind an identifier that may hold a word for it: "3171... (NIK)"."""


class Detector(Protocol):
    """Something that finds one kind of thing."""

    @property
    def kind(self) -> str: ...
    @property
    def data_class(self) -> str: ...
    def find(self, view: View) -> Iterator[Spot]:
        """The spots in a view, in any order; they may overlap."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A detector as a row of a table.

    `needles`: one of these must stand in the lower-case text, or the rule does not look.
    `words`: a pattern over lower-case text, searched `near` characters before a spot and a little after.
    `islands`: look only where numbers are; the patterns then begin within two characters of a digit.
    """

    kind: str
    data_class: str
    patterns: tuple[re.Pattern[str], ...]
    judge: Judge
    needles: tuple[str, ...] = ()
    words: re.Pattern[str] | None = None
    near: int = 64
    islands: bool = False

    def find(self, view: View) -> Iterator[Spot]:
        """The spots in a view that has one of its needles (`Needles`)."""
        for begin, end in view.islands if self.islands else ((0, len(view.text)),):
            for pattern in self.patterns:
                yield from self._in(view, pattern, max(begin - 2, 0), end)

    def _in(self, view: View, pattern: re.Pattern[str], at: int, end: int) -> Iterator[Spot]:
        while (match := pattern.search(view.text, at, end)) is not None:
            spot = self._judged(view, match)
            if spot is not None:
                yield spot
            # What is none may still hide the beginning of one: "1234 4111 1111 1111 1111".
            at = max(spot[1] if spot else 0, match.start() + 1)

    def _judged(self, view: View, match: re.Match[str]) -> Spot | None:
        spot = self.judge(view.text, match)
        if spot is None:
            return None
        start, end, score = spot
        if score + CONTEXT >= THRESHOLD and self._named(view.low, start, end):
            score = min(1.0, score + CONTEXT)
        return (start, end, score) if score >= THRESHOLD else None

    def _named(self, low: str, start: int, end: int) -> bool:
        words = self.words
        return words is not None and (
            words.search(low, max(start - self.near, 0), start) is not None
            or words.search(low, end, end + _AFTER) is not None
        )


class Needles:
    """Tells which detectors can find anything in a text: a hundred needles are looked for at once.

    Args:
        detectors: those that are no rules, or rules without needles, look at every text.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = tuple(detectors)
        self._always: set[int] = set()
        wanted: dict[str, set[int]] = {}
        for number, one in enumerate(self._detectors):
            needles = one.needles if isinstance(one, Rule) else ()
            for needle in needles:
                wanted.setdefault(needle, set()).add(number)
            if not needles:
                self._always.add(number)
        self._needles = tuple((needle, frozenset(needle), who) for needle, who in wanted.items())

    def looking(self, view: View) -> list[Detector]:
        """The detectors for which there may be something, in their order."""
        low, letters = view.low, set(view.low)
        found = self._always.copy()
        for needle, own, who in self._needles:
            # Most needles have a character that most texts lack, which is seen sooner.
            if own <= letters and needle in low:
                found |= who
        return [self._detectors[number] for number in sorted(found)]


def always(score: float) -> Judge:
    """The form alone decides; the match's first group is the spot, or the whole match."""

    def judge(_text: str, match: re.Match[str]) -> Spot:
        start, end = match.span(1 if match.re.groups else 0)
        return start, end, score

    return judge


def checked(check: Callable[[str], float]) -> Judge:
    """A check of the characters that matched gives the score; 0 is none."""

    def judge(_text: str, match: re.Match[str]) -> Spot | None:
        score = check(match[0])
        return (match.start(), match.end(), score) if score else None

    return judge


def words(*alternatives: str) -> re.Pattern[str]:
    """Whole words or stems (`foo\\w*`), in lower case."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(alternatives)})(?![^\W_])")


def digits(text: str) -> str:
    """Only the ASCII digits."""
    return "".join(one for one in text if "0" <= one <= "9")


FREE: Final = r"(?<![0-9])(?<![0-9][.,])"
"""Before a number: no digit and no decimal point, or every long fraction would be a card."""


def shapes(*shapes: str) -> tuple[re.Pattern[str], ...]:
    """Patterns of numbers from the lengths of their groups: `4-4-4-4`, or `12..19` for one block."""
    return tuple(re.compile(FREE + _groups(shape) + r"(?![0-9])") for shape in shapes)


def _groups(shape: str) -> str:
    first, *others = shape.split("-")
    group = "[0-9]{" + first.replace("..", ",") + "}"
    if not others:
        return group
    second, *rest = ("[0-9]{" + other.replace("..", ",") + "}" for other in others)
    return group + "([ ./-])" + second + "".join(rf"\1{other}" for other in rest)


def spaced(count: int) -> re.Pattern[str]:
    """Digits set apart one by one."""
    return re.compile(rf"{FREE}[0-9](?:[ .-][0-9]){{{count - 1}}}(?![ .-]?[0-9])")
