"""Asks several endpoints the same examples, side by side, and stops cleanly: at the end, a budget, a fault.

The same example is asked of all endpoints at once, so that what changes with the hour changes for all;
examples come in an order drawn from a seed, so that whatever was answered when it stops is a fair part of the
task. What was answered before is not asked again. Retries are the hall's; this waits where somebody asks to
be left alone for a while.

Not here: what the answers say (`comparing`), what they may cost (`estimating`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from daulat.errors import (
    BudgetError,
    BusyError,
    DaulatError,
    InternalError,
    LimitError,
    PermissionDeniedError,
    UnavailableError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.evaluate.answers import Answer, Answers, key_of
from daulat.evaluate.asking import Answering, Asking, Failed, Question, Told
from daulat.evaluate.examples import Example

IN_A_ROW: Final = 20
"""After so many failures of one endpoint, one behind the other, nothing more is asked."""
AT_FIRST: Final = 5
"""The same for an endpoint that has not answered at all yet."""
_WAITS: Final = 5
_WAITS_FOR_THE_ILL: Final = 1
"""Of an endpoint that the hall leaves alone because it failed, and not because it asked for that."""
_LONGEST_WAIT: Final = 60.0
"""Seconds; who asks for more is waited for that long, and then asked."""
_NEVER: Final = 3_600.0
"""Who names so many seconds means that waiting does not help."""
_SAMPLE_SEEDS: Final = 1_000_003

Ending = Literal["done", "budget", "failing"]


@dataclass(frozen=True, slots=True)
class How:
    """How endpoints are asked.

    Attributes:
        samples: further answers of each endpoint in `samples_of` (empty: of all), at `sample_temperature`.
        seed: of the order of examples, and of answers where an endpoint takes one.
        concurrency: examples at a time.
        since: answers older than that (seconds since 1970) are asked for again.
    """

    endpoints: tuple[str, ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    samples: int = 0
    samples_of: tuple[str, ...] = ()
    sample_temperature: float = 0.7
    concurrency: int = 4
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One question that wants an answer."""

    key: str
    example: str
    sample: int
    question: Question


@dataclass(frozen=True, slots=True)
class Ended:
    """Why it stopped. `why`: the words of whoever stopped it."""

    how: Ending
    why: str = ""


@dataclass(slots=True)
class Tally:
    """What became of one endpoint's questions so far, those of earlier runs too. Money in amounts."""

    wanted: int = 0
    answered: int = 0
    refused: int = 0
    barred: int = 0
    failed: int = 0
    money: int = 0
    in_a_row: int = 0

    @property
    def done(self) -> int:
        """Questions that have an outcome."""
        return self.answered + self.refused + self.barred + self.failed

    def add(self, answer: Answer) -> None:
        """Count an outcome."""
        setattr(self, answer.status, getattr(self, answer.status) + 1)
        self.money += answer.money or 0


def in_order(examples: Iterable[Example], seed: int, limit: int | None = None) -> list[Example]:
    """The examples in the order that the seed draws; a smaller limit takes the beginning of a larger one's."""

    def place(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}:{example.id}".encode("utf-8", "surrogatepass")).digest()

    return sorted(examples, key=place)[:limit]


def jobs(example: Example, how: How, answering: Mapping[str, Answering]) -> Iterator[Job]:
    """All questions of one example, endpoint by endpoint."""
    for name in how.endpoints:
        sampled = how.samples if not how.samples_of or name in how.samples_of else 0
        for sample in range(1 + sampled):
            question = Question(
                name,
                example.messages,
                how.max_tokens,
                how.sample_temperature if sample else how.temperature,
                how.seed + sample * _SAMPLE_SEEDS,
                logprobs=not sample and answering[name].logprobs,
                data_class=example.data_class,
                probe=not sample and "probe" in answering[name].can,
            )
            yield Job(key_of(question, answering[name], sample), example.id, sample, question)


class Run:
    """One run over some questions.

    Args:
        every: the questions of each example, which are asked at once.
        names: of the endpoints that they are for.
        concurrency: examples at a time.
        since: see `How`.
        on: called after each outcome, with the endpoint's name.

    Attributes:
        tallies: by endpoint.
    """

    def __init__(
        self,
        asking: Asking,
        answers: Answers,
        every: Iterable[Iterable[Job]],
        names: Sequence[str],
        *,
        concurrency: int = 4,
        since: float = 0.0,
        on: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.tallies = {name: Tally() for name in names}
        self._asking = asking
        self._answers = answers
        self._concurrency = concurrency
        self._since = since
        self.on = on
        self._places = {name: asyncio.Semaphore(concurrency) for name in names}
        self._at_work = 0
        self._changed = asyncio.Event()
        self._ended: Ended | None = None
        self._open = [list(self._left(jobs)) for jobs in every]

    def questions(self) -> Iterator[Question]:
        """What is to be asked still, when it is begun."""
        return (job.question for group in self._open for job in group)

    async def go(self) -> Ended:
        """Ask what is to be asked.

        Cancelled, it gives up what is under way; all that was answered is kept.

        Raises:
            RequestError: answers cannot be written.
        """
        waiting = iter([group for group in self._open if group])
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._concurrency):
                    tasks.create_task(self._work(waiting))
        except ExceptionGroup as group:
            raise _first(group) from group
        return self._ended or Ended("done")

    def _left(self, every: Iterable[Job]) -> Iterator[Job]:
        """The questions without an answer; the others are counted."""
        for job in every:
            tally = self.tallies[job.question.model]
            tally.wanted += 1
            known = self._answers.get(job.key, self._since)
            if known is not None and known.final:
                tally.add(known)
            else:
                yield job

    async def _work(self, waiting: Iterator[list[Job]]) -> None:
        """One example after the other, each with all its endpoints at once."""
        for group in waiting:
            if self._ended is not None:
                return
            async with asyncio.TaskGroup() as tasks:
                for job in group:
                    tasks.create_task(self._asked(job))

    async def _asked(self, job: Job) -> None:
        name = job.question.model
        async with self._places[name]:
            found = await self._outcome(job.question)
        if found is None:
            return
        answer = _answer(job, found)
        self._answers.add(answer)
        self._count(name, answer, found)

    async def _outcome(self, question: Question) -> Told | Failed | None:
        """What came of a question; None: it is not asked any more."""
        waits = 0
        while self._ended is None:
            found = await self._tried(question)
            error = found.error if isinstance(found, Failed) else None
            if isinstance(error, BudgetError):
                await self._after_others(error)
                continue
            wait = _wait(error)
            ill = isinstance(error, UpstreamUnavailableError)
            if wait is None or waits == (_WAITS_FOR_THE_ILL if ill else _WAITS):
                return found
            waits += 1
            await asyncio.sleep(wait)
        return None

    async def _tried(self, question: Question) -> Told | Failed:
        self._at_work += 1
        try:
            return await self._asking.tried(question)
        finally:
            self._at_work -= 1
            self._changed.set()
            self._changed = asyncio.Event()

    async def _after_others(self, error: BudgetError) -> None:
        """A budget did not cover the most that it might need. What others have set aside may come back."""
        if not self._at_work:
            self._ended = self._ended or Ended("budget", error.message)
        else:
            await self._changed.wait()

    def _count(self, name: str, answer: Answer, found: Told | Failed) -> None:
        tally = self.tallies[name]
        tally.add(answer)
        tally.in_a_row = tally.in_a_row + 1 if _is_fault(found) else 0
        if tally.in_a_row >= (IN_A_ROW if tally.answered else AT_FIRST):
            why = f"{name} failed {tally.in_a_row} times in a row: {answer.text}"
            self._ended = self._ended or Ended("failing", why)
        self.on(name)


def _is_fault(found: Told | Failed) -> bool:
    """Whether it is the endpoint that is at fault, and not what it was asked."""
    return (
        isinstance(found, Failed)
        and isinstance(found.error, UpstreamError | UnavailableError | InternalError)
        and not isinstance(found.error, UpstreamRequestError)
    )


def _first(error: Exception) -> Exception:
    """What ended the work, out of the groups that it comes in."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error


def _wait(error: DaulatError | None) -> float | None:
    """Seconds after which to ask again, where somebody says so; None: it is an outcome."""
    match error:
        case LimitError() | BusyError() | UpstreamBusyError() | UpstreamUnavailableError():
            after = error.retry_after
        case _:
            return None
    return min(max(0.1, after), _LONGEST_WAIT) if after and after < _NEVER else None


def _answer(job: Job, found: Told | Failed) -> Answer:
    now = time.time()
    name = job.question.model
    if isinstance(found, Failed):
        barred = isinstance(found.error, PermissionDeniedError)
        return Answer(
            *(job.key, job.example, name, job.sample, "barred" if barred else "failed"),
            *(found.error.message, found.error.code, found.money, found.seconds, now),
            exchange=found.exchange,
        )
    return Answer(
        *(job.key, job.example, name, job.sample, "refused" if found.refused else "answered"),
        *(_sound(found.text), found.finish_reason, found.money, found.seconds, now),
        first_seconds=found.first_seconds,
        logprob=found.logprob,
        prompt_tokens=found.usage.prompt_tokens,
        completion_tokens=found.usage.completion_tokens,
        counted=found.usage.counted,
        by=found.endpoint,
        place=found.place,
        model=found.model,
        exchange=found.exchange,
        redacted=found.redacted,
        beginnings=found.beginnings,
        probe=found.probe,
    )


def _sound(text: str) -> str:
    """The text as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode("utf-8")
