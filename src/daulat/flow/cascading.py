"""A whole answer as those see it who judge whether it is kept or another endpoint is asked as well.

Not here: the judgement (`route.learning`), what follows from it (`attempts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from daulat.values.answer import CallPiece, Event, Finish, Piece


@dataclass(frozen=True, slots=True)
class Said:
    """One answer.

    Attributes:
        text: of the first choice.
        logprob: mean natural-log probability of its tokens; None where they were not told.
        probe: figures of the hidden states that it was written from; None where they were not told.
        plain: it is one text, whole or cut at its limit: no calls, no refusal.
    """

    text: str
    logprob: float | None
    plain: bool
    probe: tuple[float, ...] | None = None


Keep = Callable[[Said], bool]
"""Whether an answer is good enough."""


def said(events: Iterable[Event]) -> Said:
    """What some events say together."""
    parts: list[str] = []
    logprobs: list[float] = []
    plain, probe = True, None
    for event in events:
        match event:
            case Piece(choice=0, kind="text"):
                parts.append(event.text)
                logprobs += [token.logprob for token in event.logprobs]
            case Finish(choice=0, reason="stop" | "length"):
                probe = event.probe or None
            case Piece(choice=0, kind="thought"):
                pass
            case Piece() | CallPiece() | Finish():
                plain = False
            case _:
                pass
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return Said("".join(parts), mean, plain, probe)
