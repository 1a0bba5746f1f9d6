"""Which device there is, on the machine at hand, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from daulat.engine import device
from daulat.engine.device import Device, Missing, find_device
from daulat.engine.plain import enough_memory
from daulat.errors import UnavailableError

_LOOK = """
import sys
from pathlib import Path
from daulat.engine import device
device._DRIVERS = (Path(sys.argv[1]),)
found = device.find_device()
print("torch" in sys.modules, getattr(found, "why", ""))
"""
CUDA = torch.version.cuda is not None


def look(driver: Path, visible: str | None = None) -> tuple[bool, str]:
    """In a process of its own: whether PyTorch was imported, and why there is no device."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(driver)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imported, _, why = done.stdout.strip().partition(" ")
    return imported == "True", why


def test_without_a_driver_nothing_is_imported(tmp_path: Path) -> None:
    imported, why = look(tmp_path / "none")
    assert not imported
    assert "no NVIDIA driver" in why
    assert "docs/deploy.md" in why


@pytest.mark.parametrize("visible", ["", " ", "-1"])
def test_hidden_devices_are_not_looked_for(tmp_path: Path, visible: str) -> None:
    imported, why = look(tmp_path, visible)
    assert not imported
    assert "CUDA_VISIBLE_DEVICES" in why


@pytest.mark.skipif(CUDA, reason="this PyTorch is built for CUDA")
def test_with_a_driver_and_pytorch_for_processors(tmp_path: Path) -> None:
    imported, why = look(tmp_path)
    assert not imported
    assert torch.__version__ in why
    assert "build without CUDA" in why
    assert "docs/deploy.md" in why


@pytest.mark.skipif(not CUDA, reason="this PyTorch is built without CUDA")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_with_pytorch_for_cuda_and_no_device(tmp_path: Path) -> None:
    imported, why = look(tmp_path)
    assert imported
    assert "shows no device" in why


def test_what_is_found_is_what_pytorch_says() -> None:
    found = find_device()
    assert isinstance(found, Device) == torch.cuda.is_available()
    if isinstance(found, Device):
        assert torch.ones(3, device=found.place).sum().item() == 3
        assert 0 < found.memory <= torch.cuda.get_device_properties(0).total_memory
    else:
        assert isinstance(found, Missing)
        assert found.driver == any(path.exists() for path in device._DRIVERS)


def test_a_full_memory_names_the_next_step() -> None:
    full = pytest.raises(UnavailableError, match=r"Some Device is full.*engine\.memory")
    with full, enough_memory("Some Device"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ValueError, match="other"), enough_memory("Some Device"):
        raise ValueError("other")
