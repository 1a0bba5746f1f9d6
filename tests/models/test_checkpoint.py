"""Checkpoints: the same tensors from every layout, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.checkpoint import INDEX, open_checkpoint, open_files

CONFIG: dict[str, Any] = {"model_type": "llama", "eos_token_id": 2}


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")


def sharded(folder: Path, weight_map: dict[str, Any]) -> Path:
    dump(folder / "config.json", CONFIG)
    save_file({"a": torch.ones(2)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, folder / "model-00002-of-00002.safetensors")
    dump(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    return folder


def test_single_file_and_mapping(tmp_path: Path) -> None:
    dump(tmp_path / "config.json", CONFIG)
    dump(tmp_path / "generation_config.json", {"eos_token_id": [2, 3]})
    save_file({"a": torch.ones(2, 3)}, tmp_path / "model.safetensors")
    model = open_checkpoint(tmp_path)
    assert (model.name, model.format) == (tmp_path.name, "safetensors")
    assert model.config == CONFIG
    assert model.generation_config == {"eos_token_id": [2, 3]}
    assert np.array_equal(model.read("a"), np.ones((2, 3)))
    assert model.tensors["a"].shape == (2, 3)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).rename(tmp_path / f"blob-{name[:3]}")
    stored = {"config.json": tmp_path / "blob-con", "model.safetensors": tmp_path / "blob-mod"}
    assert np.array_equal(open_files("m", stored).read("a"), np.ones((2, 3)))
    model.release("a")
    with pytest.raises(ModelFileError, match="no tensor 'z'"):
        model.read("z")


def test_shards(tmp_path: Path) -> None:
    shards = {f: f"model-0000{n}-of-00002.safetensors" for f, n in (("a", 1), ("b", 2))}
    model = open_checkpoint(sharded(tmp_path, shards))
    assert set(model.tensors) == {"a", "b"}
    assert np.array_equal(model.read("b"), np.zeros(3))


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "../model.safetensors"}, "not a shard's file name"),
        ({"a": "/etc/passwd"}, "not a shard's file name"),
        ({"a": "sub/model.safetensors"}, "not a shard's file name"),
        ({"a": "none.safetensors"}, "missing"),
        ({"b": "model-00001-of-00002.safetensors"}, "not there"),
        ({"a": 3}, "from names to file names"),
        ({}, "no weight_map"),
    ],
)
def test_lying_index(tmp_path: Path, weight_map: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        open_checkpoint(sharded(tmp_path, weight_map))


def test_pickles_are_refused(tmp_path: Path) -> None:
    dump(tmp_path / "config.json", CONFIG)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelFileError, match="pickle files, which are never read"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
def test_quantised_weights_are_refused_by_name(tmp_path: Path, method: str) -> None:
    dump(tmp_path / "config.json", {**CONFIG, "quantization_config": {"quant_method": method}})
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=method):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "config",
    [b"[]", b"{", b'{"a":' * 5000, b'{"a": 1, "a": 2}', b"\xff", b'{"a": "' + b"x" * (5 << 20)],
)
def test_hostile_config(tmp_path: Path, config: bytes) -> None:
    (tmp_path / "config.json").write_bytes(config)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"config\.json"):
        open_checkpoint(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a model that can be read"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelFileError, match="does not exist"):
        open_checkpoint(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="neither"):
        open_checkpoint(tmp_path / "none.bin")


def part(path: Path, name: str, numbers: dict[str, int]) -> None:
    writer = GGUFWriter(path, "llama")
    for key, value in numbers.items():
        writer.add_uint16(key, value)
    writer.add_tensor(name, np.full(4, 2.0, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split(folder: Path, second: int = 1, count: int = 2, total: int = 2, name: str = "b") -> Path:
    first = {"split.no": 0, "split.count": count, "split.tensors.count": total}
    part(folder / "m-00001-of-00002.gguf", "a", first)
    part(folder / "m-00002-of-00002.gguf", name, {"split.no": second, "split.count": count})
    return folder


def test_split_gguf_is_joined(tmp_path: Path) -> None:
    folder = split(tmp_path)
    for path in (folder, folder / "m-00001-of-00002.gguf", folder / "m-00002-of-00002.gguf"):
        model = open_checkpoint(path)
        assert model.format == "gguf"
        assert set(model.tensors) == {"a", "b"}
        assert model.read("b").tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"second": 0}, "says it is part 0"),
        ({"count": 3}, "one of 3 parts"),
        ({"total": 3}, "not what they claim"),
        ({"name": "a"}, "lies in two parts"),
    ],
)
def test_lying_parts(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        open_checkpoint(split(tmp_path, **arguments))


def test_missing_part_and_several_models(tmp_path: Path) -> None:
    folder = split(tmp_path)
    part(folder / "other.gguf", "c", {})
    with pytest.raises(ModelFileError, match="several GGUF models"):
        open_checkpoint(folder)
    assert set(open_checkpoint(folder / "other.gguf").tensors) == {"c"}
    (folder / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        open_checkpoint(folder / "m-00001-of-00002.gguf")


def test_a_lone_part_renamed_is_refused(tmp_path: Path) -> None:
    part(tmp_path / "m.gguf", "a", {"split.no": 0, "split.count": 2})
    with pytest.raises(ModelFileError, match="one of 2 parts"):
        open_checkpoint(tmp_path)


def test_the_real_ones(starter_gguf: Path, minilm_folder: Path) -> None:
    starter = open_checkpoint(starter_gguf)
    assert len(starter.tensors) == 272
    assert starter.architecture.hidden == 576
    assert open_checkpoint(minilm_folder).architecture.hidden == 384
