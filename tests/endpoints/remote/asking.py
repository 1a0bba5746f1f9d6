"""What these tests ask with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daulat.endpoints.remote.upstream import RemoteEndpoint
from daulat.values.answer import Done, Finish, Heard, Metered, Piece
from daulat.values.plan import Caller, Step
from daulat.values.request import ChatRequest, GenerationRequest, Message

CALLER = Caller("test", "test")


@dataclass(slots=True)
class Asked:
    """An endpoint with what came of it."""

    endpoint: RemoteEndpoint
    heard: list[Heard] = field(default_factory=list[Heard])

    async def ask(self, request: GenerationRequest) -> list[Heard]:
        """All events; those that came before an error are in `heard`."""
        self.heard.clear()
        async for one in self.endpoint.generate(request, step(request.model), CALLER):
            self.heard.append(one)
        return list(self.heard)


def step(model: str) -> Step:
    """To the endpoint that these tests ask, by the model's own name."""
    return Step("scripted", "this-machine", "closed", model, "", upstream=model)


def chat(model: str = "scripted", text: str = "Where?", **more: Any) -> ChatRequest:
    """A request of one message."""
    return ChatRequest(model, (Message("user", text),), **more)


def text(heard: list[Heard]) -> str:
    """What the first choice says."""
    return "".join(one.text for one in heard if isinstance(one, Piece) and one.choice == 0)


def ended(heard: list[Heard]) -> bool:
    """Whether that is a whole answer: a finish, and then nothing but `Metered` and one `Done`."""
    kinds = [type(one) for one in heard if not isinstance(one, Metered)]
    return kinds[-2:] == [Finish, Done] and kinds.count(Done) == 1


Make = Callable[..., Asked]
