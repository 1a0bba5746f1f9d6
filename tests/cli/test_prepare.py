"""Prepared weights by the commands: made, said, verified, and removed with their model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numba
import pytest
from command import daulat

from daulat.engine.native import home as kernels
from daulat.models.catalogue import Catalogue
from daulat.models.shelf import Shelf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of one's own, with the compiled code that is there already."""
    kernels.choose()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(numba.config.CACHE_DIR))  # type: ignore[attr-defined]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "daulat" / "prepared"


@pytest.fixture
def medium(home: Path, small_model: Path, tmp_path: Path) -> str:
    """A model whose floats are worth a file: 50 MB of them."""
    from tests.engine.checkpoints import make, write

    folder = tmp_path / "medium"
    shutil.copytree(small_model, folder)
    wide = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 3}
    write(make("llama", wide), folder)
    assert daulat(home, "models", "pull", str(folder)).returncode == 0
    return "medium"


def test_prepared_verified_and_removed(home: Path, medium: str, cache: Path) -> None:
    done = daulat(home, "models", "prepare", medium)
    assert done.returncode == 0, done.stderr
    assert "needs no preparation" in done.stdout  # auto: few floats stay as they are
    assert not cache.exists()
    for numbers, most in (("int8", 15), ("int4", 11)):
        done = daulat(home, "models", "prepare", medium, "--format", numbers)
        assert done.returncode == 0, done.stderr
        assert f"medium is ready as {numbers}: " in done.stdout
        assert max(path.stat().st_size for path in cache.glob(f"*{numbers}*")) < most << 20
    files = sorted(cache.glob("*.safetensors"))
    assert [path.name.split("-")[1] for path in files] == ["int4", "int8"]
    entry = Catalogue(home).get(medium)
    assert entry is not None
    assert Shelf(cache, 1).files(entry.digest)

    assert daulat(home, "models", "verify", medium).stdout == "medium: sound\n"
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)
    done = daulat(home, "models", "verify", medium)
    assert done.returncode == 0
    assert files[0].name in done.stdout
    assert not files[0].exists()

    assert daulat(home, "models", "remove", medium).returncode == 0
    assert list(cache.iterdir()) == []


def test_a_format_for_which_the_kernels_are_not_there(home: Path, medium: str, cache: Path) -> None:
    (home / "daulat.toml").write_text('[engine]\nkernels = "plain"\n', encoding="utf-8")
    done = daulat(home, "models", "prepare", medium, "--format", "int8")
    assert done.returncode == 1
    assert "engine.kernels" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_setting_says_that_none_are_kept(home: Path, medium: str, cache: Path) -> None:
    (home / "daulat.toml").write_text("[engine]\nprepared = 0\n", encoding="utf-8")
    done = daulat(home, "models", "prepare", medium, "--format", "int8")
    assert done.returncode == 0
    assert "needs no preparation" in done.stdout
    assert not cache.exists()
    assert os.environ["XDG_CACHE_HOME"]
