"""What the decoder's loader refuses, and how it says so: by name, before memory is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from daulat.engine.plain import load_decoder
from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import edit_config, edit_tensors, make, write

FAMILIES = (
    "Llama, Mistral, Mixtral, Granite 3, Granite 3 MoE, "
    "GPTBigCode (Granite Code 20B and 34B), GPT-Neo, Qwen2, Qwen3, Gemma 3"
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make("llama"), tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((original / name).read_bytes())
    return tmp_path


def refused(folder: Path, kind: type[Exception] = ModelFileError) -> str:
    with pytest.raises(kind) as caught:
        load_decoder(open_checkpoint(folder))
    text = str(caught.value)
    assert len(text) < 600
    return text


@pytest.mark.parametrize("kind", ["falcon", "gpt2", "mamba", "", None, 7, ["llama"], "x" * 9000])
def test_other_families_are_told_which_ones_run(folder: Path, kind: Any) -> None:
    edit_config(folder, {"model_type": kind})
    assert FAMILIES in refused(folder, UnsupportedModelError)


def test_code_that_comes_with_a_model_is_never_run(folder: Path) -> None:
    marker = folder / "ran"
    code = f"open({str(marker)!r}, 'w').write('x')\n"
    (folder / "modeling_evil.py").write_text(code)
    edit_config(
        folder, {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    )
    assert "Code that comes with a model is never run" in refused(folder, UnsupportedModelError)
    edit_config(folder, {"model_type": "llama"})
    load_decoder(open_checkpoint(folder))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "dynamic"),
        ({"rope_type": "longrope", "factor": 2.0}, "longrope"),
        ({"type": "su", "factor": 2.0}, "su"),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": False}, "truncation"),
        ({"rope_type": "default", "partial_rotary_factor": 0.2}, "dimensions"),
    ],
)
def test_other_positions(folder: Path, rope: dict[str, Any], words: str) -> None:
    edit_config(folder, {"rope_parameters": rope})
    assert words in refused(folder, UnsupportedModelError)


def test_other_activations_and_attention(folder: Path) -> None:
    edit_config(folder, {"hidden_act": "mish"})
    assert "mish" in refused(folder, UnsupportedModelError)
    edit_config(
        folder,
        {"hidden_act": "silu", "model_type": "mistral", "sliding_window": 4}
        | {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
    )
    assert "chunked_attention" in refused(folder, UnsupportedModelError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 10**12),
        ("hidden_size", -1),
        ("hidden_size", 64.0),
        ("hidden_size", None),
        ("hidden_size", True),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("intermediate_size", "96"),
        ("vocab_size", 10**15),
        ("max_position_embeddings", 10**18),
        ("rms_norm_eps", -1.0),
        ("rms_norm_eps", "nan"),
        ("head_dim", 10**6),
        ("rope_parameters", [1]),
        ("rope_parameters", {"rope_type": "linear", "factor": 0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e300}),
        ("tie_word_embeddings", "yes"),
    ],
)
def test_absurd_numbers_are_named(folder: Path, key: str, value: Any) -> None:
    edit_config(folder, {key: value})
    inner = {"rope_parameters": ("factor", "rope_theta", "rope_parameters")}
    assert any(name in refused(folder) for name in inner.get(key, (key,)))


def test_numbers_no_json_has(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"rms_norm_eps": float("nan")}
    (folder / "config.json").write_text(json.dumps(config))
    assert "config.json" in refused(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 2}, "do not belong"),
        ({"num_hidden_layers": 4}, "missing"),
        ({"hidden_size": 32, "head_dim": 16}, "shape"),
        ({"vocab_size": 301}, "shape"),
        ({"intermediate_size": 95}, "shape"),
        ({"num_key_value_heads": 4}, "shape"),
        ({"model_type": "mixtral", "num_local_experts": 4096}, "missing"),
        ({"model_type": "gpt_neo", "num_heads": 4, "num_layers": 3}, "attention_types"),
    ],
)
def test_a_description_of_another_model(folder: Path, change: dict[str, Any], words: str) -> None:
    edit_config(folder, change)
    assert words in refused(folder)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, {}, without=(name,))


def _with(name: str, tensor: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, {name: tensor})


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_without(DOWN), DOWN),
        (_without("lm_head.weight"), "lm_head.weight"),
        (_without("model.norm.weight"), "model.norm.weight"),
        (_with(DOWN, torch.zeros(64, 95)), DOWN),
        (_with(DOWN, torch.zeros(64)), DOWN),
        (_with("model.layers.1.self_attn.k_proj.weight", torch.zeros(32, 63)), "shapes"),
        (_with("model.layers.1.self_attn.k_proj.bias", torch.zeros(32)), "q_proj.bias"),
        (_with("model.layers.1.extra.weight", torch.zeros(2)), "model.layers.1.extra.weight"),
        (_with(DOWN, torch.zeros(64, 96, dtype=torch.int32)), "type int32"),
    ],
)
def test_missing_wrong_and_extra_tensors(
    folder: Path, edit: Callable[[Path], None], words: str
) -> None:
    edit(folder)
    assert words in refused(folder)


def test_experts_of_different_shapes(tmp_path: Path) -> None:
    folder = write(make("mixtral"), tmp_path)
    name = next(
        n
        for n in load_file(folder / "model.safetensors")
        if n.endswith("0.block_sparse_moe.experts.1.w1.weight")
    )
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: torch.zeros(95, 64)}, folder / "model.safetensors")
    assert "experts" in refused(folder)
