"""The models we have, by readable name: what each is made of and where it came from.

Not here: how models come in (`pull`), what they are (`families`, `trust.passport`), adapters' manifests
(`adapters`).
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daulat.canon import canonical
from daulat.errors import ModelFileError, ModelNotFoundError, PullError
from daulat.models import manifest
from daulat.models.adapters import Adapters
from daulat.models.store import Store, hash_file

if TYPE_CHECKING:
    from daulat.models.checkpoint import Checkpoint

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""

ALIASES = {"starter": "SmolLM2-135M-Instruct", "embeddings": "all-MiniLM-L6-v2"}
MAX_MANIFEST = 4 << 20


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalogue.

    Attributes:
        kind: `text` (it writes) or `embedding`.
        digest: over the names and digests of its files: another file, another model.
        format: `safetensors` or `gguf`.
        source, revision, licence: as the source gave them; empty where it gave none.
        files: path within the model to (digest, size in bytes).
        created: when it came here, seconds since 1970.
    """

    name: str
    kind: str
    digest: str
    format: str
    source: str
    revision: str
    licence: str
    files: Mapping[str, tuple[str, int]]
    created: int
    store: Store

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size in self.files.values())

    def paths(self) -> dict[str, Path]:
        """Path within the model to path on disk."""
        return {name: self.store.path(digest) for name, (digest, _) in self.files.items()}

    def open(self) -> Checkpoint:
        """The model's tensors and description.

        Raises:
            ModelFileError: a file is gone or damaged.
        """
        # Imported here: listing models must not wait for torch.
        from daulat.models.checkpoint import open_files  # noqa: PLC0415

        for name, path in self.paths().items():
            if not path.exists():
                raise ModelFileError(
                    f"{self.name}: the file {name} is gone from the store. "
                    f"Run `daulat models remove {self.name}` and pull it again."
                )
        return open_files(self.name, self.paths())


class Catalogue:
    """The models of one home."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home / "models")
        self.adapters = Adapters(self.store)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(path.stem for path in self.store.manifests.glob("*.json")))

    def entries(self) -> tuple[ModelEntry, ...]:
        """All models whose manifest can be read; the log names the others."""
        found: list[ModelEntry] = []
        for name in self.names():
            try:
                found.append(self._read(name))
            except ModelFileError as error:
                log.warning("a model is left out", extra={"model": name, "why": error.message})
        return tuple(found)

    def has(self, name: str) -> bool:
        """Whether there is a model of that name (or alias): a look at one file's name."""
        name = ALIASES.get(name, name)
        return bool(manifest.is_name(name)) and os.path.exists(self._path(name))

    def get(self, name: str) -> ModelEntry | None:
        """The model of that name (or alias).

        Raises:
            ModelFileError: its manifest is damaged.
        """
        return self._read(ALIASES.get(name, name)) if self.has(name) else None

    def unknown(self, name: str) -> str:
        """What to tell somebody who asked for a model that is not here."""
        names = self.names()
        near = difflib.get_close_matches(name, names, 1)
        if near:
            hint = f"Did you mean {near[0]}?"
        elif names:
            hint = f"There are: {', '.join(names[:20])}."
        else:
            hint = "There is none yet: `daulat models pull starter` fetches a small one."
        return f"There is no model {name[:96]!r}. {hint}"

    def add(
        self,
        name: str,
        files: Mapping[str, tuple[str, int]],
        *,
        kind: str,
        format: str,
        source: str,
        revision: str,
        licence: str,
    ) -> ModelEntry:
        """Make a model of blobs that are in the store; the same bytes again change nothing.

        Raises:
            PullError: the name is taken by other bytes, or is not a usable name.
        """
        check_name(name)
        whole = manifest.digest_of(files)
        existing = self.get(name)
        if existing is not None and existing.digest == whole:
            return existing
        if existing is not None:
            raise PullError(
                f"There is another model named {name} already. Give this one another name with "
                f"--name, or remove that one with `daulat models remove {name}`."
            )
        entry = ModelEntry(
            name,
            kind,
            whole,
            format,
            source,
            revision,
            licence,
            dict(files),
            int(time.time()),
            self.store,
        )
        self.store.write(self._path(name), _manifest(entry))
        return entry

    def remove(self, name: str) -> int:
        """Forget a model and delete the files that no other one shares; bytes freed.

        Raises:
            ModelNotFoundError: there is none of that name.
            PullError: it has adapters, which would be of no use without it.
            ModelFileError: another manifest is damaged, so what is shared with it is not known.
        """
        name = ALIASES.get(name, name)
        with self.store.lock():
            if name not in self.names():
                raise ModelNotFoundError(self.unknown(name))
            if adapters := self.adapters.entries(name):
                raise PullError(
                    f"{name} has adapters: {', '.join(one.name for one in adapters[:20])}. Remove them "
                    f"first, with `daulat adapters remove {name} {adapters[0].name}`."
                )
            used = self.used(without=name)
            self._path(name).unlink()
            return self.store.sweep(used)

    def remove_adapter(self, base: str, name: str) -> int:
        """Forget an adapter and delete the files that nobody else shares; bytes freed.

        Raises:
            ModelNotFoundError: there is none of that name.
            ModelFileError: another manifest is damaged, so what is shared with it is not known.
        """
        with self.store.lock():
            self.adapters.find(ALIASES.get(base, base), name)
            self.used()  # before anything is lost
            self.adapters.forget(ALIASES.get(base, base), name)
            return self.store.sweep(self.used())

    def used(self, *, without: str = "") -> set[str]:
        """Digests that some model (leaving one out) or adapter names.

        Raises:
            ModelFileError: a manifest is damaged, so what it uses is not known.
        """
        others = (name for name in self.names() if name != without)
        models = {blob for name in others for blob, _ in self._read(name).files.values()}
        return models | self.adapters.used()

    def verify(self, name: str, progress: Progress | None = None) -> list[str]:
        """Hash every file anew; one sentence for each that is not what it was.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        entry = self.get(name)
        if entry is None:
            raise ModelNotFoundError(self.unknown(name))
        done = 0
        faults: list[str] = []

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, entry.size)

        for path, place in entry.paths().items():
            if not place.exists():
                faults.append(f"{path} is gone")
            elif hash_file(place, advance) != entry.files[path][0]:
                faults.append(f"{path} is not what was pulled")
        return faults

    def _path(self, name: str) -> Path:
        return self.store.manifests / f"{name}.json"

    def _read(self, name: str) -> ModelEntry:
        path = self._path(name)
        try:
            return _entry(name, manifest.read(path, MAX_MANIFEST), self.store)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelFileError(
                f"The manifest {path} is damaged. Delete it and pull {name} again."
            ) from error


def check_name(name: str) -> None:
    """Raises PullError: not a name that a model can have."""
    if not manifest.is_name(name) or name in ALIASES:
        raise PullError(
            f"{name[:100]!r} cannot name a model: take up to 96 letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit. Give a name with --name."
        )


def _manifest(entry: ModelEntry) -> bytes:
    return canonical(
        {
            "name": entry.name,
            "kind": entry.kind,
            "digest": entry.digest,
            "format": entry.format,
            "source": entry.source,
            "revision": entry.revision,
            "licence": entry.licence,
            "created": entry.created,
            "files": manifest.table(entry.files),
        }
    )


def _entry(name: str, stored: Mapping[str, Any], store: Store) -> ModelEntry:
    return ModelEntry(
        name,
        str(stored["kind"]),
        str(stored["digest"]),
        str(stored["format"]),
        str(stored["source"]),
        str(stored["revision"]),
        str(stored["licence"]),
        manifest.files_of(stored["files"]),
        int(stored["created"]),
        store,
    )
