"""What a dialect is: how one kind of upstream is asked, and how its answers are understood.

Dialects are pure, so that what they do can be tested without a socket: no clock, no network, no state but
that of one answer. Nothing of a request is dropped in silence: what an endpoint's capabilities cover is
translated, and what a dialect cannot say it refuses by name (`UnsupportedFieldError`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from daulat.errors import UpstreamError
from daulat.values.answer import Embeddings, Heard, Moderations
from daulat.values.plan import Capability, Offer
from daulat.values.request import EmbeddingRequest, GenerationRequest, ModerationRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One POST to an upstream.

    Attributes:
        path: behind the endpoint's address, with its query.
        body: JSON.
        headers: besides those of the key and of the settings.
    """

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event; `name` is empty where the upstream gives none."""

    data: str
    name: str = ""


class Reader(Protocol):
    """One streamed answer, from its server-sent events to ours.

    The last event is a `Done` without timings of use (the caller has the clock): `Timings(0, 0, 0)`.
    """

    def feed(self, event: ServerEvent) -> Iterable[Heard]:
        """What this event says.

        Raises:
            UpstreamError: an error event, or one that is not of the protocol. `billable` is true.
        """
        ...

    def end(self) -> Iterable[Heard]:
        """The stream has ended: what is left, with `Done`, if it was whole.

        Raises:
            UpstreamAnswerError: it ended too soon: a choice has no finish, or the protocol's own end is
                missing. A cut answer never looks whole.
        """
        ...


class Dialect(Protocol):
    """One kind of upstream."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What endpoints of this kind can do, unless their settings say otherwise."""
        ...

    def generate(self, request: GenerationRequest, offer: Offer) -> Call:
        """The call for a chat or a completion; it asks for a stream where `request.stream` is set.

        Raises:
            UnsupportedFieldError: the protocol has no words for a part of the request.
        """
        ...

    def reader(self, request: GenerationRequest) -> Reader:
        """A reader for the streamed answer to that request."""
        ...

    def whole(self, request: GenerationRequest, body: bytes) -> Iterable[Heard]:
        """The events of an answer that came in one piece, ended by `Done`.

        Raises:
            UpstreamAnswerError: not an answer of that protocol.
        """
        ...

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        """The call for vectors."""
        ...

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        """The vectors, one for each input."""
        ...

    def moderate(self, request: ModerationRequest, offer: Offer) -> Call:
        """The call for judgements."""
        ...

    def moderations(self, request: ModerationRequest, body: bytes) -> Moderations:
        """The judgements, one for each input."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What an answer of a status other than 2xx means; header names are in lower case."""
        ...
