"""Random LoRA adapters, written by the real PEFT, which is also the oracle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
TARGETS: dict[str, list[str]] = {
    "llama": ALL,
    "llama biases": ALL,
    "llama head size": ALL,
    "mistral window": ALL,
    "granite": ALL,
    "qwen2": ALL,
    "qwen3": ALL,
    "gemma 3": ALL,
    "mixtral": ATTENTION,
    "granite moe": ATTENTION,
    "bigcode": ["c_attn", "c_proj", "c_fc"],
    "bigcode multi-head": ["c_attn", "c_proj", "c_fc"],
    "gpt-neo": ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"],
}
"""Case of `checkpoints` to the linear modules that an adapter may change."""


def adapted(model: PreTrainedModel, targets: list[str], seed: int, **config: Any) -> PeftModel:
    """A copy of the model with a new adapter whose matrices all matter."""
    options = {"r": 8, "lora_alpha": 16, "target_modules": targets, "task_type": "CAUSAL_LM"}
    made = get_peft_model(copy.deepcopy(model), LoraConfig(**{**options, **config}))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, LoraLayer):
                # What is added to a weight is about as large as the weight itself.
                rank, scale = layer.r["default"], layer.scaling["default"]
                for part, size in ((layer.lora_A, 0.2), (layer.lora_B, 0.4 / scale / rank**0.5)):
                    weight = part["default"].weight
                    weight.copy_(size * torch.randn(weight.shape, generator=random))
    assert isinstance(made, PeftModel)
    return made.eval()


def saved(model: PeftModel, folder: Path) -> Path:
    """The adapter alone, as PEFT's folder of two files."""
    model.save_pretrained(str(folder))
    return folder
