"""Models on a device beside the processor's: where each goes, what it may take, and what is said of it.

The device is the processor under another name, with memory of its own to be counted: all but the arithmetic is
as on a CUDA device.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from daulat.endpoints import memory
from daulat.endpoints.pool import Pool
from daulat.engine.decoder import Decoder
from daulat.engine.device import Device, Missing
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.runner import Engine
from daulat.errors import UnavailableError
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import Architecture

HUGE = 1 << 40
NO_DRIVER = Missing("there is no driver", driver=False)
NO_CUDA = Missing("PyTorch is a build without CUDA")


@pytest.fixture
def catalogue(tmp_path: Path, small_model: Path) -> Catalogue:
    """Two models of the same size, told apart by a byte of white space."""
    found = Catalogue(tmp_path / "home")
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree(small_model, folder)
        config = folder / "config.json"
        config.write_text(config.read_text() + " " * len(found.names()))
        pull(found, str(folder))
    return found


def settings_of(**changes: Any) -> EngineSettings:
    return EngineSettings(**{"threads": 1, "max_sequences": 1, **changes})


def need_of(
    catalogue: Catalogue, found: Device | Missing, name: str = "one", **changes: Any
) -> memory.Demand:
    entry = catalogue.get(name)
    assert entry is not None
    opened = entry.open()
    return memory.choose(
        opened.architecture, opened.tensors, settings_of(**changes), 1 << 30, found
    )


def device_of(size: int) -> Device:
    return Device("cpu", "Test Device", size)


# --- where a model goes -----------------------------------------------------------------------------


def test_a_model_that_fits_goes_to_the_device_in_bfloat16(catalogue: Catalogue) -> None:
    on, off = need_of(catalogue, device_of(HUGE)), need_of(catalogue, NO_DRIVER)
    assert (on.device, on.dtype, on.native, on.aside) == (device_of(HUGE), "bfloat16", False, "")
    assert (off.device, off.native, off.aside) == (None, True, "")
    assert (on.weights, on.token) == (off.weights // 2, off.token // 2)
    exact = need_of(catalogue, device_of(HUGE), dtype="float32", kernels="plain")
    assert (exact.device, exact.weights) == (device_of(HUGE), off.weights)


@pytest.mark.parametrize(
    ("found", "changes", "why"),
    [
        (NO_CUDA, {}, "without CUDA"),
        (
            device_of(1 << 16),
            {},
            r"needs \d+ MiB .* Test Device, and 0 MiB may be .*engine\.memory",
        ),
        (device_of(HUGE), {"dtype": "int8"}, r"engine\.dtype"),
        (device_of(HUGE), {"dtype": "int4"}, r"engine\.dtype"),
    ],
)
def test_why_a_model_stays_on_the_processor(
    catalogue: Catalogue, found: Device | Missing, changes: dict[str, Any], why: str
) -> None:
    """`auto` says it, and "cuda" is refused with it."""
    with pytest.raises(UnavailableError, match=why) as refused:
        need_of(catalogue, found, device="cuda", **changes)
    assert 'set engine.device = "auto"' in refused.value.message
    need = need_of(catalogue, found, **changes)
    assert need.device is None
    assert need.aside
    assert need.aside in refused.value.message


def test_nothing_is_said_where_nobody_expects_a_device(catalogue: Catalogue) -> None:
    assert need_of(catalogue, NO_DRIVER).aside == ""
    assert need_of(catalogue, NO_CUDA, device="cpu").aside == ""
    assert need_of(catalogue, device_of(HUGE), device="cpu").device is None
    with pytest.raises(UnavailableError, match="there is no driver"):
        need_of(catalogue, NO_DRIVER, device="cuda")


def test_an_embedding_model_stays_on_the_processor(
    catalogue: Catalogue, minilm_folder: Path
) -> None:
    pull(catalogue, str(minilm_folder))
    name = (set(catalogue.names()) - {"one", "two"}).pop()
    for setting in ("auto", "cuda"):
        need = need_of(catalogue, device_of(HUGE), name, device=setting)
        assert (need.device, need.token, need.aside) == (None, 0, "")


def test_the_allowance_of_a_device() -> None:
    assert memory.allowance(0, device_of(4000)) == 3000
    assert memory.allowance(1, device_of(HUGE)) == 1 << 20
    assert memory.allowance(1, device_of(5)) == 5


# --- the pool ---------------------------------------------------------------------------------------


def pool_of(catalogue: Catalogue, found: Device | Missing, **changes: Any) -> Pool:
    return Pool(catalogue, settings_of(**changes), look=lambda: found)


def digest(catalogue: Catalogue, name: str) -> str:
    entry = catalogue.get(name)
    assert entry is not None
    return entry.digest


def room_for(catalogue: Catalogue, models: float) -> Device:
    """A device with room for so many of the small models, each with all of its cache."""
    need = need_of(catalogue, device_of(HUGE))
    entry = catalogue.get("one")
    assert entry is not None
    architecture = entry.open().architecture
    assert isinstance(architecture, Architecture)
    return device_of(int(models * (need.weights + need.token * architecture.context) / 0.75))


async def test_a_model_is_computed_where_it_was_put(catalogue: Catalogue) -> None:
    for found, kind in ((device_of(HUGE), Decoder), (NO_DRIVER, NativeDecoder)):
        pool = pool_of(catalogue, found)
        async with pool.use("one", digest(catalogue, "one")) as model:
            assert isinstance(model.engine, Engine)
            assert isinstance(model.engine._decoder, kind)
            assert model.device == (found if isinstance(found, Device) else None)
            assert model.numbers == ("bfloat16" if model.device else "F32")
        await pool.close()


async def test_a_devices_memory_and_the_machines_are_counted_apart(catalogue: Catalogue) -> None:
    on = room_for(catalogue, 1.2)
    pool = pool_of(catalogue, on)
    before = pool._free()
    async with pool.use("one", digest(catalogue, "one")) as model:
        assert pool._free() == before
        assert pool._free(on) == int(0.75 * on.memory) - model.whole
        # It is at work, and the device has no room for another.
        with pytest.raises(UnavailableError, match=r"needs \d+ MiB of memory"):
            async with pool.use("two", digest(catalogue, "two")):
                pass
    # Idle, it makes room.
    async with pool.use("two", digest(catalogue, "two")) as model:
        assert [one.name for one in pool.loaded] == ["two"]
    await pool.close()


async def test_only_what_lies_there_makes_room_there(
    catalogue: Catalogue, minilm_folder: Path
) -> None:
    pull(catalogue, str(minilm_folder))
    encoder = (set(catalogue.names()) - {"one", "two"}).pop()
    pool = pool_of(catalogue, room_for(catalogue, 1.2))
    for name in (encoder, "one", "two"):
        async with pool.use(name, digest(catalogue, name)):
            pass
    assert {one.name for one in pool.loaded} == {encoder, "two"}
    await pool.close()


async def test_the_device_is_looked_for_once_and_only_where_it_may_be_used(
    catalogue: Catalogue,
) -> None:
    looked: list[None] = []

    def look() -> Device | Missing:
        looked.append(None)
        return device_of(HUGE)

    for setting, times in (("auto", 1), ("cpu", 1)):
        pool = Pool(catalogue, settings_of(device=setting), look=look)
        await asyncio.gather(*(_touch(pool, name, catalogue) for name in ("one", "two", "one")))
        assert len(looked) == times
        await pool.close()


async def _touch(pool: Pool, name: str, catalogue: Catalogue) -> None:
    async with pool.use(name, digest(catalogue, name)):
        pass


async def test_an_unloaded_model_gives_its_memory_back_at_once(catalogue: Catalogue) -> None:
    """Not when garbage is collected some day: the next model counts on it."""
    pool = pool_of(catalogue, device_of(HUGE))
    gc.collect()
    gc.disable()
    try:
        async with pool.use("one", digest(catalogue, "one")) as model:
            engine = model.engine
            assert isinstance(engine, Engine)
            held = weakref.ref(engine._decoder)
            del engine
        del model
        await pool.close()
        # The thread that closed it tells so before it lets go of its last work.
        for _ in range(500):
            if held() is None:
                break
            await asyncio.sleep(0.01)
        assert held() is None
    finally:
        gc.enable()
