"""The models in memory: loaded once, unloaded when memory is short or they lie idle, never at work."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest

from daulat.endpoints import memory
from daulat.endpoints.pool import Loaded, Pool
from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.loading import load_native
from daulat.engine.native import units
from daulat.engine.native.matrices import held_bytes
from daulat.errors import ModelFileError, UnavailableError, UnsupportedModelError
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.pull import pull
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import Architecture


@pytest.fixture
def catalogue(tmp_path: Path, small_model: Path) -> Catalogue:
    """Three models of the same size, told apart by a byte of white space."""
    found = Catalogue(tmp_path / "home")
    for name in ("one", "two", "three"):
        folder = tmp_path / name
        shutil.copytree(small_model, folder)
        config = folder / "config.json"
        config.write_text(config.read_text() + " " * len(found.names()))
        pull(found, str(folder))
    assert len({entry.digest for entry in found.entries()}) == 3
    return found


def entry(catalogue: Catalogue, name: str) -> ModelEntry:
    found = catalogue.get(name)
    assert found is not None
    return found


def names(pool: Pool) -> set[str]:
    return {model.name for model in pool.loaded}


async def touch(pool: Pool, catalogue: Catalogue, name: str) -> Loaded:
    async with pool.use(name, entry(catalogue, name).digest) as model:
        return model


def pool_of(catalogue: Catalogue, models: float) -> Pool:
    """With room for so many of the small models, each with its cache at the smallest."""
    settings = EngineSettings(device="cpu", dtype="float32", threads=1, max_sequences=1)
    pool = Pool(catalogue, settings)
    opened = entry(catalogue, "one").open()
    need = memory.demand(opened.architecture, opened.tensors, settings, 1 << 30)
    # What one takes when it fills half of what is left with cache is at most its whole context.
    most = need.weights + need.token * opened.architecture.context  # type: ignore[union-attr]
    pool._allowed = int(models * most)
    return pool


async def test_loaded_once_and_shared(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 8)
    both = await asyncio.gather(*(touch(pool, catalogue, "one") for _ in range(5)))
    assert len({id(model) for model in both}) == 1
    await pool.close()


async def test_the_longest_idle_makes_room(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 2.2)
    for name in ("one", "two", "one", "three"):
        await touch(pool, catalogue, name)
    assert names(pool) == {"one", "three"}
    await pool.close()


async def test_a_model_at_work_is_never_unloaded(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 1.05)
    async with pool.use("one", entry(catalogue, "one").digest):
        with pytest.raises(UnavailableError, match=r"needs \d+ MiB .* MiB are free"):
            await touch(pool, catalogue, "two")
        assert names(pool) == {"one"}
    await touch(pool, catalogue, "two")
    assert names(pool) == {"two"}
    await pool.close()


async def test_a_loaded_model_does_not_wait_for_another_ones_loading(
    catalogue: Catalogue,
) -> None:
    pool = pool_of(catalogue, 8)
    await touch(pool, catalogue, "one")
    async with pool._lock:  # as while another is loaded
        await asyncio.wait_for(touch(pool, catalogue, "one"), 5)
    await pool.close()


async def test_idle_models_go_after_their_time(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 8)
    await touch(pool, catalogue, "one")
    pool._idle_seconds = 0.05  # type: ignore[assignment]
    sweeping = asyncio.create_task(pool.sweep())
    async with pool.use("two", entry(catalogue, "two").digest):
        for _ in range(200):
            await asyncio.sleep(0.02)
            if names(pool) == {"two"}:
                break
        assert names(pool) == {"two"}
    sweeping.cancel()
    await pool.close()


async def test_a_model_that_was_replaced_is_not_answered_with(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 8)
    with pytest.raises(UnavailableError, match="replaced"):
        async with pool.use("one", entry(catalogue, "two").digest):
            pass
    await pool.close()


async def test_damage_is_told_and_the_pool_goes_on(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 8)
    broken = entry(catalogue, "one")
    broken.paths()["config.json"].unlink()
    with pytest.raises(ModelFileError, match="pull it again"):
        await touch(pool, catalogue, "one")
    await touch(pool, catalogue, "two")
    await pool.close()


async def test_a_closed_pool_loads_nothing(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, 8)
    await touch(pool, catalogue, "one")
    await pool.close()
    assert pool.loaded == ()
    with pytest.raises(UnavailableError, match="shutting down"):
        await touch(pool, catalogue, "one")


def test_what_a_model_takes(catalogue: Catalogue) -> None:
    opened = entry(catalogue, "one").open()

    def demand(dtype: Any, allowed: int, kernels: Any = "plain") -> memory.Demand:
        settings = EngineSettings(dtype=dtype, kernels=kernels)
        return memory.demand(opened.architecture, opened.tensors, settings, allowed)

    exact, half = demand("float32", 0), demand("bfloat16", 0)
    assert exact.weights == 2 * half.weights
    assert not exact.native
    # Two (key and value) of 3 layers, 2 heads, 16 numbers of four bytes.
    assert exact.token == 2 * 3 * 2 * 16 * 4
    assert demand("auto", 1 << 40) == exact
    assert demand("auto", exact.weights) == half
    native = demand("auto", 1 << 40, "auto")
    assert native.native
    assert native.weights == exact.weights  # stored as float32, so held as such
    vectors = sum(prod(one.shape) for one in opened.tensors.values() if len(one.shape) == 1)
    assert demand("bfloat16", 0, "auto").weights == half.weights + 2 * vectors  # those in float32


@pytest.mark.parametrize("inputs", ["auto", "int16"])
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8", "int4"])
def test_a_token_takes_what_it_is_said_to_take(
    catalogue: Catalogue, dtype: Any, inputs: Any
) -> None:
    opened = entry(catalogue, "one").open()
    settings = EngineSettings(dtype=dtype, inputs=inputs)
    need = memory.demand(opened.architecture, opened.tensors, settings, 1 << 40)
    decoder = load_native(opened, need.numbers, calibration=0, inputs=inputs)
    block = decoder.new_memory(1).block(0)
    assert need.token * BLOCK_TOKENS == block.nbytes
    exact = dtype in ("auto", "float32") or inputs == "int16"
    assert block.itemsize == (4 if exact else 2)


@dataclass(frozen=True)
class Described:
    """A tensor of a model that is too large to make."""

    shape: tuple[int, ...]
    type: str

    @property
    def size(self) -> int:
        return held_bytes(self.type, prod(self.shape))


@pytest.mark.parametrize("stored", ["F32", "BF16", "F16", "Q4_K", "Q4_1"])
def test_the_automatic_format(catalogue: Catalogue, stored: str) -> None:
    """Floats stay up to 512 MiB, and become 8 bits beyond; blocks stay; 4 bits are asked for."""
    architecture = entry(catalogue, "one").open().architecture
    assert isinstance(architecture, Architecture)
    itemsize = {"F32": 4, "BF16": 2, "F16": 2}.get(stored, 0)

    def need(columns: int, dtype: Any = "auto", allowed: int = 1 << 40) -> memory.Demand:
        tensors = {
            "head": Described((architecture.vocab, 64), stored),
            "up": Described((1 << 16, columns), stored),
            "norm": Described((64,), "F32"),
        }
        settings = EngineSettings(dtype=dtype)
        return memory.demand(architecture, tensors, settings, allowed)

    small, large = 1024, 1 << 14
    assert need(small).numbers == "float32"
    assert need(large).numbers == ("int8" if itemsize else "float32")
    assert need(small, allowed=1 << 20).numbers == ("int8" if itemsize else "float32")
    count = (large << 16) + architecture.vocab * 64
    if itemsize:
        assert need(large).weights == count // 32 * 34 + 64 * 4
        fine, coarse = architecture.vocab * 64 // 32 * 34, (large << 16) // 32 * 20
        assert need(large, "int4").weights == fine + coarse + coarse // 50 + 64 * 4
        assert need(large, "float32").weights == count * itemsize + 64 * 4
    else:
        assert need(large, "int4").weights == need(large).weights


def test_a_forced_format_that_cannot_be_is_refused(catalogue: Catalogue) -> None:
    opened = entry(catalogue, "one").open()
    settings = EngineSettings(dtype="int4", kernels="plain")
    with pytest.raises(UnsupportedModelError, match=r"engine\.dtype"):
        memory.demand(opened.architecture, opened.tensors, settings, 1 << 30)


async def test_how_a_model_is_held_is_said(
    catalogue: Catalogue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "daulat")
    # A server in this process may have set up its own log before.
    monkeypatch.setattr(logging.getLogger("daulat"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("daulat.endpoints.pool"), "disabled", False)
    told_of_units = "; prompts: bfloat16 (AMX)" if units.there() else ""
    for dtype, held_as in (("auto", "F32"), ("int8", "int8"), ("int4", "int4")):
        said = held_as if dtype == "auto" else held_as + told_of_units
        settings: Any = {"device": "cpu", "dtype": dtype, "threads": 1, "max_sequences": 1}
        pool = Pool(catalogue, EngineSettings(**settings))
        told: list[tuple[int, int]] = []
        async with pool.use(
            "one", entry(catalogue, "one").digest, lambda *done, told=told: told.append(done)
        ) as model:
            assert model.numbers == said
        assert told[-1][0] == told[-1][1]
        await pool.close()
    held = [getattr(record, "numbers", None) for record in caplog.records]
    assert [one for one in held if one] == ["F32", "int8" + told_of_units, "int4" + told_of_units]


def test_the_allowance() -> None:
    assert memory.allowance(100) == 100 << 20
    assert 0 < memory.allowance(0) < 1 << 60
