"""`POST /v1/embeddings`: its request and its answer."""

from __future__ import annotations

import base64
import struct
from typing import Literal

from daulat.server.wire.common import Incoming, Label, Name, Origin, Outgoing, Texts, texts
from daulat.values.request import EmbeddingRequest


class EmbeddingBody(Incoming, frozen=True, kw_only=True):
    model: Name
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    user: Label | None = None
    # refused but for null, see `fields.REFUSED`
    dimensions: None = None

    def to_request(self) -> EmbeddingRequest:
        return EmbeddingRequest(model=self.model, inputs=texts(self.input, "input"), user=self.user)


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
