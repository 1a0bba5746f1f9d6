"""Where models come from: one module for each kind of place. `pull` puts them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all) of a transfer."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's files, ready to be checked and stored.

    Attributes:
        files: path within the model to path on disk.
        source, revision, licence: empty where the place does not say.
    """

    files: Mapping[str, Path]
    source: str
    revision: str
    licence: str
