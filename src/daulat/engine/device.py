"""What may compute beside the processor: one CUDA device, if there is one that can.

PyTorch is imported to look only where there is a driver for it: a start on a processor does not pay for it.
Not here: whether a model fits (`endpoints.memory`), how it is computed (`engine.decoder`).
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_DRIVERS: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Linux's, and that of Linux under Windows."""
_LEAST: Final = (8, 0)
"""Compute capability (Ampere): the first with bfloat16, which models are held in there."""
_INSTALL: Final = "docs/deploy.md says how to install what computes on it"


@dataclass(frozen=True, slots=True)
class Device:
    """Attributes:
    place: PyTorch's word for it.
    memory: bytes that were free when it was looked at.
    """

    place: str
    name: str
    memory: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Attributes:
    why: there is no device to compute on, and what to do; the end of a sentence.
    driver: there is a driver, so that somebody may expect a device.
    """

    why: str
    driver: bool = True


def find_device() -> Device | Missing:
    """The device, or why there is none. It may take seconds."""
    return _hopeless() or _ask()


def _hopeless() -> Missing | None:
    """Why PyTorch need not be asked."""
    if not any(path.exists() for path in _DRIVERS):
        where = "where there is one, nvidia-smi shows the device"
        return Missing(f"this machine has no NVIDIA driver ({where}); {_INSTALL}", driver=False)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return Missing("CUDA_VISIBLE_DEVICES hides every device; unset it", driver=False)
    if not _has_cuda():
        version = importlib.metadata.version("torch")
        return Missing(f"PyTorch {version} is a build without CUDA; {_INSTALL}")
    return None


def _ask() -> Device | Missing:
    import torch  # noqa: PLC0415 - it takes a second

    if not torch.cuda.is_available():
        return Missing(
            f"the NVIDIA driver shows no device to PyTorch, which is built for CUDA {torch.version.cuda}: "
            f"nvidia-smi says which CUDA the driver knows at most; {_INSTALL}"
        )
    try:
        name = torch.cuda.get_device_name(0)
        capability = torch.cuda.get_device_capability(0)
        if capability < _LEAST:
            has, needs = (".".join(map(str, one)) for one in (capability, _LEAST))
            return Missing(f"the device {name} has compute capability {has}, and {needs} is needed")
        return Device("cuda:0", name, torch.cuda.mem_get_info(0)[0])
    except RuntimeError as error:
        told = str(error).partition("\n")[0]
        return Missing(f"the device does not answer ({told}); see whether another program holds it")


def _has_cuda() -> bool:
    """Whether PyTorch's files hold its part for CUDA."""
    spec = find_spec("torch")
    folders = (spec.submodule_search_locations if spec else None) or ()
    return any(next(Path(f, "lib").glob("*torch_cuda*"), None) is not None for f in folders)
