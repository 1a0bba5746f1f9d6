"""`POST /v1/embeddings`: its request and its answer."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Literal

from msgspec import Meta

from daulat.server.wire.common import Incoming, Label, Name, Origin, Outgoing, Texts, texts
from daulat.values.request import EmbeddingRequest


class EmbeddingBody(Incoming, frozen=True, kw_only=True):
    model: Name
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    user: Label | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None

    def to_request(self) -> EmbeddingRequest:
        inputs = texts(self.input, "input")
        return EmbeddingRequest(self.model, inputs, self.user, self.dimensions)


class EmbeddingItem(Outgoing, frozen=True, kw_only=True):
    """`embedding`: numbers, or with `encoding_format` "base64" little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Outgoing, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Outgoing, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
    daulat: Origin


def encode_vector(vector: tuple[float, ...], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return list(vector)
