"""What a start says of the device: where a model is computed, what that costs, and why it cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from command import MODEL, daulat

from daulat.cli.first import warm
from daulat.endpoints.pool import Pool
from daulat.engine.device import Device, Missing
from daulat.house import open_house
from daulat.models.pull import pull
from daulat.settings import Engine, Models, Settings


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            Device("cpu", "Test Device", 1 << 40),
            [
                "held as bfloat16.",
                "Test Device computes it. There an answer may depend on what is answered beside it: rounding "
                'differs. engine.device = "cpu" gives the same answer in any company.',
            ],
        ),
        (Missing("some reason"), ["held as F32.", "The processor computes it: some reason."]),
        (Missing("no driver", driver=False), ["held as F32."]),
    ],
)
async def test_where_a_model_is_computed(
    found: Device | Missing, told: list[str], home: Path, small_model: Path
) -> None:
    engine = Engine(threads=1, max_sequences=1)
    settings = Settings(home=home, engine=engine, models=Models(default=small_model.name))
    async with open_house(settings) as house:
        pull(house.catalogue, str(small_model))
        pool = Pool(house.catalogue, engine, look=lambda: found)
        lines = (await warm(dataclasses.replace(house, pool=pool), small_model.name)).splitlines()
        await pool.close()
    assert [line.endswith(end) for line, end in zip(lines, told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize("command", [["up", "--port", "0"], ["chat"]])
def test_a_device_that_must_be_and_is_not(furnished: Path, command: list[str]) -> None:
    (furnished / "daulat.toml").write_text('[engine]\ndevice = "cuda"\n', encoding="utf-8")
    done = daulat(furnished, *command, text="Hello")
    assert done.returncode == 1
    assert 'engine.device = "cuda" cannot be' in done.stderr
    assert 'set engine.device = "auto"' in done.stderr
    assert "Traceback" not in done.stderr
    assert MODEL not in done.stdout
