"""8 and 4 bits against transformers with the same dequantised weights, and out of a prepared file."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf import quants
from transformers import PreTrainedModel

from daulat.engine.loading import load_native
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.native.matrices import NUMBERS, Numbers, form_for
from daulat.engine.native.panels import FORMS, Q4_1, Q8_0
from daulat.engine.native.quantise import quantise
from daulat.engine.step import Chunk
from daulat.errors import ModelFileError
from daulat.models.checkpoint import open_checkpoint
from daulat.models.shelf import Place, Shelf
from tests.engine.checkpoints import CASES, edit_tensors, make, write
from tests.engine.conftest import ROUNDED
from tests.engine.test_parity_gguf import (
    FILES,
    KINDS_OF,
    WIDE,
    agree,
    exactly,
    quieten,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LITTLE = 256
"""Tokens of text: enough for the way to be gone, and no more."""
DIGEST = "sha256:" + "c0ffee00" * 8
SLOTS = {
    "q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "c_attn": "qkv",
    "o_proj": "out", "gate_proj": "up", "up_proj": "up", "gate_up_proj": "up", "c_fc": "up",
    "down_proj": "down", "lm_head": "head", "embed_tokens": "embed", "wte": "embed",
    "router": "router", "wpe": "positions", "gate": "router",
}  # fmt: skip


def quantised(model: PreTrainedModel, numbers: Numbers) -> PreTrainedModel:
    """The oracle with the weights that the blocks stand for, by the `gguf` package."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                slot = _slot(name)
                form = form_for(slot, numbers)
                if form in (Q8_0, Q4_1):
                    rows = weight.detach().reshape(-1, weight.shape[-1]).numpy()
                    back = quants.dequantize(quantise(rows, form), KINDS_OF[form])
                    weight.copy_(torch.from_numpy(back).reshape(weight.shape))
    return model


def _slot(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[-1] == "c_proj":
        return "out" if parts[-2] == "attn" else "down"
    if parts[-1] == "layer":  # granite's router.layer
        return SLOTS[parts[-2]]
    return SLOTS[parts[-1]]


@pytest.mark.parametrize("numbers", ["int8", "int4"])
@pytest.mark.parametrize("case", list(FILES))
def test_logits_and_greedy_answer(
    case: str, numbers: Numbers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, _arch, options, _permuted = FILES[case]
    monkeypatch.setitem(CASES, case, (family, CASES["llama"][1] | WIDE | options))
    model = make(case)
    quieten(model)
    folder = write(model, tmp_path)
    oracle = quantised(model, numbers)
    decoder = load_native(open_checkpoint(folder), numbers, calibration=0, inputs="int16")
    expected = agree(decoder, oracle)
    with torch.inference_mode():
        assert (expected - exactly(model)).abs().max() > 2 * ROUNDED  # it was quantised


@pytest.fixture(scope="module", params=["llama biases", "granite moe", "bigcode"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make(request.param), tmp_path_factory.mktemp("prepared"))


load = functools.partial(load_native, calibration=LITTLE)


def place_in(folder: Path, numbers: str = "int4") -> Place:
    found = Shelf(folder / "prepared", 1 << 30, 0).place(DIGEST, numbers)
    assert found is not None
    return found


def bits(decoder: NativeDecoder) -> bytes:
    tokens = [(7 * i * i + i) % 300 for i in range(30)]
    cache = decoder.new_cache(40)
    return decoder.forward([Chunk(tokens, cache)], every=True).tobytes()


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_same_bits_from_the_prepared_file(
    folder: Path, tmp_path: Path, numbers: Numbers
) -> None:
    checkpoint = open_checkpoint(folder)
    place = place_in(tmp_path, numbers)
    expected = bits(load(checkpoint, numbers))
    told: list[tuple[int, int]] = []
    first = load(checkpoint, numbers, 1, lambda *done: told.append(done), place=place)
    assert bits(first) == expected
    count = len(first.architecture.layers)
    if numbers == "int4":  # read, then written, chosen by and compared
        assert told[:count] == [(i + 1, 4 * count) for i in range(count)]
        shares = [done / all_ for done, all_ in told]
        assert shares == sorted(shares)
        assert shares[-1] == 1
    else:
        assert told == [(i + 1, count) for i in range(count)]
    told.clear()
    assert bits(load(checkpoint, numbers, 1, lambda *done: told.append(done), place=place)) == (
        expected
    )
    assert told == []  # nothing was read from the checkpoint


def test_damage_is_found_and_made_good(folder: Path, tmp_path: Path) -> None:
    checkpoint, place = open_checkpoint(folder), place_in(tmp_path)
    expected = bits(load(checkpoint, "int4", place=place))
    whole = place.path.read_bytes()
    for damage in (whole[:-1], whole[: len(whole) // 2], b"", whole[:20], whole + b"\0"):
        place.path.write_bytes(damage)
        assert bits(load(checkpoint, "int4", place=place)) == expected
        assert place.path.read_bytes() == whole
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x81
        place.path.write_bytes(damaged)
        place.path.chmod(0o600)
        assert bits(load(checkpoint, "int4", place=place)) == expected


def test_a_file_of_other_shapes_is_made_anew(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a change of what a digest stands for: never read beyond a matrix's end."""
    checkpoint, place = open_checkpoint(folder), place_in(tmp_path)
    other = write(make("llama", {"hidden_size": 96, "num_hidden_layers": 2}), tmp_path / "other")
    load(open_checkpoint(other), "int4", place=place)
    caplog.clear()
    assert bits(load(checkpoint, "int4", place=place)) == bits(load(checkpoint, "int4"))
    assert "damaged" in caplog.text


def test_where_nothing_can_be_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prepared").write_text("in the way")
    checkpoint = open_checkpoint(folder)
    decoder = load(checkpoint, "int8", place=place_in(tmp_path, "int8"))
    assert bits(decoder) == bits(load(checkpoint, "int8"))


def test_what_costs_nothing_is_not_kept(folder: Path, tmp_path: Path) -> None:
    place = Shelf(tmp_path, 1 << 30).place(DIGEST, "float32")
    load(open_checkpoint(folder), "float32", place=place)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_an_infinite_weight_is_refused_and_not_kept(tmp_path: Path) -> None:
    folder = write(make("llama"), tmp_path / "model")
    checkpoint = open_checkpoint(folder)
    name = "model.layers.1.mlp.down_proj.weight"
    tensor = torch.from_numpy(checkpoint.read(name).copy())
    tensor[3, 5] = float("inf")
    edit_tensors(folder, {name: tensor})
    with pytest.raises(ModelFileError, match="infinite"):
        load(open_checkpoint(folder), "int8", place=place_in(tmp_path))
    assert not list((tmp_path / "prepared").glob("*.safetensors"))


_LOAD = """
import hashlib, sys
from pathlib import Path
from daulat.models.checkpoint import open_checkpoint
from tests.engine.test_prepared import bits, load, place_in
told = []
checkpoint, place = open_checkpoint(Path(sys.argv[1])), place_in(Path(sys.argv[2]))
decoder = load(checkpoint, "int4", 1, lambda *done: told.append(done), place=place)
print(len(told), hashlib.sha256(bits(decoder)).hexdigest())
"""


def test_two_processes_at_once_prepare_once_and_agree(folder: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", _LOAD, str(folder), str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0][1] == said[1][1]
    assert sorted(one[0] != "0" for one in said) == [False, True]
    assert len(list((tmp_path / "prepared").glob("*.safetensors"))) == 1
    assert not list((tmp_path / "prepared").glob("*.partial"))


def test_sizes_of_the_formats() -> None:
    assert (FORMS[Q8_0].size, FORMS[Q4_1].size) == (16 * 34, 16 * 20)
