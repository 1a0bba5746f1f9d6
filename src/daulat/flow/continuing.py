"""An answer that was cut, and what is asked of who goes on with it: the same words, and then the rest.

Not here: who goes on (`attempts`), how an endpoint does it (`ChatRequest.begun`).
"""

from __future__ import annotations

from dataclasses import replace

from daulat.flow.attempt import Outcome
from daulat.values.answer import CallPiece, Event, Finish, Piece, Usage
from daulat.values.request import ChatRequest, GenerationRequest
from daulat.values.tokens import counted


class Given:
    """What a client has got of an answer.

    Attributes:
        text: as the endpoints said it.
        plain: nothing but text of one choice that is not finished.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.plain = True
        self._cut: list[Usage] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, event: Event) -> None:
        match event:
            case Piece(choice=0, kind="text"):
                self._parts.append(event.text)
            case Piece() | CallPiece() | Finish():
                self.plain = False
            case _:
                pass

    def cut(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._cut.append(outcome.usage)

    def whole(self, last: Usage) -> Usage:
        """The usage of an answer that several endpoints gave: the prompt once, all of the words."""
        if not self._cut:
            return last
        words = sum(usage.completion_tokens for usage in self._cut)
        # Of the first, or, where it said nothing of it, of the next.
        prompt = next(u.prompt_tokens for u in [*self._cut, last] if u.prompt_tokens or u is last)
        return Usage(prompt, words + last.completion_tokens, counted=True)


def continuable(request: GenerationRequest, text: str) -> bool:
    """Whether what comes behind the text is all that the request asks for besides."""
    return (
        isinstance(request, ChatRequest)
        and request.sampling.n == 1
        and request.sampling.logprobs is None
        and not request.sampling.probe
        and request.structure is None
        and request.tools is None
        # Who goes on would not see the first half of a stop text.
        and not any(
            text.endswith(stop[:size])
            for stop in request.sampling.stop
            for size in range(1, len(stop))
        )
    )


def going_on(request: GenerationRequest, text: str) -> GenerationRequest:
    """What is asked of who goes on behind the text."""
    assert isinstance(request, ChatRequest)  # noqa: S101 - `continuable` has seen to that
    most = request.sampling.max_tokens
    if most is not None:
        most = max(1, most - counted(text))
    return replace(request, begun=text, sampling=replace(request.sampling, max_tokens=most))
