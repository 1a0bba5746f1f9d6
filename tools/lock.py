"""Prints requirements.lock: the exact version of everything that this environment holds.

PyTorch stays `2.13.*`: its builds carry local versions (`+cpu`), and which build is right depends
on the machine. Not here: hashes, and where packages come from, which is pip's own configuration.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions

LOOSE = {"torch": "2.13.*"}
LEFT_OUT = {"daulat", "pip", "setuptools", "wheel"}
# What a CUDA build of PyTorch brings along is that build's own affair.
CUDA = re.compile(r"nvidia-|triton$|cuda-")


def lines() -> list[str]:
    """`name==version`, sorted by name."""
    found = {
        re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower(): item.version
        for item in distributions()
    }
    kept = {n: v for n, v in found.items() if n not in LEFT_OUT and not CUDA.match(n)}
    return [f"{name}=={LOOSE.get(name, version)}" for name, version in sorted(kept.items())]


if __name__ == "__main__":
    print("# Written by `make lock`; pip takes it as constraints.")
    print("\n".join(lines()))
