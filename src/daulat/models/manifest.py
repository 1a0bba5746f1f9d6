"""What the manifests of models and of adapters have in common: names, and which files make one.

Not here: what else a manifest says (`catalogue`, `adapters`), the files themselves (`store`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daulat.canon import canonical, digest

Files = Mapping[str, tuple[str, int]]
"""Path within the model or adapter to (digest, size in bytes)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_name(text: str) -> bool:
    """Whether a model or an adapter can have that name. None has a colon."""
    return _NAME.fullmatch(text) is not None


def digest_of(files: Files) -> str:
    """Over the files' names and digests: other bytes, another model."""
    return digest(canonical({path: blob for path, (blob, _) in files.items()}))


def require_digests(*texts: str) -> None:
    """Raises ValueError: one of them is no digest."""
    if not all(_DIGEST.fullmatch(text) for text in texts):
        raise ValueError("not a digest")


def table(files: Files) -> dict[str, Any]:
    """The files as a manifest has them."""
    return {path: {"digest": blob, "size": size} for path, (blob, size) in files.items()}


def files_of(stored: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """What `table` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not such a table.
    """
    files = {str(path): (str(one["digest"]), int(one["size"])) for path, one in stored.items()}
    require_digests(*(blob for blob, _ in files.values()))
    return files


def read(path: Path, most: int) -> Any:
    """The JSON of a manifest of up to `most` bytes.

    Raises:
        OSError, ValueError, RecursionError: there is none.
    """
    if path.stat().st_size > most:
        raise ValueError("too large")
    return json.loads(path.read_bytes())
