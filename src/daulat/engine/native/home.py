"""Where compiled code is kept between starts: a folder for each version of what it is compiled from.

Numba looks at each function's own file to see whether it has changed, and not at the files of what is
compiled into it. So the folder's name is a digest over all of them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

from numba import config  # pyright: ignore[reportMissingTypeStubs]

from daulat.models.shelf import cache_folder


def choose() -> None:
    """Tell Numba, before anything is compiled. NUMBA_CACHE_DIR, where it is set, stays as it is."""
    if not os.environ.get("NUMBA_CACHE_DIR"):
        config.CACHE_DIR = str(_folder())  # pyright: ignore[reportAttributeAccessIssue]


def is_empty() -> bool:
    """Whether nothing is compiled yet for this version, so that the first model takes longer."""
    return next(Path(str(config.CACHE_DIR)).rglob("*.nbc"), None) is None  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


def _folder() -> Path:
    folder = cache_folder() / "kernels" / _digest()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        # No home to write to (a service's user): compiled anew at each start.
        return Path(tempfile.mkdtemp(prefix="daulat-kernels-"))


def _digest() -> str:
    hasher = hashlib.sha256()
    for name in ("numba", "llvmlite"):
        hasher.update(f"{name} {version(name)}\n".encode())
    here = Path(__file__).parent
    for path in (*sorted(here.glob("*.py")), here.parent / "cache.py"):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:16]
