"""Adapters in the store: whole or not at all, for their own base only, refused by name where not computed."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from daulat.errors import (
    DaulatError,
    ModelFileError,
    ModelNotFoundError,
    PullError,
    UnsupportedModelError,
)
from daulat.models.adapters import split
from daulat.models.adopt import adopt
from daulat.models.catalogue import Catalogue, check_name
from daulat.models.checkpoint import open_checkpoint
from daulat.models.lora import CONFIG, TENSORS, LoraFile
from daulat.models.lora_sites import base_of
from daulat.models.pull import pull
from tests.engine.adapters import ALL, ATTENTION, adapted, saved
from tests.engine.checkpoints import make, write
from tests.models.killing import killed_at_work


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the small model."""
    return saved(adapted(make("llama"), ALL, seed=4), tmp_path_factory.mktemp("lora"))


@pytest.fixture
def catalogue(tmp_path: Path, small_model: Path) -> Catalogue:
    found = Catalogue(tmp_path / "home")
    pull(found, str(small_model), name="tiny")
    return found


@pytest.fixture
def copy(lora: Path, tmp_path: Path) -> Path:
    """The adapter's folder, to be changed."""
    return Path(shutil.copytree(lora, tmp_path / "copy"))


def blobs(catalogue: Catalogue) -> list[Path]:
    return list(catalogue.store.path("sha256:00").parent.parent.glob("??/*"))


def configure(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def retensor(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)


def test_an_adapter_comes_in_and_goes(catalogue: Catalogue, lora: Path) -> None:
    before = blobs(catalogue)
    entry = adopt(catalogue, "tiny", "one", lora)
    assert entry.id == "tiny:one"
    assert (entry.rank, entry.targets) == (8, tuple(sorted(ALL)))
    model = catalogue.get("tiny")
    assert model is not None
    assert entry.base_digest == model.digest
    assert entry.parameters == sum(t.numel() for t in load_file(lora / TENSORS).values())
    assert catalogue.adapters.entries() == (entry,)
    assert catalogue.adapters.get("tiny", "one") == entry
    assert catalogue.names() == ("tiny",)  # an adapter is no model
    for name, path in entry.paths().items():
        assert path.read_bytes() == (lora / name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o444
    assert adopt(catalogue, "tiny", "one", lora) == entry
    assert adopt(catalogue, "tiny", "two", lora).digest == entry.digest
    assert catalogue.remove_adapter("tiny", "one") == 0  # the other one shares its files
    assert catalogue.remove_adapter("tiny", "two") == entry.size
    assert blobs(catalogue) == before
    with pytest.raises(ModelNotFoundError, match="no adapter 'two'"):
        catalogue.remove_adapter("tiny", "two")


def test_models_and_adapters_keep_each_other(
    catalogue: Catalogue, lora: Path, small_model: Path
) -> None:
    entry = adopt(catalogue, "tiny", "one", lora)
    pull(catalogue, str(small_model), name="other")
    catalogue.remove("other")  # sweeps, and must leave the adapter's files
    assert all(path.exists() for path in entry.paths().values())
    with pytest.raises(PullError, match=r"tiny has adapters: one.*daulat adapters remove tiny one"):
        catalogue.remove("tiny")
    catalogue.remove_adapter("tiny", "one")
    catalogue.remove("tiny")
    assert blobs(catalogue) == []


def test_a_taken_name_is_not_given_away(catalogue: Catalogue, lora: Path, copy: Path) -> None:
    entry = adopt(catalogue, "tiny", "one", lora)
    there = set(blobs(catalogue))
    configure(copy, lora_alpha=3)
    with pytest.raises(PullError, match="another name"):
        adopt(catalogue, "tiny", "one", copy)
    assert catalogue.adapters.get("tiny", "one") == entry
    assert set(blobs(catalogue)) == there


@pytest.mark.parametrize(
    "name", ["", "a:b", "../x", ".x", "-x", "a/b", "a b", "x" * 97, "é", "a\n"]
)
def test_names_that_are_none(catalogue: Catalogue, lora: Path, name: str) -> None:
    with pytest.raises(PullError, match="cannot name an adapter"):
        adopt(catalogue, "tiny", name, lora)
    assert catalogue.adapters.get("tiny", name) is None
    assert catalogue.adapters.get(name, "one") is None


@given(st.text(max_size=12))
def test_base_and_adapter_are_told_apart_in_one_way(text: str) -> None:
    base, name = split(text)
    assert text == (base if name is None else f"{base}:{name}")
    assert ":" not in base
    with pytest.raises(PullError):
        check_name(f"{text}:x")


def test_a_folder_that_is_none(catalogue: Catalogue, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(PullError, match="no folder"):
        adopt(catalogue, "tiny", "one", tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="Did you mean tiny"):
        adopt(catalogue, "tinny", "one", copy)
    (copy / TENSORS).rename(copy / "adapter_model.bin")
    with pytest.raises(PullError, match=r"pickle.*safe_serialization"):
        adopt(catalogue, "tiny", "one", copy)
    (copy / CONFIG).unlink()
    (copy / "adapter_model.bin").unlink()
    with pytest.raises(PullError, match=f"no {CONFIG}"):
        adopt(catalogue, "tiny", "one", copy)


def test_an_embedding_model_takes_none(
    catalogue: Catalogue, minilm_folder: Path, lora: Path
) -> None:
    pull(catalogue, str(minilm_folder), name="minilm")
    with pytest.raises(UnsupportedModelError, match="embedding model"):
        adopt(catalogue, "minilm", "one", lora)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"peft_type": "IA3"}, "type 'IA3'"),
    "no method": ({"peft_type": None}, "type 'None'"),
    "a classifier": ({"task_type": "SEQ_CLS"}, "task 'SEQ_CLS'"),
    "dora": ({"use_dora": True}, "DoRA"),
    "biases": ({"bias": "lora_only"}, "biases.*lora_only"),
    "lora biases": ({"lora_bias": True}, "biases on the LoRA"),
    "modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    "parameters": ({"target_parameters": ["mlp.experts.w"]}, "target_parameters"),
    "layers": ({"layer_replication": [[0, 2]]}, "layer_replication"),
    "alora": ({"alora_invocation_tokens": [5]}, "activated LoRA"),
    "qalora": ({"use_qalora": True}, "QALoRA"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
    "the future": ({"use_xlora_9": True}, "option 'use_xlora_9'"),
    "the output matrix": ({"target_modules": ["lm_head"]}, "'lm_head'.*output matrix"),
    "the embedding": ({"target_modules": ["embed_tokens"]}, "'embed_tokens'.*embeddings"),
    "no such module": ({"target_modules": ["c_attn"]}, "'c_attn'.*no such matrix; it has q_proj"),
    "a pattern that may run for ever": ({"rank_pattern": {"((a|a)+)+x": 3}}, "pattern"),
    "many wild cards": ({"alpha_pattern": {".*a.*a.*a.*q_proj": 3}}, "pattern"),
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "rank 0": ({"r": 0}, "r must be a whole number from 1 to 256"),
    "rank 10000": ({"r": 10000}, "from 1 to 256"),
    "rank true": ({"r": True}, "from 1 to 256"),
    "another rank": ({"r": 4}, r"shape \(8, 96\); with rank 4.*must be \(4, 96\).*base or rank"),
    "a rank by pattern": (
        {"rank_pattern": {"v_proj": 2}},
        r"v_proj has shape \(8, 64\); with rank 2",
    ),
    "alpha": ({"lora_alpha": -1}, "lora_alpha must be a number"),
    "alpha as text": ({"lora_alpha": "16"}, "lora_alpha must be a number"),
    "rslora": ({"use_rslora": "yes"}, "use_rslora must be true or false"),
    "fan": ({"fan_in_fan_out": 1}, "fan_in_fan_out must be true or false"),
    "no targets": ({"target_modules": None}, "target_modules must be a list"),
    "targets of numbers": ({"target_modules": [1]}, "target_modules must be a list"),
    "a list of patterns": ({"rank_pattern": [1]}, "rank_pattern must be a table"),
}


@pytest.mark.parametrize("case", [*REFUSED, *WRONG])
def test_what_is_not_computed_is_refused_by_name(
    case: str, catalogue: Catalogue, copy: Path
) -> None:
    there = set(blobs(catalogue))
    changes, words = REFUSED.get(case) or WRONG[case]
    configure(copy, **changes)
    with pytest.raises(UnsupportedModelError if case in REFUSED else ModelFileError, match=words):
        adopt(catalogue, "tiny", "one", copy)
    assert catalogue.adapters.entries() == ()
    assert set(blobs(catalogue)) == there  # what was copied in to be looked at is gone


def _rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


Q = "base_model.model.model.layers.0.self_attn.q_proj."
TENSORS_WRONG: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "a layer too many": (_rename("layers.2.", "layers.9."), "has 3 layers; .* larger base"),
    "a huge layer": (_rename("layers.2.", "layers." + "9" * 99 + "."), "no such matrix"),
    "other names": (_rename("self_attn.q_proj", "attn.c_attn"), "'model.layers.0.attn.c_attn'"),
    "the output matrix": (_rename("model.layers.0.mlp.up_proj", "lm_head"), "output matrix"),
    "dora": (
        lambda t: t.update({Q + "lora_magnitude_vector": torch.ones(64)}),
        "DoRA",
    ),
    "an embedding": (
        lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2)}),
        "LoRA on embeddings",
    ),
    "a bias": (lambda t: t.update({Q + "lora_B.bias": torch.ones(64)}), "biases"),
    "anything": (lambda t: t.update({"x": torch.ones(1)}), "'x', which is no LoRA matrix"),
    "half a pair": (lambda t: t.pop(Q + "lora_B.weight"), "q_proj has no lora_B"),
    "a pair gone": (
        lambda t: (t.pop(Q + "lora_A.weight"), t.pop(Q + "lora_B.weight")),
        r"'q_proj' and has no matrices for model\.layers\.0\.self_attn\.q_proj.*another base",
    ),
    "nothing": (lambda t: t.clear(), "changes nothing|too short|empty"),
    "another width": (
        lambda t: t.update({Q + "lora_A.weight": torch.ones(8, 96)}),
        r"lora_A of .*q_proj has shape \(8, 96\).*64 inputs \(tiny\).*must be \(8, 64\)",
    ),
    "another height": (
        lambda t: t.update({Q + "lora_B.weight": torch.ones(65, 8)}),
        r"lora_B of .*q_proj has shape \(65, 8\).*64 outputs \(tiny\).*must be \(64, 8\)",
    ),
    "three dimensions": (
        lambda t: t.update({Q + "lora_A.weight": torch.ones(8, 64, 1)}),
        r"shape \(8, 64, 1\)",
    ),
    "whole numbers": (
        lambda t: t.update({Q + "lora_A.weight": torch.ones(8, 64, dtype=torch.int8)}),
        "stored as I8",
    ),
    "no number": (
        lambda t: t.update({Q + "lora_B.weight": torch.full((64, 8), torch.nan)}),
        "not finite",
    ),
    "too large a number": (
        lambda t: t.update({Q + "lora_B.weight": torch.full((64, 8), 3e38)}),
        "not finite",
    ),
    "twice": (
        lambda t: t.update({Q + "lora_A.default.weight": torch.ones(8, 64)}),
        "lora_A twice",
    ),
}


@pytest.mark.parametrize("case", list(TENSORS_WRONG))
def test_tensors_that_do_not_fit_are_named(case: str, catalogue: Catalogue, copy: Path) -> None:
    change, words = TENSORS_WRONG[case]
    retensor(copy, change)
    with pytest.raises(ModelFileError, match=words):
        adopt(catalogue, "tiny", "one", copy)
    assert catalogue.adapters.entries() == ()


def test_an_adapter_of_another_base(catalogue: Catalogue, tmp_path: Path) -> None:
    wide = {"hidden_size": 128, "num_attention_heads": 8}
    for name, case, changes, words in (
        ("wide", "llama", wide, r"\(128, 8\).*64 outputs \(tiny\)"),
        ("deep", "llama", {"num_hidden_layers": 4}, "tiny has 3 layers"),
        ("flat", "llama", {"num_hidden_layers": 2}, r"no matrices for model\.layers\.2"),
    ):
        folder = saved(adapted(make(case, changes), ALL, seed=5), tmp_path / name)
        with pytest.raises(ModelFileError, match=words):
            adopt(catalogue, "tiny", "one", folder)
    foreign = saved(adapted(make("gpt-neo"), ["q_proj"], seed=5), tmp_path / "neo")
    with pytest.raises(ModelFileError, match=r"transformer\.h\.0.*made for another base"):
        adopt(catalogue, "tiny", "one", foreign)


@pytest.mark.parametrize("case", ["mixtral", "granite moe"])
def test_experts_are_refused_by_name(case: str, tmp_path: Path) -> None:
    model = make(case)
    base = base_of(open_checkpoint(write(model, tmp_path / "base")))
    folder = saved(adapted(model, ATTENTION, seed=6), tmp_path / "lora")
    files = {name: folder / name for name in (CONFIG, TENSORS)}
    assert LoraFile("fits", files, base).targets == tuple(sorted(ATTENTION))
    retensor(folder, _rename("self_attn.q_proj", "block_sparse_moe.input_linear"))
    with pytest.raises(UnsupportedModelError, match="experts and of their router"):
        LoraFile("does not fit", files, base)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = [
    *("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "bias", "use_rslora"),
    *("peft_type", "task_type", "init_lora_weights", "layers_to_transform", "use_dora", "new"),
    *("exclude_modules", "fan_in_fan_out", "modules_to_save", "base_model_name_or_path"),
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(st.sampled_from(KEYS), json_values, min_size=1, max_size=4))
def test_hostile_configurations_are_refused_or_mean_what_they_say(
    changes: dict[str, Any], lora: Path, small_model: Path, tmp_path: Path
) -> None:
    base = base_of(open_checkpoint(small_model))
    config = json.loads((lora / CONFIG).read_text()) | changes
    (tmp_path / CONFIG).write_text(json.dumps(config))
    try:
        found = LoraFile("x", {CONFIG: tmp_path / CONFIG, TENSORS: lora / TENSORS}, base)
    except DaulatError:
        return
    assert found.rank == 8
    assert len(found.pairs) == 7 * 3
    for pair in found.pairs:
        a, b = found.read(pair)
        assert (a.shape, b.shape) == ((8, pair.site.columns), (pair.site.rows, 8))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pattern=st.text(alphabet=r"ab.*+?()|[]{}\d^$q_", max_size=40))
def test_no_pattern_runs_for_long(
    pattern: str, lora: Path, small_model: Path, tmp_path: Path
) -> None:
    base = base_of(open_checkpoint(small_model))
    config = json.loads((lora / CONFIG).read_text()) | {"alpha_pattern": {pattern: 2.0}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    started = time.monotonic()
    with contextlib.suppress(DaulatError):
        LoraFile("x", {CONFIG: tmp_path / CONFIG, TENSORS: lora / TENSORS}, base)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 9999, b'{"r": 8, "r": 9}', b"\xff" * 9])
def test_a_configuration_that_is_none(data: bytes, catalogue: Catalogue, copy: Path) -> None:
    (copy / CONFIG).write_bytes(data)
    with pytest.raises(ModelFileError):
        adopt(catalogue, "tiny", "one", copy)


def test_files_that_are_too_large_are_not_copied(catalogue: Catalogue, copy: Path) -> None:
    with (copy / TENSORS).open("r+b") as file:
        file.truncate(1 << 32)
    with pytest.raises(
        ModelFileError, match=r"4294967296 bytes; an adapter of tiny has \d+ at most"
    ):
        adopt(catalogue, "tiny", "one", copy)


def test_a_damaged_manifest_is_named_and_the_others_stay(catalogue: Catalogue, lora: Path) -> None:
    good = adopt(catalogue, "tiny", "good", lora)
    bad = catalogue.store.adapters / "tiny" / "bad.json"
    for text in ("", "{}", '{"files": {"a": {"digest": "sha256:../x", "size": 1}}}', "[" * 9999):
        bad.write_text(text)
        assert catalogue.adapters.entries() == (good,)
        with pytest.raises(ModelFileError, match=r"bad\.json is damaged"):
            catalogue.adapters.get("tiny", "bad")
        for remove in (lambda: catalogue.remove_adapter("tiny", "good"), catalogue.used):
            with pytest.raises(ModelFileError, match="damaged"):
                remove()
    assert catalogue.adapters.get("tiny", "good") == good


_ADD = """
import sys
from daulat.models.adopt import adopt
from daulat.models.catalogue import Catalogue
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
catalogue = Catalogue(Path(sys.argv[1]))
for i in range(1000):
    adopt(catalogue, "tiny", f"a{i}", Path(sys.argv[2]))
    if i % 3 == 2:
        catalogue.remove_adapter("tiny", f"a{i - 1}")
"""


@pytest.mark.parametrize("milliseconds", [1, 6, 17, 40, 90])
def test_kill_at_any_moment(
    catalogue: Catalogue, lora: Path, milliseconds: int, tmp_path: Path
) -> None:
    before = set(blobs(catalogue))
    killed_at_work(_ADD, tmp_path / "home", lora, milliseconds)
    there = list((catalogue.store.adapters / "tiny").glob("*.json"))
    assert len(catalogue.adapters.entries()) == len(there)
    for entry in catalogue.adapters.entries():
        for name, path in entry.paths().items():
            assert path.read_bytes() == (lora / name).read_bytes()
    assert catalogue.verify("tiny") == []
    adopt(catalogue, "tiny", "after", lora)
    for entry in catalogue.adapters.entries():
        catalogue.remove_adapter("tiny", entry.name)
    assert set(blobs(catalogue)) == before
