"""One decoder, described by data: everything that distinguishes Llama from Granite from GPT-Neo.

`models.families` fills this in from a checkpoint's own description; `engine.decoder` runs it. Neither
has a class per family. Shapes below: H hidden size, Q query heads, K key-value heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Norm = Literal["rms", "layer"]
Kind = Literal["text", "embedding"]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions (arXiv 2104.09864), halves rotated as in Hugging Face's checkpoints.

    Attributes:
        theta: base of the wavelengths.
        dims: how many of a head's D dimensions turn.
        scaling: `none`; `linear`: positions divided by `factor`; `llama3`: long wavelengths stretched
            by `factor`, short ones kept, a smooth ramp between; `table`: divisors in `divisors`.
        divisors: one number per frequency that divides it (GGUF's `rope_freqs`), for `table`.
        attention_factor: multiplies cos and sin (YaRN).
    """

    theta: float
    dims: int
    scaling: Literal["none", "linear", "llama3", "yarn", "table"] = "none"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    divisors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in place of one feed-forward: softmax over the chosen ones' scores.

    Attributes:
        count: how many there are.
        chosen: how many each token goes to.
    """

    count: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Layer:
    """What may differ from block to block.

    Attributes:
        window: a token sees itself and the `window - 1` tokens before it; None: all before it.
        rope: its rotary positions; None where positions are learned.
    """

    window: int | None = None
    rope: Rope | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer.

    Attributes:
        family: the name in `models.families` and in the passport.
        context: the longest sequence it was made for, in tokens.
        learned_positions: size of the learned position table; 0: none.
        norm_offset: added to every norm's weight (Gemma stores w - 1).
        gated: feed-forward is down(act(gate(x)) * up(x)), else down(act(up(x))).
        attention_scale: multiplies q.k before softmax.
        qk_norm: RMS norm of each head's q and k before rotation.
        post_norms: a norm also behind attention and feed-forward, before the residual sum (Gemma).
        embedding_scale, residual_scale, logits_divisor: Granite's scalars (Gemma uses the first).
        logits_softcap: cap * tanh(logits / cap); 0: none.
        tied: the output matrix is the embedding matrix.
    """

    kind: ClassVar[Kind] = "text"

    family: str
    vocab: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    context: int
    layers: tuple[Layer, ...]
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    norm_offset: float = 0.0
    learned_positions: int = 0
    gated: bool = True
    activation: Activation = "silu"
    attention_scale: float = 0.0
    qk_norm: bool = False
    post_norms: bool = False
    experts: Experts | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_divisor: float = 1.0
    logits_softcap: float = 0.0
    tied: bool = False

    @property
    def cache_elements(self) -> int:
        """Numbers that the key-value cache holds for one token."""
        return 2 * len(self.layers) * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class EncoderArchitecture:
    """A BERT-shaped encoder (arXiv 1810.04805) with mean pooling, for embeddings."""

    kind: ClassVar[Kind] = "embedding"

    family: str
    vocab: int
    hidden: int
    heads: int
    intermediate: int
    context: int
    layers: int
    norm_eps: float
    activation: Activation
    normalise: bool
