"""The engine: a thread that turns waiting sequences into answers, a step at a time.

    admit -> step -> forward -> accept -> finish

Anything may submit and cancel, from any thread; what the sequences have to say comes to their listeners
on this thread, and a listener must not block.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from daulat.engine.cache import Arena, SequenceCache
from daulat.engine.decoder import Chunk
from daulat.engine.scheduler import Limits, Scheduler, Work
from daulat.engine.sequence import GenerationSequence
from daulat.errors import DaulatError, InternalError, UnavailableError
from daulat.values.architecture import Architecture

log = logging.getLogger(__name__)


class Computer(Protocol):
    """What computes a model's steps: `engine.decoder` or `engine.native.decoder`."""

    @property
    def architecture(self) -> Architecture: ...
    def new_arena(self) -> Arena: ...
    def forward(self, chunks: Sequence[Chunk]) -> Tensor: ...


class Engine:
    """One model at work.

    Args:
        decoder: the model.
        limits: how much at once.
        name: for the log and the thread.
    """

    def __init__(self, decoder: Computer, limits: Limits, name: str) -> None:
        self.architecture = decoder.architecture
        self._decoder = decoder
        arena = decoder.new_arena()
        self._scheduler = Scheduler(limits, lambda: SequenceCache(arena))
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._scheduler.waiting

    @property
    def running(self) -> int:
        return self._scheduler.running

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

    def close(self) -> None:
        """Stop after the step in progress; answers not complete fail."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                self._step(work)
            except Exception as error:
                self._fail(work, error)
        with self._change:
            left = self._scheduler.drain()
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
                if work:
                    return work
                self._change.wait()

    def _step(self, work: Sequence[Work]) -> None:
        chunks = [Chunk(part.tokens, part.cache, part.written) for part in work]
        logits = self._decoder.forward(chunks).numpy()
        for part, row in zip(work, logits, strict=True):
            if part.sequence.cancelled:
                continue
            try:
                part.sequence.accept(len(part.tokens), row)
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
