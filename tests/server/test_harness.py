"""The real lm-evaluation-harness against the real server, beside its own `hf` backend (minutes)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daulat.models.catalogue import ModelEntry

HARNESS = Path(__file__).parents[2] / "benchmarks" / "harness.py"


@pytest.mark.timeout(900)
def test_the_harness_gets_what_its_own_backend_gets(
    starter_entry: ModelEntry, model_cache: Path
) -> None:
    if shutil.which(os.environ.get("DAULAT_LM_EVAL", "lm_eval")) is None:
        pytest.skip(
            'lm_eval is not installed: pip install "lm-eval[api,hf]" in an environment of its own, '
            "and name its program in DAULAT_LM_EVAL"
        )
    done = subprocess.run(
        [sys.executable, str(HARNESS)],
        env={**os.environ, "DAULAT_TEST_CACHE": str(model_cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Largest difference of 160 log-likelihoods" in done.stdout
