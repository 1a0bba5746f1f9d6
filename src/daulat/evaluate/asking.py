"""How an answer is got: whoever evaluates is handed a way to ask, and knows nothing of endpoints.

What stands behind it walks through the hall (`house.asking`): policy, budgets and the record hold for
evidence as for any other request. Not here: asking for many answers (`running`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daulat.errors import DaulatError
from daulat.values.answer import FinishReason, Usage
from daulat.values.money import Price
from daulat.values.request import Message, Structure


@dataclass(frozen=True, slots=True)
class Told:
    """An answer.

    Attributes:
        money: in `values.money`'s amounts, of all attempts; None: nobody knows. seconds: from asking to the
        end; `first_seconds`: to the first token, None where none came. logprob: mean natural-log probability
        of the answer's tokens; None: not told. endpoint: what answered; `place`: where its data goes. model:
        digest of a model here, else the endpoint's own name for it. exchange: its id in the record. refused:
        the model (or its vendor's filter) said that it will not answer. redacted: what was found in the
        prompt was replaced before it was sent there. beginnings: the likeliest first tokens with their
        natural-log probabilities, where they were asked for and
            told. probe: figures of the model's hidden states, likewise.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    money: int | None
    seconds: float
    first_seconds: float | None
    logprob: float | None
    endpoint: str
    place: str
    model: str
    exchange: str
    refused: bool = False
    redacted: bool = False
    beginnings: tuple[tuple[str, float], ...] = ()
    probe: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. `money`: what that cost all the same; `exchange`: empty where there is none in the record."""

    error: DaulatError
    money: int | None
    seconds: float
    exchange: str = ""


class Ask(Protocol):
    """Ask once."""

    async def __call__(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        logprobs: bool,
    ) -> Told:
        """The answer. What an endpoint cannot do of `seed` and `logprobs` is left out.

        Raises:
            DaulatError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one endpoint.

    Attributes:
        model: as clients name it. data_class: the class of its texts; empty: the policy's default. structure:
        the form that the answer must have; None: any. Without an endpoint that can hold to it there is
            no answer.
        alternatives: with `logprobs`, so many of the likeliest first tokens are to be told.
        probe: figures of its hidden states are welcome.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    seed: int
    logprobs: bool
    data_class: str = ""
    structure: Structure | None = None
    alternatives: int = 0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Answering:
    """What a name stands for now.

    Attributes:
        identity: digests of models here, vendors' names of models elsewhere, of all endpoints that may
            answer. Answers of another identity are other answers.
        open: all of them are open models.
        price: of the first one; None: nobody said.
        can: the capabilities that all of them have.
    """

    name: str
    identity: tuple[str, ...]
    endpoint: str
    place: str
    open: bool
    price: Price | None
    logprobs: bool
    can: frozenset[str] = frozenset()


class Asking(Protocol):
    """All that a comparison needs of the house."""

    @property
    def currency(self) -> str: ...

    async def answering(self, name: str) -> Answering:
        """What a name stands for.

        Raises:
            ModelNotFoundError: nothing has that name.
        """
        ...

    async def most(self, question: Question) -> int | None:
        """The most that an attempt at it can cost, which is what is set aside for it; None: nobody said."""
        ...

    async def tried(self, question: Question) -> Told | Failed:
        """Ask once. Only what ends the comparison (cancellation) is raised."""
        ...
