"""A BERT-shaped encoder (arXiv 1810.04805): texts in, one vector each out.

Pooling is the mean over all tokens, then unit length, as the sentence-transformers models that we ship
define it. Not here: tokens, bounds of input lengths, batching of requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine.decoder import ACTIVATIONS
from daulat.engine.tensors import tensor
from daulat.errors import ModelFileError
from daulat.models.checkpoint import Checkpoint
from daulat.models.numbers import float32
from daulat.values.architecture import EncoderArchitecture

_QKV = ("query", "key", "value")


class Encoder:
    """Weights in float32 and the forward pass."""

    def __init__(self, architecture: EncoderArchitecture, checkpoint: Checkpoint) -> None:
        self.architecture = architecture
        self._prefix = "bert." if "bert.embeddings.LayerNorm.weight" in checkpoint.tensors else ""
        wanted = self._shapes()
        self._w = {name: self._read(checkpoint, name, shape) for name, shape in wanted.items()}

    @torch.inference_mode()
    def embed(self, inputs: Sequence[Sequence[int]]) -> Tensor:
        """One vector per input, float32 [n, H].

        Inputs of one length are computed together, so that a short text never depends on padding.
        """
        out = torch.empty((len(inputs), self.architecture.hidden))
        by_length: dict[int, list[int]] = {}
        for i, tokens in enumerate(inputs):
            by_length.setdefault(len(tokens), []).append(i)
        for rows in by_length.values():
            out[rows] = self._embed_same_length(torch.tensor([list(inputs[i]) for i in rows]))
        return F.normalize(out, dim=-1) if self.architecture.normalise else out

    def _embed_same_length(self, tokens: Tensor) -> Tensor:
        w = self._w
        x = w["embeddings.word_embeddings.weight"][tokens]
        x = x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(self.architecture.layers):
            x = self._block(x, f"encoder.layer.{i}.")
        return x.mean(dim=1)

    def _block(self, x: Tensor, at: str) -> Tensor:
        heads = self.architecture.heads

        def split(name: str) -> Tensor:
            """[n, heads, tokens, D]"""
            rows = self._linear(x, f"{at}attention.self.{name}")
            return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)

        q, k, v = (split(name) for name in _QKV)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = self._linear(h, f"{at}attention.output.dense")
        x = self._norm(x + h, f"{at}attention.output.LayerNorm")
        h = ACTIVATIONS[self.architecture.activation](self._linear(x, f"{at}intermediate.dense"))
        return self._norm(x + self._linear(h, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        w = self._w
        return F.layer_norm(
            x,
            (x.shape[-1],),
            w[f"{name}.weight"],
            w[f"{name}.bias"],
            self.architecture.norm_eps,
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        a = self.architecture
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (a.vocab, a.hidden),
            "embeddings.position_embeddings.weight": (a.context, a.hidden),
            "embeddings.token_type_embeddings.weight": (2, a.hidden),
        }

        def linear(name: str, rows: int, columns: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

        def norm(name: str) -> None:
            shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (a.hidden,)

        norm("embeddings.LayerNorm")
        for i in range(a.layers):
            at = f"encoder.layer.{i}."
            for name in _QKV:
                linear(f"{at}attention.self.{name}", a.hidden, a.hidden)
            linear(f"{at}attention.output.dense", a.hidden, a.hidden)
            norm(f"{at}attention.output.LayerNorm")
            linear(f"{at}intermediate.dense", a.intermediate, a.hidden)
            linear(f"{at}output.dense", a.hidden, a.intermediate)
            norm(f"{at}output.LayerNorm")
        return shapes

    def _read(self, checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Tensor:
        full = self._prefix + name
        info = checkpoint.tensors.get(full)
        if info is None or tuple(info.shape) != shape:
            found = "is missing" if info is None else f"has shape {tuple(info.shape)}"
            raise ModelFileError(
                f"{checkpoint.name}: the tensor {full!r} {found}; "
                f"a BERT model of this description has one of shape {shape}."
            )
        return tensor(float32(checkpoint.read(full)))
