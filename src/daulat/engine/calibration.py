"""What a model's matrices are multiplied with, so that four bits can be chosen by it (`native.gptq`).

The inputs come from text that the model writes itself (arXiv 2305.17888), at temperature 1: every other text
from one token at random, the rest from phrases in the languages of this product's users, since from a random
token small models mostly write English. So no data need be shipped or fetched. The text then goes through the
blocks one after the other; each matrix is chosen by inputs that come through those before it, as they have been
chosen.

In memory at once: the text's hidden states, one block in float32, one matrix of inputs by inputs.

Not here: how steps and grids are chosen (`native.gptq`), where weights come from (`loading`).
Shapes: N texts of L tokens, T = N L, H hidden, C columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine.batch import Batch, batch_of
from daulat.engine.decoder import Block, Decoder
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.pages import standalone
from daulat.engine.sampler import Sampler
from daulat.engine.step import Chunk
from daulat.engine.tensors import tensor
from daulat.models.numbers import Array, Floats
from daulat.values.architecture import Architecture
from daulat.values.request import Sampling

TOKENS, FEWEST = 32_768, 4_096
LENGTH = 512
"""Tokens of a text, where the model's context allows it."""
WORK = 2**46
"""Tokens times weights at most, so that a large model is ready some day."""
ENOUGH = 1024
"""Weights to a token: matrices of small models have few inputs, of which little text tells all."""
SEED = 2305_17888
PHRASES = (
    "Pada suatu hari, seorang anak",
    "Indonesia adalah negara yang",
    "Untuk menjalankan program ini, Anda perlu",
    "Menurut peraturan pemerintah,",
    "Cara memasak nasi yang baik adalah",
    "Terima kasih atas surat Anda. Kami",
    "Perusahaan itu didirikan pada tahun",
    "Guru menjelaskan kepada murid-murid bahwa",
    "Once upon a time, a child",
    "To run this program, you need",
    "Thank you for your letter. We",
    "The company was founded in the year",
)
"""What texts begin with: Indonesian twice as often as English, which models know better."""
_AT_ONCE = 16
_ROWS = 2048
"""Rows of hidden states that go through a feed-forward at once."""

Progress = Callable[[int, int], None]
Choose = Callable[[str, int, Floats], Floats]
"""From a slot, an expert's number (0 where there are none) and the inputs' gram [C, C] to what the chosen
blocks stand for."""


def tokens_for(weights: int) -> int:
    """How many tokens of text a model of so many weights is prepared with."""
    return max(min(TOKENS, WORK // max(weights, 1), weights // ENOUGH), FEWEST) // LENGTH * LENGTH


def write(
    decoder: NativeDecoder,
    begin: Sequence[int],
    tokens: int,
    progress: Progress | None = None,
    phrases: Sequence[Sequence[int]] = (),
) -> list[list[int]]:
    """Text of the model's own, the same each time.

    Args:
        begin: what each text begins with, before a random token or a phrase.
        tokens: how many all texts have together, about.
        progress: told of tokens written, and of all.
        phrases: taken in turn, for every other text.

    Returns:
        N texts of L tokens.
    """
    length = max(min(LENGTH, decoder.architecture.context), len(begin) + 1)
    count = max(1, tokens // length)
    vocab = decoder.architecture.vocab
    firsts = np.random.Generator(np.random.Philox(SEED)).integers(0, vocab, count)
    starts = [
        phrases[k // 2 % len(phrases)] if phrases and k % 2 else [int(first)]
        for k, first in enumerate(firsts)
    ]
    texts: list[list[int]] = []
    for at in range(0, count, _AT_ONCE):
        some = [[*begin, *start][:length] for start in starts[at : at + _AT_ONCE]]
        samplers = [Sampler(Sampling(), SEED, (), at + k) for k in range(len(some))]
        caches = [decoder.new_cache(length) for _ in some]
        new = [list(text) for text in some]
        while left := [k for k, text in enumerate(some) if len(text) < length]:
            logits = decoder.forward([Chunk(new[k], caches[k]) for k in left])
            for k, row in zip(left, logits, strict=True):
                new[k] = [samplers[k].choose(row).token]
                some[k] = some[k] + new[k]
            if progress is not None:
                progress(at * length + sum(map(len, some)), count * length)
        texts += some
    return texts


class Calibration(Decoder):
    """Texts on their way through a decoder, of which one block at a time is there.

    Args:
        top: `embed`, and `positions` where the architecture has them.
        texts: N of L tokens.
    """

    def __init__(
        self, architecture: Architecture, top: Mapping[str, Array], texts: Sequence[Sequence[int]]
    ) -> None:
        tensors = {slot: tensor(array) for slot, array in top.items()}
        super().__init__(architecture, tensors, [{} for _ in architecture.layers])
        self._length = len(texts[0])
        self._x = torch.empty(len(texts) * self._length, architecture.hidden)
        for rows, text in zip(self._texts(), texts, strict=True):
            self._step = self._step_of(text)
            self._x[rows] = self._embed(self._step).float()

    @torch.inference_mode()
    def through(
        self, i: int, weights: Mapping[str, Floats], wanted: Collection[str], choose: Choose
    ) -> None:
        """Bring the texts through block `i`, whose wanted matrices are replaced by those that are chosen.

        Args:
            weights: of the block.
            wanted: of `qkv`, `out`, `up`, `down`.
        """
        w = self._blocks[i]
        w.update({slot: tensor(array) for slot, array in weights.items()})
        # The other blocks' memory is never touched.
        self._step = self._step_of([0] * self._length)
        every = torch.arange(len(self._x))
        if "qkv" in wanted:
            gram = self._gram(every, lambda x: self._norm(x, w, "attn_norm"))
            w["qkv"] = tensor(choose("qkv", 0, gram.numpy()))
        if "out" in wanted:
            seen = torch.cat([self._seen(i, rows) for rows in self._texts()])
            w["out"] = tensor(choose("out", 0, _gram_of(seen).numpy()))
            for part, h in zip(_parts(every), _parts(seen), strict=True):
                self._step_out(i, part, h)
        else:
            for rows in self._texts():
                self._step_out(i, every[rows], self._seen(i, rows))
        for slot in ("up", "down"):
            if slot in wanted:
                self._feed(i, slot, choose)
        for part in _parts(every):
            x = self._x[part]
            h = self._feed_forward(i, self._norm(x, w, "mlp_norm"), self._step)
            self._x[part] = self._add(x, h, w, "post_mlp_norm")
        w.clear()

    def _step_of(self, text: Sequence[int]) -> Batch:
        """A text as a step from its beginning, with memory for its keys and values."""
        cache = standalone(self.architecture, len(text), torch.float32, torch.device("cpu"))
        return batch_of([Chunk(text, cache)], self.architecture.vocab, self._turns)

    def _texts(self) -> list[slice]:
        """The rows of each text."""
        return [slice(n, n + self._length) for n in range(0, len(self._x), self._length)]

    def _seen(self, i: int, rows: slice) -> Tensor:
        h = self._norm(self._x[rows], self._blocks[i], "attn_norm")
        # The cache does not advance, so that each text is put over the one before.
        layer, step = self.architecture.layers[i], self._step
        return self._attended(i, layer, h, step, self._views(step))

    def _step_out(self, i: int, part: Tensor, h: Tensor) -> None:
        w = self._blocks[i]
        y = F.linear(h, w["out"], w.get("out.bias"))
        self._x[part] = self._add(self._x[part], y, w, "post_attn_norm")

    def _feed(self, i: int, slot: str, choose: Choose) -> None:
        """Choose `up` or `down`, of each expert by those tokens that go to it."""
        w = self._blocks[i]
        ups = w["up"] if self.architecture.experts else w["up"][None]
        found: list[Tensor] = []
        for e, rows in enumerate(self._rows_of_experts(w)):

            def take(x: Tensor, up: Tensor = ups[e]) -> Tensor:
                h = self._norm(x, w, "mlp_norm")
                return h if slot == "up" else self._inner(F.linear(h, up, w.get("up.bias")))

            found.append(tensor(choose(slot, e, self._gram(rows, take).numpy())))
        w[slot] = torch.stack(found) if self.architecture.experts else found[0]

    def _rows_of_experts(self, w: Block) -> list[Tensor]:
        every = torch.arange(len(self._x))
        experts = self.architecture.experts
        if experts is None:
            return [every]
        parts = [self._norm(self._x[part], w, "mlp_norm") for part in _parts(every)]
        chosen = torch.cat([self._routes(w, h)[1] for h in parts])
        return [torch.where((chosen == e).any(1))[0] for e in range(experts.count)]

    def _gram(self, rows: Tensor, take: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum of x x^T over what is taken of those rows."""
        return sum((_gram_of(take(self._x[part])) for part in _parts(rows)), torch.zeros(()))


def _parts(rows: Tensor) -> list[Tensor]:
    """A few rows at a time; of none one part, which says how wide it would be."""
    return [rows[n : n + _ROWS] for n in range(0, max(len(rows), 1), _ROWS)]


def _gram_of(x: Tensor) -> Tensor:
    return x.T @ x
