"""What a step of a decoder is: the next tokens of some sequences, and what computes them.

Not here: the decoders (`decoder`, `native.decoder`), which tokens make a step (`scheduler`).
Shapes: T tokens of the step, W of them wanted, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from daulat.engine.adapter import Adapter
from daulat.engine.cache import Memory, SequenceCache
from daulat.models.numbers import Floats
from daulat.values.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next tokens of one sequence.

    Attributes:
        adapter: what the sequence is computed with.
        wanted: which of them, counted from the chunk's first and ascending, the logits are asked for
            behind; None: behind the last.
        written: the model has written them itself; else they are read, as a prompt's are. Where a decoder
            tells the two apart (`Computer.reads_as_it_writes`), their numbers differ in the last bits.
    """

    tokens: Sequence[int]
    cache: SequenceCache
    adapter: Adapter | None = None
    wanted: Sequence[int] | None = None
    written: bool = False

    def __post_init__(self) -> None:
        if self.wanted and not 0 <= self.wanted[0] <= self.wanted[-1] < len(self.tokens):
            raise IndexError("a wanted token is not in the chunk")

    @property
    def asked(self) -> Sequence[int]:
        """The tokens that logits are asked for behind, by number."""
        return (len(self.tokens) - 1,) if self.wanted is None else self.wanted


class Computer(Protocol):
    """What computes a model's steps: `engine.decoder` or `engine.native.decoder`."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def reads_as_it_writes(self) -> bool:
        """Whether what was written may stand for the same tokens in a prompt."""
        ...

    @property
    def reads_at_once(self) -> int:
        """So many tokens of a prompt are best read in one step, while nobody waits for a word; 0: any."""
        ...

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
        ...

    def new_memory(self, blocks: int) -> Memory:
        """For the keys and values of many sequences, in up to so many blocks."""
        ...

    def forward(self, chunks: Sequence[Chunk]) -> Floats:
        """Run one step and extend each chunk's cache.

        Returns:
            logits behind the wanted tokens, [W, V], chunk by chunk.
        """
        ...

    def states(self, chunks: Sequence[Chunk]) -> Floats:
        """Run one step, as `forward`, up to the last norm.

        Returns:
            [W, H], what `logits` takes: the wanted tokens' last hidden states.
        """
        ...

    def logits(self, states: Floats, written: Sequence[bool]) -> Floats:
        """Logits [W, V] of hidden states [W, H] as `states` gives them.

        Args:
            written: which of them are of tokens that the model has written, [W].
        """
        ...


def whole(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same with every token wanted."""
    return [replace(c, wanted=range(len(c.tokens))) for c in chunks]


def written_rows(chunks: Sequence[Chunk]) -> list[bool]:
    """Which of the wanted tokens the model has written, [W], chunk by chunk."""
    return [chunk.written for chunk in chunks for _ in chunk.asked]


def wanted_rows(chunks: Sequence[Chunk], starts: Sequence[int]) -> list[int]:
    """The wanted tokens' places among all tokens of a step, of which each chunk's first is given."""
    rows: list[int] = []
    for chunk, start in zip(chunks, starts, strict=True):
        rows += [start + row for row in chunk.asked]
    return rows
