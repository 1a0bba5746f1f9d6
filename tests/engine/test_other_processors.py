"""Machine code for processors with fewer instructions than this one gives the same bits."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from llvmlite import binding

from daulat.engine.loading import load_native
from daulat.engine.native.matrices import matrix
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import make, write
from tests.engine.products import times

ROOT = Path(__file__).parents[2]
AVX2 = ("sse4.2", "avx", "avx2", "fma", "f16c", "bmi", "bmi2")
PROCESSORS = {"haswell": AVX2, "alderlake": (*AVX2, "avxvnni")}
FORMS = ("Q4_1", "Q8_0")


def results() -> list[list[int]]:
    """The bits of some products, as whole numbers."""
    random = np.random.default_rng(1)
    weights = random.standard_normal((40, 256), dtype=np.float32)
    x = random.standard_normal((5, 256), dtype=np.float32)
    found: list[list[int]] = []
    for form in FORMS:
        held = matrix(
            np.ascontiguousarray(quants.quantize(weights, Kind[form])).view(np.uint8), form
        )
        for fine in (False, True):
            y = np.empty((5, 40), dtype=np.float32)
            times(held, fine, x, y, 40)
            found.append(y.view(np.int32).ravel().tolist())
    return found


def logits(folder: str) -> list[float]:
    """Behind a prompt and one more token, of a whole model in 8 bits."""
    decoder = load_native(open_checkpoint(Path(folder)), "int8", threads=2, matrix_units=False)
    cache = decoder.new_cache(40)
    decoder.forward([Chunk(list(range(38)), cache)])
    return decoder.forward([Chunk([5], cache, written=True)])[0].tolist()


def elsewhere(name: str, cache: Path, *arguments: str) -> Any:
    """What this module prints when it is compiled for that processor."""
    here = binding.get_host_cpu_features()
    if missing := [feature for feature in PROCESSORS[name] if not here.get(feature)]:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in PROCESSORS[name]),
        "NUMBA_CACHE_DIR": str(cache),
    }
    there = subprocess.run(
        [sys.executable, "-m", "tests.engine.test_other_processors", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(there.stdout)


pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86 processor"
)


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_the_same_bits_with_fewer_instructions(name: str, tmp_path: Path) -> None:
    assert elsewhere(name, tmp_path) == results()


def test_a_whole_model_is_compiled_where_there_are_no_matrix_units(tmp_path: Path) -> None:
    folder = str(write(make("llama head size"), tmp_path / "model"))
    there = elsewhere("haswell", tmp_path / "cache", folder)
    # The same steps of eight bits; sums of float32 in attention and norms differ by the width of vectors.
    assert np.abs(np.array(there) - logits(folder)).max() <= 0.02


if __name__ == "__main__":
    print(json.dumps(logits(sys.argv[1]) if sys.argv[1:] else results()))
