"""The native way from files to logits in a process that never imports PyTorch, unless it chooses four bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import adapted, saved
from checkpoints import make, write
from safetensors.torch import load_file, save_file

from daulat.engine.loading import load_adapter, load_native
from daulat.engine.native.matrices import Numbers
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from daulat.models.lora import CONFIG, TENSORS, LoraFile
from daulat.models.lora_sites import base_of
from daulat.models.shelf import Shelf

PROMPT = [(7 * i * i + 3 * i) % 300 for i in range(40)]

_COMPUTE = """
import sys, json
from pathlib import Path
from daulat.engine.loading import load_adapter, load_native
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from daulat.models.lora import CONFIG, TENSORS, LoraFile
from daulat.models.lora_sites import base_of
from daulat.models.shelf import Shelf

model, lora, shelf, numbers, prompt = sys.argv[1:]
checkpoint = open_checkpoint(Path(model))
place = Shelf(Path(shelf), 1 << 30, least=0).place("sha256:" + "0" * 64, numbers)
decoder = load_native(checkpoint, numbers, place=place)
base = base_of(checkpoint)
file = LoraFile("lora", {name: Path(lora) / name for name in (CONFIG, TENSORS)}, base)
adapter = load_adapter(file, "lora", base.layers)
tokens = json.loads(prompt)
found = [
    decoder.forward([Chunk(tokens, decoder.new_cache(len(tokens)), adapter=one)], every=True)
    for one in (None, adapter)
]
print("torch" in sys.modules, file=sys.stderr)
print(json.dumps([one.tobytes().hex() for one in found]))
"""


@pytest.mark.parametrize("numbers", ["float32", "bfloat16", "int8", "int4"])
def test_the_same_bits_without_torch(tmp_path: Path, numbers: Numbers) -> None:
    """bfloat16 checkpoints with an adapter in bfloat16: made, kept, and mapped at the second start."""
    model = make("llama").to(torch.bfloat16)
    folder = write(model, tmp_path / "base")
    lora = saved(adapted(make("llama"), ["q_proj", "down_proj"], seed=5), tmp_path / "lora")
    halves = {name: one.to(torch.bfloat16) for name, one in load_file(lora / TENSORS).items()}
    save_file(halves, lora / TENSORS)
    arguments = [str(folder), str(lora), str(tmp_path / "shelf"), numbers, json.dumps(PROMPT)]
    ways = [
        subprocess.run(
            [sys.executable, "-c", _COMPUTE, *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        for _ in range(2)
    ]
    # Four bits are chosen with it, once.
    for done, brought in zip(ways, (numbers == "int4", False), strict=True):
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == str(brought)
    assert ways[0].stdout == ways[1].stdout
    checkpoint = open_checkpoint(folder)
    base = base_of(checkpoint)
    file = LoraFile("lora", {name: lora / name for name in (CONFIG, TENSORS)}, base)
    decoder, change = load_native(checkpoint, numbers), load_adapter(file, "lora", base.layers)
    here = [
        decoder.forward([Chunk(PROMPT, decoder.new_cache(len(PROMPT)), adapter=one)], every=True)
        for one in (None, change)
    ]
    assert [one.tobytes().hex() for one in here] == json.loads(ways[0].stdout)
    assert np.abs(here[0] - here[1]).max() > 0.05
    kept = list((tmp_path / "shelf").glob("*.safetensors"))
    assert len(kept) == 1
    assert Shelf(tmp_path / "shelf", 1 << 30).verify("sha256:" + "0" * 64) == []
