"""Where models come from: one module for each kind of place. `pull` puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Told how far a transfer is, in bytes; a total of 0 is not known."""

    def __call__(self, done: int, total: int) -> None: ...


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
