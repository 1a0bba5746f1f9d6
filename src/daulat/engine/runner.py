"""The engine: a thread that turns waiting sequences into answers, a step at a time.

    admit -> step -> forward -> accept -> finish

Anything may submit and cancel, from any thread; what the sequences have to say comes to their listeners
on this thread, and a listener must not block.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from daulat.engine.blocks import Blocks
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.rows import rows_of
from daulat.engine.scheduler import Limits, Scheduler, Work
from daulat.engine.sequence import GenerationSequence
from daulat.engine.step import Chunk, Computer
from daulat.errors import DaulatError, InternalError, UnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Generator[None, None, T]
"""Work in steps: each `yield` gives way to those who write."""


class Engine:
    """One model at work.

    Args:
        decoder: the model.
        limits: how much at once.
        name: for the log and the thread.

    Attributes:
        at_once: answers that are computed together at most.
        reads_as_it_writes: the decoder's (`step.Computer`).
    """

    def __init__(self, decoder: Computer, limits: Limits, name: str) -> None:
        self.architecture = decoder.architecture
        self.reads_as_it_writes = decoder.reads_as_it_writes
        self._decoder = decoder
        self.at_once = limits.sequences
        memory = decoder.new_memory(limits.cache_tokens // BLOCK_TOKENS)
        self._scheduler = Scheduler(
            limits,
            lambda: SequenceCache(memory),
            reads_as_it_writes=decoder.reads_as_it_writes,
            reads_at_once=decoder.reads_at_once,
        )
        self._change = threading.Condition()
        self._closed = False
        self._jobs: deque[tuple[Job[Any], Future[Any]]] = deque()
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._scheduler.waiting

    @property
    def running(self) -> int:
        return self._scheduler.running

    @property
    def blocks(self) -> Blocks:
        """The cache's, for those who count."""
        return self._scheduler.blocks

    def submit(self, sequences: Sequence[GenerationSequence]) -> None:
        """Queue the answers of one request, all or none.

        Raises:
            BusyError: the queue is full.
            RequestError: more tokens than the cache can ever hold.
            UnavailableError: the engine is closed.
        """
        with self._change:
            if self._closed:
                raise UnavailableError("The model is being unloaded. Try again.")
            self._scheduler.submit(sequences)
            self._change.notify()

    def cancel(self, sequences: Sequence[GenerationSequence]) -> None:
        """Free the places of answers that nobody waits for any more."""
        with self._change:
            for sequence in sequences:
                sequence.cancelled = True
            self._change.notify()

    def do(self, work: Callable[[Computer], Job[T]]) -> Future[T]:
        """Have the engine's thread do work on the model, a step of it for each step of the answers.

        Jobs are done one after the other; a cancelled one is dropped at its next step. Its caches are not
        counted among those of the answers: it bounds them itself (`scoring`).

        Raises:
            UnavailableError: the engine is closed.
        """
        future: Future[T] = Future()
        with self._change:
            if self._closed:
                raise UnavailableError("The model is being unloaded. Try again.")
            self._jobs.append((work(self._decoder), future))
            self._change.notify()
        return future

    def close(self) -> None:
        """Stop after the step in progress; answers not complete fail."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                if work:
                    self._step(work)
            except Exception as error:
                self._fail(work, error)
            self._go_on()
        with self._change:
            left = self._scheduler.drain()
            jobs = list(self._jobs)
        for job, future in jobs:
            job.close()
            error = UnavailableError("The model is being unloaded. Try again.")
            _settle(future, lambda future=future, error=error: future.set_exception(error))
        for sequence in left:
            sequence.fail(UnavailableError("The server is shutting down. Try again later."))

    def _next(self) -> list[Work] | None:
        """Wait for work; None when the engine is closed."""
        with self._change:
            while True:
                self._scheduler.finish()
                if self._closed:
                    return None
                self._scheduler.admit()
                work = self._scheduler.step()
                if work or self._jobs:
                    return work
                self._change.wait()

    def _go_on(self) -> None:
        """One step of the first job."""
        with self._change:
            if not self._jobs:
                return
            job, future = self._jobs[0]
        try:
            if future.cancelled():
                job.close()
            else:
                next(job)
                return
        except StopIteration as end:
            _settle(future, lambda result=end.value: future.set_result(result))
        except Exception as error:
            _settle(future, lambda error=error: future.set_exception(error))
        with self._change:
            self._jobs.popleft()

    def _step(self, work: Sequence[Work]) -> None:
        chunks = [
            Chunk(
                part.tokens,
                part.cache,
                part.sequence.adapter,
                part.sequence.wanted(len(part.tokens)),
                part.written,
            )
            for part in work
        ]
        probed = any(part.sequence.probed for part in work)
        for found in rows_of(self._decoder, chunks, states=probed):
            part, chunk = work[found.chunk], chunks[found.chunk]
            if part.sequence.cancelled or part.sequence.ended:
                continue
            try:
                if chunk.wanted is not None:
                    part.sequence.read(found.logits)
                if found.last:
                    state = None if found.states is None else found.states[-1]
                    part.sequence.accept(len(part.tokens), found.logits[-1], state)
            except Exception as error:
                self._fail([part], error)

    def _fail(self, work: Sequence[Work], error: Exception) -> None:
        """A defect or a broken model ends these answers, not the engine."""
        if not isinstance(error, DaulatError):
            log.exception("a step of the engine failed")
            error = InternalError("The model could not go on; the server's log says why.")
        for part in work:
            if not part.sequence.ended:
                part.sequence.fail(error)


def _settle(future: Future[Any], say: Callable[[], None]) -> None:
    """Unless it was cancelled in the meantime."""
    if future.set_running_or_notify_cancel():
        say()
