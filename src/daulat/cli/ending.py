"""What a conversation is held with: something that answers, and how an answer ended.

Not here: the two things that do answer (`talk`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from daulat.values.request import Message, Sampling

OnPiece = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class End:
    """How an answer came about. `speed`: tokens a second after the first, where there were two."""

    record: str
    place: str
    tokens: int
    speed: float | None


class Talk(Protocol):
    """Something that answers conversations."""

    def names(self) -> tuple[str, ...]:
        """The models that can be asked."""
        ...

    def prepare(self, model: str) -> None:
        """See that the model is there, loaded where that is ours to do.

        Raises:
            DaulatError: it cannot be had.
        """
        ...

    def answer(
        self, model: str, messages: tuple[Message, ...], sampling: Sampling, on_piece: OnPiece
    ) -> End:
        """Have it answered.

        Raises:
            DaulatError: it could not be answered, or not to its end.
            KeyboardInterrupt: it was stopped.
        """
        ...
