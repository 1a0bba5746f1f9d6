"""Whatever answers a request, behind one protocol. One module per kind of upstream.

Not here: whether an endpoint may be asked (`policy`), in which order (`route`), what is kept (`record`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from daulat.values.answer import Embeddings, Heard, Moderations
from daulat.values.plan import Caller, EndpointCard, Step
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    ModerationRequest,
)


class Endpoint(Protocol):
    """Something that answers."""

    @property
    def card(self) -> EndpointCard: ...

    def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Heard, None]:
        """Answer as a stream that ends with one `Done`.

        What is wrong with the request comes as an error before the first event. Closing the
        generator cancels the work at once. Nothing that is kept of one caller's request may show in
        another's answer, not even by its speed.

        Raises:
            DaulatError: as the tree says.
        """
        ...

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        """One vector per input.

        Raises:
            DaulatError: as the tree says.
        """
        ...

    async def moderate(self, request: ModerationRequest, step: Step) -> Moderations:
        """One judgement per input.

        Raises:
            DaulatError: as the tree says.
        """
        ...

    async def close(self) -> None:
        """Let go of models and connections."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An endpoint that can count a prompt's tokens exactly, without answering and without leaving the house."""

    async def count(self, request: ChatRequest, step: Step) -> int:
        """How many tokens the prompt of this request has.

        Raises:
            DaulatError: as the tree says.
        """
        ...
