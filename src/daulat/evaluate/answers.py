"""What was answered to a task: a file that only grows, a line an outcome, found by what was asked of whom.

The key of an answer is the digest of the request, the endpoint's name and what stands behind it: who asks the
same again gets what was answered, whatever stopped the comparison before. A line that a crash tore at the
file's end is dropped; what is damaged elsewhere is told. Failures are kept for the books, and are asked for
again.

Not here: asking (`running`), scores: they are made anew from answers.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import msgspec

from daulat.canon import canonical, digest
from daulat.errors import RequestError, UnavailableError
from daulat.evaluate.asking import Answering, Question

Status = Literal["answered", "refused", "barred", "failed"]
"""An answer; the model's own refusal; no place may have the text, says the policy; an error."""

_MAX_LINE: Final = 64 << 20
_FINAL: Final = ("answered", "refused")


@dataclass(frozen=True, slots=True)
class Answer:
    """One outcome of one question.

    Attributes:
        key: see `key_of`.
        sample: 0: the answer that counts; from 1: further ones for self-agreement.
        text: the answer, or the words of a refusal; of a failure the error's message.
        code: of a failure, the error's; else why the answer ended (`stop`, `length`, `content_filter`).
        money: in `values.money`'s amounts; None: nobody knows.
        first_seconds, logprob: None where unknown.
        by, place, model: what answered.
        exchange: its id in the record; empty: none was opened.
        beginnings: the likeliest first tokens with their log-probabilities, where they were asked for.
        probe: figures of the model's hidden states, where it tells them.
        time: seconds since 1970.
    """

    key: str
    example: str
    endpoint: str
    sample: int
    status: Status
    text: str
    code: str
    money: int | None
    seconds: float
    time: float
    first_seconds: float | None = None
    logprob: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted: bool = False
    by: str = ""
    place: str = ""
    model: str = ""
    exchange: str = ""
    redacted: bool = False
    beginnings: tuple[tuple[str, float], ...] = ()
    probe: tuple[float, ...] = ()

    @property
    def final(self) -> bool:
        """Whether asking again would tell nothing new."""
        return self.status in _FINAL

    @property
    def cut(self) -> bool:
        """Whether it ended because it was as long as it may be."""
        return self.status == "answered" and self.code == "length"


def key_of(question: Question, answering: Answering, sample: int) -> str:
    """What is asked, of whom, for the how-manieth time."""
    told: dict[str, Any] = {
        "messages": [[m.role, m.content] for m in question.messages],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "seed": question.seed,
        "class": question.data_class,
        "endpoint": answering.name,
        "identity": list(answering.identity),
        "sample": sample,
    }
    if question.structure is not None:
        told["structure"] = [question.structure.kind, question.structure.source]
    if question.alternatives:
        told["alternatives"] = question.alternatives
    return digest(canonical(told))


class Answers:
    """The answers to a task, open for one comparison at a time. A context manager.

    Raises:
        UnavailableError: another comparison has them.
        RequestError: the file is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Answer] = {}
        self._file = -1

    def __enter__(self) -> Answers:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise UnavailableError(
                "Another comparison of this task is running. Wait for its end, or stop it."
            ) from error
        except OSError as error:
            raise RequestError(f"{self._path} cannot be written: {error.strerror}.") from error
        try:
            self._mend()
            for number, line in enumerate(self._lines(), 1):
                self._keep(_answer(line, f"{self._path}, line {number}"))
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def get(self, key: str, since: float = 0.0) -> Answer | None:
        """The newest outcome of a question that is not older than that; an answer goes before a failure.

        Args:
            since: seconds since 1970.
        """
        found = self._found.get(key)
        return found if found is not None and found.time >= since else None

    def all(self) -> Iterable[Answer]:
        """The newest outcome of every question."""
        return self._found.values()

    def add(self, answer: Answer) -> None:
        """Keep an outcome: when this returns, the end of this process cannot lose it.

        Raises:
            RequestError: it cannot be written.
        """
        data = canonical(_told(answer)) + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise RequestError(
                f"{self._path} cannot be written ({error.strerror}): free disk space and run it again. "
                "What was answered before is kept."
            ) from error
        self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        known = self._found.get(answer.key)
        if known is None or answer.final or not known.final:
            self._found[answer.key] = answer

    def _mend(self) -> None:
        """Drop a last line that has no end."""
        size = os.fstat(self._file).st_size
        at = size
        while at > 0:
            begin = max(0, at - (1 << 16))
            end = os.pread(self._file, at - begin, begin).rfind(b"\n")
            if end >= 0:
                at = begin + end + 1
                break
            at = begin
        if at < size:
            os.ftruncate(self._file, at)

    def _lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while line := file.readline(_MAX_LINE):
                yield line


def _told(answer: Answer) -> dict[str, Any]:
    """What is at its default is left out."""
    return {name: v for name, v in asdict(answer).items() if v != _DEFAULTS.get(name, _ALWAYS)}


_ALWAYS: Final = object()
_DEFAULTS: Final = {f.name: f.default for f in fields(Answer) if f.default is not MISSING}
_DECODER: Final = msgspec.json.Decoder(Answer)


def _answer(line: bytes, where: str) -> Answer:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"{where} is no answer that we wrote ({str(error)[:120]}): remove that line, and what it held is "
            "asked again."
        ) from error
