"""`POST /v1/moderations`: its request and its answer, which is the endpoint's own."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from daulat.server.wire.common import Incoming, Label, Name, Outgoing
from daulat.values.answer import Moderations
from daulat.values.request import ModerationRequest

DEFAULT_MODEL = "omni-moderation-latest"  # as OpenAI's API has it

JudgedText = Annotated[str, Meta(min_length=1)]


class ModerationBody(Incoming, frozen=True, kw_only=True):
    """Texts only: pictures among the inputs are refused by name."""

    input: JudgedText | Annotated[list[JudgedText], Meta(min_length=1, max_length=256)]
    model: Name | None = None
    user: Label | None = None

    def to_request(self) -> ModerationRequest:
        inputs = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        return ModerationRequest(self.model or DEFAULT_MODEL, inputs, self.user)


class Judgement(Outgoing, frozen=True, kw_only=True):
    """`results`: one for each input, as the endpoint's service words them."""

    id: str
    model: str
    results: list[dict[str, Any]]


def judgement(exchange: str, found: Moderations) -> Judgement:
    return Judgement(id=exchange, model=found.model, results=[dict(one) for one in found.results])
