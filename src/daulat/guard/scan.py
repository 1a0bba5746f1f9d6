"""Looks for personal data and secrets in the texts of a request.

    found = scan(["Call 0812-3456-7890"], Detectors())
    found.findings[0][0].kind        # "phone"

Every detector runs or the scan fails: what could not be examined is never taken for clean. Names of persons,
street addresses and other things without a form are found only by a `Recogniser` that somebody adds.
Not here: what a finding means for the request (`policy`), and replacing it (`guard.redaction`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from daulat.errors import GuardError, SettingsError
from daulat.guard import contacts, credentials, money, people
from daulat.guard.findings import Finding, resolve
from daulat.guard.patterns import Pattern
from daulat.guard.rules import THRESHOLD, Detector, Needles, Spot
from daulat.guard.views import View, odd, unescape, views

BUILT_IN: Final[tuple[Detector, ...]] = (
    *credentials.RULES,
    *contacts.RULES,
    *money.RULES,
    *people.RULES,
)
KINDS: Final = tuple(sorted({one.kind for one in BUILT_IN}))
"""What is found without any setting; each may be switched off by its name."""
MOST_PATTERNS: Final = 100
_READINGS: Final = 4
"""As it is, and so many times less one with escapes decoded."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    """A function that finds one kind of thing, such as a model that knows names of persons.

    It gets a text and gives start, end (exclusive) and score of what it found there.
    """

    kind: str
    data_class: str
    function: Callable[[str], Iterable[Spot]]

    def find(self, view: View) -> Iterator[Spot]:
        """What the function says."""
        yield from self.function(view.text)


@dataclass(frozen=True, slots=True)
class Detectors:
    """What to look for: the built-in kinds less `off`, the user's patterns, and recognisers.

    Raises:
        SettingsError: `off` names no kind, two patterns have one name, or there are too many.
    """

    off: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    recognisers: tuple[Recogniser, ...] = ()
    needles: Needles = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = [one.kind for one in (*self.patterns, *self.recognisers)]
        for name in sorted(self.off.difference(KINDS, own)):
            near = difflib.get_close_matches(name, [*KINDS, *own], 1)
            hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(KINDS)}."
            raise SettingsError(f'There is no detector "{name[:60]}".{hint}')
        for name in own:
            if own.count(name) > 1 or name in KINDS:
                raise SettingsError(
                    f'Two detectors are called "{name}"; give one of them another name.'
                )
        if len(own) > MOST_PATTERNS:
            raise SettingsError(
                f"There are {len(own)} patterns; at most {MOST_PATTERNS} are possible."
            )
        odd()  # The table is made here, and not while the first request waits.
        rows = (*BUILT_IN, *self.patterns, *self.recognisers)
        active = [one for one in rows if one.kind not in self.off]
        object.__setattr__(self, "needles", Needles(active))


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in some texts.

    `findings` has a tuple for each text, in order and without overlaps; `classes` has the data class of
    everything found, also of what another finding in the same place displaced.
    """

    findings: tuple[tuple[Finding, ...], ...]
    classes: frozenset[str]


def scan(texts: Sequence[str], detectors: Detectors) -> Scan:
    """Look for everything in all texts.

    Raises:
        GuardError: a detector failed or took too long; the message names it.
    """
    found = [list(search(text, detectors)) if text else [] for text in texts]
    classes = frozenset(one.data_class for findings in found for one in findings)
    return Scan(tuple(resolve(findings) for findings in found), classes)


def search(text: str, detectors: Detectors, *, json: bool = False) -> Iterator[Finding]:
    """Everything found in a text, in no order and with overlaps.

    Args:
        json: the text is JSON; look at what the escapes in its strings stand for, too.

    Raises:
        GuardError: a detector failed or took too long.
    """
    for outer, view in _readings(text, json):
        for detector in detectors.needles.looking(view):
            for start, end, score in _run(detector, view):
                span = view.span(start, end)
                for layer in outer:
                    span = layer.span(*span)
                yield Finding(detector.kind, detector.data_class, *span, score, detector.kind)


def _readings(text: str, json: bool) -> Iterator[tuple[tuple[View, ...], View]]:
    """Every view of a text, each with the layers of escapes that it lies behind, the innermost first.

    Any text may hold JSON, and that JSON again: where there are backslashes, what they stand for is read too.
    """
    layers: tuple[View, ...] = (unescape(text),) if json else ()
    for _ in range(_READINGS):
        current = layers[0].text if layers else text
        for view in views(current):
            yield layers, view
        if "\\" not in current or (inner := unescape(current)).text == current:
            return
        layers = (inner, *layers)


def _run(detector: Detector, view: View) -> list[Spot]:
    """All of a detector's spots.

    Whatever goes wrong in it, also in a recogniser of somebody else's, closes the door. The cause is not
    chained: its words may quote the text.
    """
    try:
        spots = [one for one in detector.find(view) if one[2] >= THRESHOLD]
        if any(not 0 <= start < end <= len(view.text) for start, end, _ in spots):
            raise ValueError("outside the text")
    except Exception:
        spots = None
    if spots is None:
        raise GuardError(
            f'The detector "{detector.kind}" could not examine the text, so nothing was sent. '
            "Try a shorter text, or let an administrator look at that detector."
        )
    return spots
