"""The embedding model against transformers, and what a damaged one is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from daulat.engine.encoder import Encoder
from daulat.engine.plain import load_decoder, load_encoder
from daulat.errors import ModelFileError
from daulat.models.checkpoint import open_checkpoint
from daulat.models.tokenizer import load_tokenizer

TEXTS = [
    "a cat",
    "A kitten.",
    "Stock exchanges closed higher on Friday after the central bank kept its rate.",
    "Selamat pagi, dunia!",
    "Ünïcödé 日本語 🎉",
    "x",
    "word " * 120,
]


def _oracle(model: hf.PreTrainedModel, inputs: list[list[int]]) -> torch.Tensor:
    """Mean over the tokens, then unit length: sentence-transformers' recipe for this model."""
    rows: list[torch.Tensor] = []
    with torch.inference_mode():
        for tokens in inputs:
            states = model(torch.tensor([tokens])).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(states.mean(0), dim=0))
    return torch.stack(rows)


def test_the_real_model(minilm_folder: Path) -> None:
    checkpoint = open_checkpoint(minilm_folder)
    tokenizer = load_tokenizer(checkpoint)
    inputs = [tokenizer.encode(text, special=True) for text in TEXTS]
    assert inputs == hf.AutoTokenizer.from_pretrained(minilm_folder)(TEXTS)["input_ids"]
    vectors = load_encoder(checkpoint).embed(inputs)
    oracle = hf.AutoModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()
    assert (vectors - _oracle(oracle, inputs)).abs().max() <= 1e-5


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new"])
def test_other_shapes(activation: str, tmp_path: Path) -> None:
    oracle = _write(tmp_path, hidden_act=activation, layer_norm_eps=1e-6)
    inputs = [[1, 2, 3], [4, 5, 6], [7], list(range(40))]
    ours = load_encoder(open_checkpoint(tmp_path)).embed(inputs)
    assert (ours - _oracle(oracle, inputs)).abs().max() <= 1e-5


def test_company_changes_nothing(tmp_path: Path) -> None:
    _write(tmp_path)
    encoder: Encoder = load_encoder(open_checkpoint(tmp_path))
    inputs = [[1, 2, 3], [9, 8, 7, 6], [3, 2, 1]]
    together = encoder.embed(inputs)
    alone = torch.cat([encoder.embed([tokens]) for tokens in inputs])
    assert (together - alone).abs().max() <= 1e-6


def test_a_text_model_is_not_an_encoder_nor_the_other_way(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(ModelFileError, match="embedding model"):
        load_decoder(open_checkpoint(tmp_path))


def test_a_missing_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "whole")
    for name, change in (("missing", None), ("short", torch.zeros(3))):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "whole", folder)
        tensors = load_file(folder / "model.safetensors")
        victim = "encoder.layer.1.output.dense.bias"
        del tensors[victim]
        if change is not None:
            tensors[victim] = change
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelFileError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
            load_encoder(open_checkpoint(folder))


def test_relative_positions_are_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"position_embedding_type": "relative_key"}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match="relative positions"):
        load_encoder(open_checkpoint(tmp_path))


def _write(folder: Path, **options: object) -> hf.PreTrainedModel:
    config = hf.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        **options,
    )
    torch.manual_seed(3)
    model = hf.BertModel._from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.eval().save_pretrained(folder)
    return model
