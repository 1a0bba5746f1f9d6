"""A small real decoder with random weights, and a vocabulary of the 256 bytes."""

from __future__ import annotations

import torch

from daulat.engine.decoder import Decoder
from daulat.values.architecture import Architecture, Layer, Rope
from tests.engine.places import Place, place_of


def tiny_decoder(seed: int = 0, place: Place | None = None) -> Decoder:
    """Two blocks, grouped-query attention, 256 tokens."""
    place = place or place_of("processor")
    random = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> torch.Tensor:
        numbers = torch.randn(shape, generator=random) * (0.3 if len(shape) > 1 else 1.0)
        return numbers.to(place.device)

    a = Architecture(
        family="Llama",
        vocab=256,
        hidden=32,
        heads=4,
        kv_heads=2,
        head_dim=8,
        intermediate=48,
        context=512,
        layers=(Layer(None, Rope(10000.0, 8)),) * 2,
        attention_scale=8**-0.5,
        tied=True,
    )
    blocks = [
        {
            "attn_norm": weight(32),
            "qkv": weight(64, 32),
            "out": weight(32, 32),
            "mlp_norm": weight(32),
            "up": weight(96, 32),
            "down": weight(32, 48),
        }
        for _ in a.layers
    ]
    return Decoder(a, {"embed": weight(256, 32), "norm": weight(32)}, blocks, place.capture)


class Bytes:
    """Token i is byte i (as Latin-1, so that every token is a character); byte 0 ends an answer."""

    eos_ids = frozenset({0})
    special_ids: frozenset[int] = frozenset()

    def token_text(self, token: int) -> str:
        return chr(token)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


class ByteStream:
    def push(self, token: int) -> str:
        return chr(token)

    def finish(self) -> str:
        return ""


class Numbers(Bytes):
    """Any number of tokens; no text matters."""

    def token_text(self, token: int) -> str:
        return str(token)

    def token_bytes(self, token: int) -> bytes:
        return str(token).encode()


class NumberStream(ByteStream):
    def push(self, token: int) -> str:
        return chr(0x4E00 + token)
