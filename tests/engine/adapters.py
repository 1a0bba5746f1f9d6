"""Random LoRA adapters, written by the real PEFT, which is also the oracle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import PreTrainedModel

from daulat.models.checkpoint import Checkpoint
from daulat.models.lora import TENSORS
from daulat.models.lora_sites import base_of

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


def adapted(
    model: PreTrainedModel, targets: list[str], seed: int, size: float = 1.0, **config: Any
) -> PeftModel:
    """A copy of the model with a new adapter whose matrices all matter."""
    options = {"r": 8, "lora_alpha": 16, "target_modules": targets, "task_type": "CAUSAL_LM"}
    made = get_peft_model(copy.deepcopy(model), LoraConfig(**{**options, **config}))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, LoraLayer):
                # What is added to a weight of the tiny models is about as large as the weight itself.
                rank, scale = layer.r["default"], layer.scaling["default"]
                wide = 0.4 * size / scale / rank**0.5
                for part, spread in ((layer.lora_A, 0.2), (layer.lora_B, wide)):
                    weight = part["default"].weight
                    weight.copy_(spread * torch.randn(weight.shape, generator=random))
    assert isinstance(made, PeftModel)
    return made.eval()


def saved(model: PeftModel, folder: Path) -> Path:
    """The adapter alone, as PEFT's folder of two files."""
    model.save_pretrained(str(folder))
    return folder


def scattered(folder: Path, checkpoint: Checkpoint, targets: list[str], seed: int) -> Path:
    """A random adapter for any base, without loading it: PEFT's configuration beside matrices of our own."""
    LoraConfig(r=8, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM").save_pretrained(
        str(folder)
    )
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for module, site in base_of(checkpoint).sites.items():
        if module.rpartition(".")[2] in targets:
            name = f"base_model.model.{module}"
            for side, shape in (("A", (8, site.columns)), ("B", (site.rows, 8))):
                tensors[f"{name}.lora_{side}.weight"] = 0.15 * torch.randn(shape, generator=random)
    save_file(tensors, folder / TENSORS)
    return folder
