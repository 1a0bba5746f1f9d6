"""Machine code for processors with fewer instructions than this one gives the same bits."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from llvmlite import binding

from daulat.engine.native.matrices import matrix
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


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86 processor")
@pytest.mark.parametrize("name", list(PROCESSORS))
def test_the_same_bits_with_fewer_instructions(name: str, tmp_path: Path) -> None:
    here = binding.get_host_cpu_features()
    if missing := [feature for feature in PROCESSORS[name] if not here.get(feature)]:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in PROCESSORS[name]),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    there = subprocess.run(
        [sys.executable, "-m", "tests.engine.test_other_processors"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(there.stdout) == results()


if __name__ == "__main__":
    print(json.dumps(results()))
