"""A judge: an endpoint that is asked for verdicts on what others answered.

A value without any asking of its own: it words questions and reads replies, so that they are asked, kept,
bounded and resumed as all questions of a comparison are. A reply in which no verdict can be read is an error
and counted apart, never a tie and never a zero. Not here: the words (`prompting`), whole comparisons
(`rounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from daulat.errors import RequestError, VerdictError
from daulat.evaluate.answers import Answer
from daulat.evaluate.asking import Question
from daulat.evaluate.examples import Example
from daulat.evaluate.judges import prompting, verdicts
from daulat.evaluate.judges.prompting import Rules, Way
from daulat.evaluate.judges.verdicts import FIRST, PREFERENCES, SECOND, TIE

AUTO: Final = "auto"
WAYS: Final[tuple[Way, ...]] = ("choice", "logprobs", "json", "words")
SOFT: Final[frozenset[Way]] = frozenset({"choice", "logprobs"})
NEEDS: Final[Mapping[Way, frozenset[str]]] = {
    "choice": frozenset({"grammar", "logprobs"}),
    "logprobs": frozenset({"logprobs"}),
    "json": frozenset({"json_schema"}),
    "words": frozenset(),
}
"""What an endpoint must be able to do. By itself a judge is not asked for `logprobs` alone: many models that
think refuse them, whatever their vendor's API has."""
ALTERNATIVES: Final = 20
"""The most that OpenAI's API tells, and others with it."""
_LETTER_TOKENS: Final = 4
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said once.

    Attributes:
        value: 0 to 1: how far the answer shown first is preferred, or points as a score.
        mass: how probable it was that the reply is a verdict at all, where probabilities were told.
        reason: in the judge's words; empty: none was asked for.
    """

    value: float
    mass: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges, and how.

    Attributes:
        model: as requests name it.
        way: how verdicts are told.
        max_tokens: of a reply, but for single letters.
    """

    model: str
    rules: Rules
    way: Way
    max_tokens: int = 1024

    @property
    def reply_tokens(self) -> int:
        """The longest reply."""
        return _LETTER_TOKENS if self.way in SOFT else self.max_tokens

    def asked_pair(self, example: Example, first: str, second: str) -> Question:
        """Which of two answers, shown in this order, is better."""
        return self._question(
            example, prompting.pairwise(self.rules, self.way, example, first, second)
        )

    def asked_points(self, example: Example, answer: str) -> Question:
        """How many points an answer gets."""
        return self._question(example, prompting.rubric(self.rules, self.way, example, answer))

    def read_pair(self, reply: Answer) -> Verdict:
        """How far the answer shown first is preferred.

        Raises:
            VerdictError: no verdict can be read.
        """
        letters = (FIRST, SECOND, TIE) if self.rules.ties else (FIRST, SECOND)
        return self._verdict(
            reply,
            {one: PREFERENCES[one] for one in letters},
            lambda text: _mapped(PREFERENCES.__getitem__, verdicts.letter(text, letters)),
        )

    def read_points(self, reply: Answer) -> Verdict:
        """Points as a score from 0 to 1.

        Raises:
            VerdictError: no points can be read.
        """
        scale = self.rules.scale
        return self._verdict(
            reply,
            {str(value): scale.unit(value) for value in scale.values},
            lambda text: _mapped(scale.unit, verdicts.points(text, scale)),
        )

    def _question(self, example: Example, worded: prompting.Question) -> Question:
        soft = self.way in SOFT
        return Question(
            self.model,
            worded.messages,
            max_tokens=self.reply_tokens,
            temperature=0.0,
            seed=_SEED,
            logprobs=soft,
            data_class=example.data_class,
            structure=worded.structure,
            alternatives=ALTERNATIVES if soft else 0,
        )

    def _verdict(
        self, reply: Answer, worth: Mapping[str, float], read: Callable[[str], float | None]
    ) -> Verdict:
        if self.way in SOFT:
            weighed = verdicts.weighed(reply.beginnings, tuple(worth))
            if weighed is not None:
                return Verdict(weighed.mean(worth), weighed.mass)
        value = read(reply.text) if reply.status == "answered" else None
        if value is None:
            raise VerdictError(_unreadable(reply))
        return Verdict(value, reason=verdicts.reason(reply.text))


def way_of(wanted: str, rules: Rules, can: Set[str]) -> Way:
    """How verdicts are told: the way that is wanted, or the first one that the endpoint is able to.

    Args:
        wanted: one of `WAYS`, or `auto`: by probabilities where the endpoint can be held to a letter (our own
            engine), else in JSON where it can be held to a schema, else in the last line.
        can: the endpoint's capabilities.

    Raises:
        RequestError: the endpoint cannot, or reasons are wanted and a letter leaves no room for them.
    """
    if wanted != AUTO and wanted not in WAYS:
        there = ", ".join((AUTO, *WAYS))
        raise RequestError(
            f"A verdict is not told by {wanted[:40]!r}, but by {there}.", param="option"
        )
    single = rules.scale.high < 10 and not rules.reasons
    if wanted in SOFT and not single:
        raise RequestError(
            f"A verdict that is told by {wanted} is one letter or digit: leave reasons out and take a "
            "scale that "
            "ends at 9 or below, or take json.",
            param="option",
        )
    if wanted != AUTO:
        return _able(wanted, can)
    usual: Sequence[Way] = ("choice", "json", "words") if single else ("json", "words")
    return next(way for way in usual if can >= NEEDS[way])


def _able(way: Way, can: Set[str]) -> Way:
    missing = sorted(NEEDS[way] - can)
    if missing:
        raise RequestError(
            f"The judge cannot tell verdicts by {way}: its endpoint has no {' and no '.join(missing)}. "
            "Leave the "
            "option out, and the best way that it has is taken.",
            param="option",
        )
    return way


def _mapped(worth: Callable[[Any], float], found: Any) -> float | None:
    return None if found is None else worth(found)


def _unreadable(reply: Answer) -> str:
    if reply.status == "refused":
        return "The judge refused to judge. Choose another one."
    if reply.cut:
        return (
            "The judge's reply ended at its limit of tokens before a verdict: raise the option max_tokens "
            "of the "
            "metric, or choose another judge."
        )
    return (
        f"No verdict can be read in the judge's reply {reply.text.strip()[:80]!r}. Choose a judge that can "
        "be held to "
        "a form, or a larger one."
    )
