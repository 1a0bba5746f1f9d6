"""GGUF files against transformers with the same dequantised weights, in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import PreTrainedModel

from daulat.engine.decoder import Decoder
from daulat.engine.native.panels import Q4_1, Q8_0
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine import gguf_writer
from tests.engine.checkpoints import CASES, GRANITE, LLAMA3, make
from tests.engine.conftest import tolerance

pytestmark = pytest.mark.usefixtures("one_thread")

# K-quants come in blocks of 256, so every matrix has rows of that length.
WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
FILES = {
    "llama": ("Llama", "llama", {}, True),
    "llama 3.1": ("Llama", "llama", {"rope_parameters": LLAMA3}, True),
    "llama biases": ("Llama", "llama", {"attention_bias": True}, True),
    "mistral": ("Mistral", "llama", {"sliding_window": None}, True),
    "mixtral": ("Mixtral", "llama", {"num_local_experts": 4, "num_experts_per_tok": 2}, True),
    "granite": ("Granite", "granite", GRANITE, True),
    "granite moe": (
        "GraniteMoe",
        "granitemoe",
        GRANITE | {"num_local_experts": 4, "num_experts_per_tok": 2},
        True,
    ),
    "qwen2": ("Qwen2", "qwen2", {}, False),
    "qwen3": ("Qwen3", "qwen3", {"head_dim": 64}, False),
    "gemma 3": (
        "Gemma3",
        "gemma3",
        {
            "num_hidden_layers": 6,
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
            "sliding_window": 15,
            "tie_word_embeddings": True,
        },
        False,
    ),
    "starcoder": (
        "GPTBigCode",
        "starcoder",
        {
            "n_embd": 256,
            "n_inner": 256,
            "n_head": 4,
            "n_layer": 2,
            "n_positions": 512,
            "multi_query": True,
        },
        False,
    ),
}
KINDS_OF = {Q8_0: Kind.Q8_0, Q4_1: Kind.Q4_1}
LARGEST_LOGIT = 5.0
PROMPT = [(5 * i * i + i) % 300 for i in range(50)]


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_1, Kind.Q4_K])
@pytest.mark.parametrize("case", list(FILES))
def test_logits_and_greedy_answer(
    case: str,
    kind: Kind,
    load: Callable[..., Decoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family, arch, options, permuted = FILES[case]
    common = CASES["llama"][1]
    monkeypatch.setitem(CASES, case, (family, common | WIDE | options))
    path = tmp_path / "model.gguf"
    model = make(case)
    quieten(model)
    oracle = gguf_writer.write(model, path, arch, kind, permuted=permuted)
    agree(load(open_checkpoint(path)), oracle)


def agree(decoder: Any, oracle: PreTrainedModel) -> torch.Tensor:
    """Logits of every position are the oracle's, and 64 greedy tokens are as good as its own; its logits."""
    near = tolerance(decoder)
    cache = decoder.new_cache(len(PROMPT) + 64)
    ours = torch.from_numpy(decoder.forward([Chunk(PROMPT, cache)], every=True))
    answer = [int(ours[-1].argmax())]
    while len(answer) < 64:
        answer.append(int(decoder.forward([Chunk([answer[-1]], cache)])[0].argmax()))
    with torch.inference_mode():
        expected = exactly(oracle, PROMPT + answer)
    assert expected.std() > 0.05
    assert (ours - expected[: len(PROMPT)]).abs().max() <= near
    behind = expected[len(PROMPT) - 1 : -1]
    chosen = behind.gather(1, torch.tensor(answer)[:, None])[:, 0]
    # Where two experts are equally good but for the rounding, a router may pick the other for a few tokens.
    allowed = 3 if getattr(oracle.config, "num_local_experts", None) else 0
    assert (behind.amax(1) - chosen > 2 * near).sum() <= allowed
    assert (behind.argmax(1) == torch.tensor(answer)).float().mean() >= 0.95
    return expected[: len(PROMPT)]


def exactly(oracle: PreTrainedModel, tokens: Sequence[int] = PROMPT) -> torch.Tensor:
    """The logits in float64: in float32 the oracle's experts are 1e-4 from them themselves."""
    exact = copy.deepcopy(oracle).double()
    if getattr(oracle.config, "num_local_experts", None):
        exact.set_experts_implementation("eager")
    return exact(torch.tensor([list(tokens)])).logits[0]


@torch.no_grad()
def quieten(model: PreTrainedModel) -> None:
    """Scale the last norm so that logits are of a real model's size.

    Random layers this wide give logits in the hundreds, where float32 itself differs by more than the
    tolerance between two orders of summation.
    """
    scale = LARGEST_LOGIT / model(torch.tensor([PROMPT])).logits.abs().max()
    offset = 1.0 if model.config.model_type.startswith("gemma3") else 0.0
    for name, weight in model.named_parameters():
        if name in ("model.norm.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"):
            weight.copy_((weight + offset) * scale - offset)
