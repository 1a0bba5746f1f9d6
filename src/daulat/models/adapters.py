"""The adapters we have: small files that change one model, under `base:name`.

    models/adapters/<base>/<name>.json     which files make an adapter, and of which base

Their files lie among the store's blobs, as those of models do. A name has the letters that a model's has, and
no model's name has a colon, so `base:name` can be read in one way only. An adapter belongs to the bytes of
its base, not to the base's name.

Not here: how an adapter is checked and comes in (`adopt`), what is in its files (`lora`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daulat.canon import canonical
from daulat.errors import ModelFileError, ModelNotFoundError, PullError
from daulat.models import manifest
from daulat.models.store import Store

log = logging.getLogger(__name__)

MAX_MANIFEST = 1 << 20


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """One adapter.

    Attributes:
        base, base_digest: the model that it changes.
        digest: over the names and digests of its files.
        rank: the largest of its matrices'.
        targets: which matrices it changes, by the last parts of their names.
        parameters: numbers in its matrices.
        source: where it was taken from.
        licence: empty where the source gave none.
        files: path within the adapter to (digest, size in bytes).
        created: when it came here, seconds since 1970.
    """

    name: str
    base: str
    base_digest: str
    digest: str
    rank: int
    targets: tuple[str, ...]
    parameters: int
    source: str
    licence: str
    files: Mapping[str, tuple[str, int]]
    created: int
    store: Store

    @property
    def id(self) -> str:
        """What a request names as its model."""
        return f"{self.base}:{self.name}"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size in self.files.values())

    def paths(self) -> dict[str, Path]:
        """Path within the adapter to path on disk.

        Raises:
            ModelFileError: a file is gone.
        """
        found = {name: self.store.path(blob) for name, (blob, _) in self.files.items()}
        for name, path in found.items():
            if not path.exists():
                raise ModelFileError(
                    f"{self.id}: the file {name} is gone from the store. "
                    f"Run `daulat adapters remove {self.base} {self.name}` and add it again."
                )
        return found


class Adapters:
    """The adapters of one home. Whoever changes them holds the store's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def entries(self, base: str | None = None) -> tuple[AdapterEntry, ...]:
        """All (of one base), sorted by base and name; the log names those whose manifest is damaged."""
        found: list[AdapterEntry] = []
        for path in self._paths(base or "*"):
            try:
                found.append(self._read(path))
            except ModelFileError as error:
                log.warning("an adapter is left out", extra={"why": error.message})
        return tuple(found)

    def get(self, base: str, name: str) -> AdapterEntry | None:
        """The adapter of that name of the model of that name (no alias).

        Raises:
            ModelFileError: its manifest is damaged.
        """
        path = self._path(base, name)
        usable = manifest.is_name(base) and manifest.is_name(name)
        return self._read(path) if usable and path.exists() else None

    def find(self, base: str, name: str) -> AdapterEntry:
        """As `get`.

        Raises:
            ModelNotFoundError: there is none.
        """
        entry = self.get(base, name)
        if entry is None:
            raise ModelNotFoundError(
                f"The model {base} has no adapter {name[:96]!r}. `daulat adapters list` and GET "
                "/v1/models show what there is.",
                param="model",
            )
        return entry

    def add(self, entry: AdapterEntry) -> AdapterEntry:
        """Name an adapter whose files are in the store; the same bytes again change nothing.

        Raises:
            PullError: the name is taken by other bytes.
        """
        existing = self.get(entry.base, entry.name)
        if existing is not None and existing.digest == entry.digest:
            return existing
        if existing is not None:
            raise PullError(
                f"{entry.base} has another adapter named {entry.name} already. Give this one another "
                f"name, or remove that one with `daulat adapters remove {entry.base} {entry.name}`."
            )
        path = self._path(entry.base, entry.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store.write(path, _manifest(entry))
        return entry

    def forget(self, base: str, name: str) -> None:
        """Take the name away; its files stay until the store is swept."""
        self._path(base, name).unlink()

    def used(self) -> set[str]:
        """Digests of all adapters' files.

        Raises:
            ModelFileError: a manifest is damaged, so what it uses is not known.
        """
        return {blob for path in self._paths("*") for blob, _ in self._read(path).files.values()}

    def _paths(self, base: str) -> list[Path]:
        return sorted(self._store.adapters.glob(f"{base}/*.json"))

    def _path(self, base: str, name: str) -> Path:
        return self._store.adapters / base / f"{name}.json"

    def _read(self, path: Path) -> AdapterEntry:
        try:
            stored = manifest.read(path, MAX_MANIFEST)
            return _entry(path.parent.name, path.stem, stored, self._store)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelFileError(
                f"The manifest {path} is damaged. Delete it and add the adapter again."
            ) from error


def split(model: str) -> tuple[str, str | None]:
    """What a request names: a model, and the adapter behind the first colon where there is one."""
    base, colon, name = model.partition(":")
    return base, name if colon else None


def check_adapter_name(name: str) -> None:
    """Raises PullError: not a name that an adapter can have."""
    if not manifest.is_name(name):
        raise PullError(
            f"{name[:100]!r} cannot name an adapter: take up to 96 letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit."
        )


def now() -> int:
    return int(time.time())


def _manifest(entry: AdapterEntry) -> bytes:
    return canonical(
        {
            "name": entry.name,
            "base": entry.base,
            "base_digest": entry.base_digest,
            "digest": entry.digest,
            "rank": entry.rank,
            "targets": list(entry.targets),
            "parameters": entry.parameters,
            "source": entry.source,
            "licence": entry.licence,
            "created": entry.created,
            "files": manifest.table(entry.files),
        }
    )


def _entry(base: str, name: str, stored: Mapping[str, Any], store: Store) -> AdapterEntry:
    files = manifest.files_of(stored["files"])
    manifest.require_digests(str(stored["digest"]), str(stored["base_digest"]))
    return AdapterEntry(
        name,
        base,
        str(stored["base_digest"]),
        str(stored["digest"]),
        int(stored["rank"]),
        tuple(str(target) for target in stored["targets"]),
        int(stored["parameters"]),
        str(stored["source"]),
        str(stored["licence"]),
        files,
        int(stored["created"]),
        store,
    )
