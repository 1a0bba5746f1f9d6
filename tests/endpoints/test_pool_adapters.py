"""Adapters in memory: loaded once, as many as may be, dropped when idle or removed, never at work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daulat.endpoints.pool import Loaded, Pool
from daulat.engine.adapter import Adapter
from daulat.errors import BusyError, DaulatError, ModelNotFoundError, UnavailableError
from daulat.models.adopt import adopt
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull
from daulat.settings import Engine as EngineSettings
from daulat.values.plan import THIS_MACHINE, Step
from tests.engine.adapters import scattered

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def catalogue(tmp_path: Path, small_model: Path) -> Catalogue:
    """The small model under two names, with four adapters under the first."""
    found = Catalogue(tmp_path / "home")
    model = pull(found, str(small_model), name="tiny")
    for seed, name in enumerate(NAMES):
        folder = scattered(tmp_path / name, model.open(), ["q_proj", "down_proj"], seed)
        adopt(found, "tiny", name, folder)
    return found


def step(catalogue: Catalogue, name: str) -> Step:
    model = catalogue.get("tiny")
    assert model is not None
    digest = catalogue.adapters.find("tiny", name).digest
    return Step("native", THIS_MACHINE, "open", "tiny", model.digest, name, digest)


def pool_of(catalogue: Catalogue, most: int = 3) -> Pool:
    return Pool(
        catalogue,
        EngineSettings(kernels="plain", threads=1, max_sequences=1, max_adapters=most),
    )


@contextlib.asynccontextmanager
async def using(pool: Pool, asked: Step) -> AsyncGenerator[tuple[Loaded, Adapter], None]:
    async with (
        pool.use(asked.model, asked.model_digest) as model,
        pool.adapter(model, asked) as adapter,
    ):
        assert adapter is not None
        yield model, adapter


async def touch(pool: Pool, asked: Step) -> Adapter:
    async with using(pool, asked) as (_, adapter):
        return adapter


def held(pool: Pool) -> set[str]:
    return {one.id.removeprefix("tiny:") for _, _, one in pool.adapters}


async def test_loaded_once_and_counted(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue)
    asked = step(catalogue, "a")
    async with pool.use("tiny", asked.model_digest):
        before = pool._free()
    found = await asyncio.gather(*(touch(pool, asked) for _ in range(6)))
    assert len({id(adapter) for adapter in found}) == 1
    assert pool._free() == before - found[0].held_bytes
    assert found[0].held_bytes >= 4 * catalogue.adapters.find("tiny", "a").parameters
    await pool.close()
    assert pool.adapters == ()


async def test_a_step_without_an_adapter_has_none(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue)
    model = catalogue.get("tiny")
    assert model is not None
    bare = Step("native", THIS_MACHINE, "open", "tiny", model.digest)
    async with pool.use("tiny", model.digest) as loaded, pool.adapter(loaded, bare) as adapter:
        assert adapter is None
    assert held(pool) == set()
    await pool.close()


async def test_the_longest_idle_gives_way(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, most=2)
    for name in ("a", "b", "a", "c"):
        await touch(pool, step(catalogue, name))
    assert held(pool) == {"a", "c"}
    await pool.close()


async def test_one_at_work_is_never_dropped(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue, most=2)
    async with using(pool, step(catalogue, "a")), using(pool, step(catalogue, "b")):
        with pytest.raises(BusyError, match=r"2 adapters are at work.*engine.max_adapters"):
            await touch(pool, step(catalogue, "c"))
        assert held(pool) == {"a", "b"}
    await touch(pool, step(catalogue, "c"))
    assert "c" in held(pool)
    await pool.close()


async def test_without_memory_it_says_so_and_idle_ones_make_room(catalogue: Catalogue) -> None:
    pool = pool_of(catalogue)
    size = (await touch(pool, step(catalogue, "a"))).held_bytes
    pool._allowed -= pool._free() - size // 2
    await touch(pool, step(catalogue, "b"))
    assert held(pool) == {"b"}
    async with using(pool, step(catalogue, "b")):
        with pytest.raises(BusyError, match=r"needs 1 MiB of memory, and 0 MiB are free"):
            await touch(pool, step(catalogue, "c"))
    await pool.close()


async def test_removed_and_idle_ones_go(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daulat.endpoints.pool._SWEEP_SECONDS", 0.02)
    pool = pool_of(catalogue)
    asked = {name: step(catalogue, name) for name in NAMES}
    for name in ("a", "b"):
        await touch(pool, asked[name])
    sweeping = asyncio.create_task(pool.sweep())
    async with using(pool, asked["c"]):
        for name in ("b", "c"):
            catalogue.remove_adapter("tiny", name)
        for _ in range(200):
            await asyncio.sleep(0.02)
            if held(pool) == {"a", "c"}:
                break
        assert held(pool) == {"a", "c"}  # b is gone; c is at work
    with pytest.raises(ModelNotFoundError):
        await touch(pool, asked["b"])
    pool._idle_seconds = 0.05  # type: ignore[assignment]
    for _ in range(200):
        await asyncio.sleep(0.02)
        if not held(pool) and not pool.loaded:
            break
    assert held(pool) == set()
    sweeping.cancel()
    await pool.close()


async def test_one_that_was_replaced_is_not_answered_with(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    pool = pool_of(catalogue)
    asked = step(catalogue, "a")
    catalogue.remove_adapter("tiny", "a")
    adopt(catalogue, "tiny", "a", tmp_path / "b")
    with pytest.raises(UnavailableError, match="replaced"):
        await touch(pool, asked)
    await touch(pool, step(catalogue, "a"))
    await pool.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    asks=st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.booleans()), min_size=4, max_size=24
    ),
    most=st.integers(1, 4),
)
async def test_any_traffic_keeps_the_bounds(
    asks: list[tuple[str, int, bool]], most: int, catalogue: Catalogue
) -> None:
    """Whoever gets an adapter gets the one asked for, and keeps it; the rest are told that all are busy."""
    pool = pool_of(catalogue, most)
    steps = {name: step(catalogue, name) for name in NAMES}

    async def ask(name: str, turns: int, cancelled: bool) -> None:
        try:
            async with using(pool, steps[name]) as (model, adapter):
                for _ in range(turns):
                    assert adapter.digest == steps[name].adapter_digest
                    assert model.adapters[adapter.digest].adapter is adapter
                    assert len(pool.adapters) <= most
                    await asyncio.sleep(0)
                if cancelled:
                    raise asyncio.CancelledError
        except (BusyError, asyncio.CancelledError):
            pass

    await asyncio.gather(*(ask(*one) for one in asks))
    assert len(pool.adapters) <= most
    assert all(one.users == 0 for _, _, one in pool.adapters)
    with contextlib.suppress(DaulatError):
        await pool.close()
