"""What is in a request, and what that means for each place: `guard` finds, `policy` judges, this asks both.

Texts are looked through only where that can change a verdict. A detector that cannot run closes the door: its
error ends the request. Not here: detectors and placeholders (`guard`), rules (`policy`).
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from daulat.errors import GuardError, PolicyError
from daulat.flow.texts import joined, opaque, rewritten, texts
from daulat.policy import Judgement, Rules, highest, judge, known, looks
from daulat.values.plan import THIS_MACHINE, Caller, Step
from daulat.values.request import Request

if TYPE_CHECKING:  # imported where they are used: a start that sends nothing away needs none of it
    from daulat.guard.redaction import Redactor
    from daulat.guard.scan import Detectors, Scan

R = TypeVar("R", bound=Request)

HEADER = "daulat-class"
_AT_ONCE = 20_000
"""Characters that are looked through on the event loop; more go to a thread."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A request with what is known of its texts.

    Attributes:
        floor: its class whatever was found.
        found: how many findings of each kind.
        judgements: by place.
        redactor, replaced: where some place may have it with placeholders only, and what that place gets.
    """

    floor: str
    found: Mapping[str, int] = field(default_factory=dict[str, int])
    judgements: Mapping[str, Judgement] = field(default_factory=dict[str, Judgement])
    redactor: Redactor | None = None
    replaced: Request | None = None

    @property
    def data_class(self) -> str:
        """The class of the whole, for the record."""
        here = self.judgements.get(THIS_MACHINE)
        return here.data_class if here else self.floor


class Guard:
    """Looks through requests by one set of rules."""

    def __init__(self, rules: Rules, detectors: Callable[[], Detectors]) -> None:
        self.rules = rules
        self._make = detectors

    @functools.cached_property
    def _detectors(self) -> Detectors:
        return self._make()

    async def look(
        self,
        caller: Caller,
        request: Request,
        words: Sequence[str],
        places: Iterable[str],
        declared: str,
        project: str,
    ) -> Guarded:
        """What each place may have of the request.

        Args:
            words: all of the request's texts.
            declared: the class that the client gives it; empty: none.
            project: the class of the key's project; empty: none.

        Raises:
            RequestError: there is no such class.
            GuardError: a detector could not run.
        """
        floor = self._floor(caller, request, declared, project)
        asked = {THIS_MACHINE, *places}
        if not looks(self.rules, asked, floor):
            return Guarded(floor, judgements=self._judged(asked, floor, (), replaceable=False))
        found = await self._scanned(words)
        classes, kinds = await self._together(request, found)
        judgements = self._judged(asked, floor, classes, replaceable=True)
        if all(one.verdict != "redacted" for one in judgements.values()):
            return Guarded(floor, kinds, judgements)
        from daulat.guard.redaction import Redactor  # noqa: PLC0415

        redactor = Redactor(words, self._detectors)
        replaced = await self._replaced(request, redactor, sum(map(len, words)))
        if replaced is None:
            judgements = self._judged(asked, floor, classes, replaceable=False)
        return Guarded(floor, kinds, judgements, redactor, replaced)

    async def may_hear(self, guarded: Guarded, step: Step, text: str) -> bool:
        """Whether a step may be told what another endpoint answered: nobody has looked through that yet.

        Raises:
            GuardError: a detector could not run.
        """
        if step.place == THIS_MACHINE:
            return True
        found = (await self._scanned([text])).classes
        judged = judge(self.rules, step.place, guarded.floor, tuple(found), replaceable=False)
        return judged.verdict == "as it is"

    async def _together(
        self, request: Request, found: Scan
    ) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """The classes and kinds of what is in the texts, and of what only several of them make together."""
        whole = await self._scanned(joined(request))
        return tuple(found.classes | whole.classes), _kinds(found) | _kinds(whole)

    async def _replaced(self, request: R, redactor: Redactor, length: int) -> R | None:
        """The request with placeholders; None where something stands that none can be put in place of: in a
        name, a pattern, a field, or in two texts at once."""
        try:
            if length <= _AT_ONCE:
                changed = rewritten(request, redactor.redact)
            else:
                changed = await asyncio.to_thread(rewritten, request, redactor.redact)
        except GuardError:
            return None
        left = await self._scanned([*texts(changed), *joined(changed)])
        return None if left.classes else changed

    def _floor(self, caller: Caller, request: Request, declared: str, project: str) -> str:
        given = [name for name in (caller.data_class, project) if name]
        if declared:
            given.append(known(self.rules, declared, HEADER))
        given = given or [self.rules.default]
        # Only who declares this request's class can have seen what is in its pictures.
        unread = [self.rules.unread] if not declared and opaque(request) else []
        return highest(self.rules, [*given, *unread])

    def _judged(
        self, places: Iterable[str], floor: str, found: tuple[str, ...], *, replaceable: bool
    ) -> Mapping[str, Judgement]:
        return {
            place: judge(self.rules, place, floor, found, replaceable=replaceable)
            for place in places
        }

    async def _scanned(self, words: Sequence[str]) -> Scan:
        from daulat.guard.scan import scan  # noqa: PLC0415

        if sum(map(len, words)) <= _AT_ONCE:
            return scan(words, self._detectors)
        return await asyncio.to_thread(scan, words, self._detectors)


def refusal(guarded: Guarded, places: Sequence[str]) -> PolicyError:
    """Why no endpoint may see the request."""
    reasons = "; ".join(dict.fromkeys(guarded.judgements[place].why for place in places))
    found = ", ".join(f"{count} x {kind}" for kind, count in guarded.found.items())
    seen = f" Found: {found}." if found else ""
    return PolicyError(
        f"The policy lets this request go to none of the endpoints that have the model: {reasons}.{seen} "
        "Leave out what was found, ask a model on this machine, or change [policy] in daulat.toml.",
        classes={place: guarded.judgements[place].data_class for place in places},
    )


def _kinds(found: Scan) -> Counter[str]:
    return Counter(one.kind for findings in found.findings for one in findings)
