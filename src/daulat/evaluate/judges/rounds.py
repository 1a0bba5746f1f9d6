"""A judge's round over a comparison: what it is asked about which answers, and what its verdicts add up to.

Two answers are judged in both orders, each pair of endpoints on every example of which both have answered;
the same text twice is a tie, and nobody is asked. What could not be read, and what was not answered, is
counted and left out. Not here: asking (`daulat.evaluate.running`), intervals (`daulat.statistics`).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from daulat.errors import DataError, VerdictError
from daulat.evaluate.answers import Answer, key_of
from daulat.evaluate.asking import Answering, Question
from daulat.evaluate.examples import Example
from daulat.evaluate.judges.judge import Judge, Verdict
from daulat.evaluate.running import Job
from daulat.evaluate.tasks import write_text
from daulat.route.learning.outcomes import Outcomes
from daulat.statistics.special import FloatArray

Pair = tuple[str, str]
Kind = Literal["pairwise", "rubric"]
Get = Callable[[str], Answer | None]
"""The outcome of a question by its key; None: it was not asked."""

TIE: Final = 0.5
_MOST_WORDS: Final = 5
"""Unreadable replies whose words are told."""


@dataclass(slots=True)
class Count:
    """What became of a judge's questions.

    Attributes:
        verdicts: that were read.
        same: pairs of equal texts, which nobody was asked about.
        unreadable: replies in which no verdict can be read; `words`: why, of the first few.
        unanswered: questions without a reply.
        mass: how probable verdicts were among all replies, added up; `weighed`: over so many.
    """

    verdicts: int = 0
    same: int = 0
    unreadable: int = 0
    unanswered: int = 0
    mass: float = 0.0
    weighed: int = 0
    words: list[str] = field(default_factory=list[str])

    @property
    def mean_mass(self) -> float | None:
        """None: no probabilities were told."""
        return self.mass / self.weighed if self.weighed else None


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts on a comparison.

    Attributes:
        scores: [n, k] from 0 to 1: points, or how far an endpoint is preferred to the others on average; NaN:
            no verdict.
        first, second: of each pair of endpoints, [n]: how far the first of them is preferred where its answer
        is
            shown first, and second. NaN: no verdict. Empty, where points are given.
        reasons: by example, in the judge's words, where it was asked for reasons.
    """

    scores: FloatArray
    first: Mapping[Pair, FloatArray]
    second: Mapping[Pair, FloatArray]
    count: Count
    reasons: Mapping[str, Sequence[str]]

    def preferences(self) -> Mapping[Pair, FloatArray]:
        """[n] mean of both orders; NaN: a verdict is missing."""
        return {pair: (self.first[pair] + self.second[pair]) / 2 for pair in self.first}


NO_VERDICTS: Final = Judged(np.zeros((0, 0)), {}, {}, Count(), {})


class Round:
    """What a judge is asked about one set of answers.

    Args:
        answering: what stands behind the judge's name.
        texts: [n][k] answers, None: there is none.
    """

    def __init__(
        self,
        judge: Judge,
        kind: Kind,
        answering: Answering,
        examples: Sequence[Example],
        endpoints: Sequence[str],
        texts: Sequence[Sequence[str | None]],
    ) -> None:
        self.judge = judge
        self.kind: Kind = kind
        self._answering = answering
        self._examples = examples
        self._endpoints = tuple(endpoints)
        self._texts = texts

    def jobs(self) -> Iterator[list[Job]]:
        """The questions, example by example."""
        for row, example in enumerate(self._examples):
            asked = self._pairs(row) if self.kind == "pairwise" else self._points(row)
            yield [self._job(example, question) for question in asked]

    def judged(self, get: Get) -> Judged:
        """What the replies say."""
        if self.kind == "pairwise":
            return self._judged_pairs(get)
        return self._judged_points(get)

    def replies(self, get: Get) -> Iterator[Answer]:
        """Everything that the judge has said to these answers."""
        for jobs in self.jobs():
            for job in jobs:
                if (reply := get(job.key)) is not None:
                    yield reply

    # --- points -------------------------------------------------------------------------------------

    def _points(self, row: int) -> Iterator[Question]:
        for text in self._texts[row]:
            if text is not None:
                yield self.judge.asked_points(self._examples[row], text)

    def _judged_points(self, get: Get) -> Judged:
        count, reasons = Count(), dict[str, list[str]]()
        scores = np.full((len(self._examples), len(self._endpoints)), np.nan)
        for row, example in enumerate(self._examples):
            for column, text in enumerate(self._texts[row]):
                if text is None:
                    continue
                reply = get(self._key(self.judge.asked_points(example, text)))
                verdict = _read(reply, self.judge.read_points, count)
                if verdict is not None:
                    scores[row, column] = verdict.value
                    _reasoned(reasons, example, verdict)
        return Judged(scores, {}, {}, count, reasons)

    # --- pairs --------------------------------------------------------------------------------------

    def _columns(self) -> Iterator[tuple[int, int]]:
        return itertools.combinations(range(len(self._endpoints)), 2)

    def _both(self, row: int, one: int, other: int) -> tuple[Question, Question] | None:
        """The pair in both orders; None: an answer is missing, or they are the same."""
        a, b = self._texts[row][one], self._texts[row][other]
        if a is None or b is None or a == b:
            return None
        example = self._examples[row]
        return self.judge.asked_pair(example, a, b), self.judge.asked_pair(example, b, a)

    def _pairs(self, row: int) -> Iterator[Question]:
        for one, other in self._columns():
            yield from self._both(row, one, other) or ()

    def _judged_pairs(self, get: Get) -> Judged:
        n, names = len(self._examples), self._endpoints
        count, reasons = Count(), dict[str, list[str]]()
        first: dict[Pair, FloatArray] = {}
        second: dict[Pair, FloatArray] = {}
        for one, other in self._columns():
            pair = names[one], names[other]
            first[pair], second[pair] = np.full(n, np.nan), np.full(n, np.nan)
            for row, example in enumerate(self._examples):
                asked = self._both(row, one, other)
                if asked is None:
                    if self._texts[row][one] is not None and self._texts[row][other] is not None:
                        first[pair][row] = second[pair][row] = TIE
                        count.same += 1
                    continue
                replies = [get(self._key(question)) for question in asked]
                early, late = (_read(one, self.judge.read_pair, count) for one in replies)
                if early is not None:
                    first[pair][row] = early.value
                    _reasoned(reasons, example, early)
                if late is not None:
                    second[pair][row] = 1 - late.value
                    _reasoned(reasons, example, late)
        found = Judged(np.zeros((0, 0)), first, second, count, reasons)
        scores = _mean_preferences(found.preferences(), names, n)
        return Judged(scores, first, second, count, reasons)

    # --- keys ---------------------------------------------------------------------------------------

    def _job(self, example: Example, question: Question) -> Job:
        return Job(self._key(question), example.id, 0, question)

    def _key(self, question: Question) -> str:
        return key_of(question, self._answering, 0)


def keep_preferences(path: Path, judged: Judged, ids: Sequence[str]) -> None:
    """Write the verdicts on pairs, an example and a pair a line; without any there is no file.

    Args:
        ids: of the examples.
    """
    if not judged.first:
        path.unlink(missing_ok=True)
        return
    lines: list[str] = []
    for (a, b), first in judged.first.items():
        for own, early, late in zip(ids, first, judged.second[a, b], strict=True):
            told = {"example": own, "a": a, "b": b, "first": _known(early), "second": _known(late)}
            lines.append(json.dumps(told, ensure_ascii=False))
    write_text(path, "".join(f"{line}\n" for line in lines))


def preferences(path: Path, table: Outcomes) -> Mapping[Pair, FloatArray]:
    """What `keep_preferences` wrote, for a table: how far the first endpoint of each pair, in the table's
    order, is preferred, [n], NaN: no verdict.

    Raises:
        DataError: the file is damaged.
    """
    rows = {own: row for row, own in enumerate(table.ids)}
    place = {name: column for column, name in enumerate(table.endpoints)}
    found: dict[Pair, FloatArray] = {}
    for number, told in enumerate(_lines(path), 1):
        row = rows.get(told.example)
        if row is None or told.a not in place or told.b not in place:
            continue
        if told.first is None or told.second is None:
            continue
        value = (told.first + told.second) / 2
        if not 0 <= value <= 1:
            raise DataError(f"{path.name}, line {number} has a verdict that is not from 0 to 1.")
        turned = place[told.a] > place[told.b]
        pair = (told.b, told.a) if turned else (told.a, told.b)
        column = found.setdefault(pair, np.full(len(table), np.nan))
        column[row] = 1 - value if turned else value
    return found


@dataclass(frozen=True, slots=True)
class _Line:
    example: str
    a: str
    b: str
    first: float | None
    second: float | None


_DECODER: Final = msgspec.json.Decoder(_Line)


def _lines(path: Path) -> Iterator[_Line]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _DECODER.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise DataError(
                        f"{path.name}, line {number} is no verdict ({str(error)[:120]}): compare again, "
                        "and the file "
                        "is written anew."
                    ) from error
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def related(judge: Answering, compared: Mapping[str, Answering]) -> tuple[str, ...]:
    """The compared endpoints behind which the judge itself stands: it may prefer its own words (A.
    Panickssery, S. R. Bowman, S. Feng, "LLM evaluators recognize and favor their own generations",
    arXiv:2404.13076)."""
    own = _models(judge)
    return tuple(name for name, one in compared.items() if own & _models(one))


def _models(answering: Answering) -> set[str]:
    """The models, wherever they are: what stands behind the endpoint's name."""
    return {one.partition("/")[2].rpartition("/")[2].casefold() for one in answering.identity}


def _read(reply: Answer | None, read: Callable[[Answer], Verdict], count: Count) -> Verdict | None:
    if reply is None or not reply.final:
        count.unanswered += 1
        return None
    try:
        verdict = read(reply)
    except VerdictError as error:
        count.unreadable += 1
        if len(count.words) < _MOST_WORDS and error.message not in count.words:
            count.words.append(error.message)
        return None
    count.verdicts += 1
    if verdict.mass is not None and math.isfinite(verdict.mass):
        count.mass += verdict.mass
        count.weighed += 1
    return verdict


def _reasoned(reasons: dict[str, list[str]], example: Example, verdict: Verdict) -> None:
    if verdict.reason:
        reasons.setdefault(example.id, []).append(verdict.reason)


def _mean_preferences(
    preferences: Mapping[Pair, FloatArray], names: Sequence[str], n: int
) -> FloatArray:
    """[n, k]: how far each endpoint is preferred to those others of which there is a verdict, on average."""
    place = {name: column for column, name in enumerate(names)}
    sums, counts = np.zeros((n, len(names))), np.zeros((n, len(names)))
    for (one, other), preferred in preferences.items():
        known = ~np.isnan(preferred)
        value = np.where(known, preferred, 0.0)
        sums[:, place[one]] += value
        sums[:, place[other]] += np.where(known, 1 - value, 0.0)
        counts[:, [place[one], place[other]]] += known[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
