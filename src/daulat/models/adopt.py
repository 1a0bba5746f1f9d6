"""Bring an adapter in: from a folder in PEFT's format, for a model that is here.

What is checked is what is kept: the files are copied into the store first, and what lies there is held
against the base's description. Every number is read once; the base's own weights are not.
"""

from __future__ import annotations

from pathlib import Path

from daulat.errors import DaulatError, ModelFileError, ModelNotFoundError, PullError
from daulat.models.adapters import AdapterEntry, check_adapter_name, now
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.lora import CONFIG, MAX_CONFIG, MAX_RANK, TENSORS, LoraFile
from daulat.models.lora_sites import Base, base_of
from daulat.models.manifest import digest_of
from daulat.models.safetensors import MAX_HEADER
from daulat.models.sources.local import licence_of

_PICKLE = "adapter_model.bin"


def adopt(catalogue: Catalogue, base: str, name: str, folder: Path) -> AdapterEntry:
    """Add an adapter to a model; what is there already is not added again.

    Args:
        base: a model's name, or an alias.
        name: what to call the adapter.

    Raises:
        ModelNotFoundError: there is no such model.
        PullError: the folder holds no adapter, the name is taken, or it cannot be stored.
        UnsupportedModelError: an adapter of a kind that we do not compute.
        ModelFileError: it is damaged, or made for another base.
    """
    check_adapter_name(name)
    files = _files(folder)
    with catalogue.store.lock():
        model = catalogue.get(base)
        if model is None:
            raise ModelNotFoundError(catalogue.unknown(base))
        against = base_of(model.open())
        _check_sizes(files, against)
        try:
            return _enter(catalogue, model, name, folder, files, against)
        except DaulatError:
            catalogue.store.sweep(catalogue.used())
            raise


def _enter(
    catalogue: Catalogue,
    model: ModelEntry,
    name: str,
    folder: Path,
    files: dict[str, Path],
    base: Base,
) -> AdapterEntry:
    blobs = {path: catalogue.store.add(file) for path, file in files.items()}
    stored = {path: catalogue.store.path(blob) for path, (blob, _) in blobs.items()}
    lora = LoraFile(f"{model.name}:{name}", stored, base)
    for pair in lora.pairs:
        lora.read(pair)
    return catalogue.adapters.add(
        AdapterEntry(
            name,
            model.name,
            model.digest,
            digest_of(blobs),
            lora.rank,
            lora.targets,
            lora.parameters,
            f"file:{folder.absolute()}",
            licence_of(folder),
            blobs,
            now(),
            catalogue.store,
        )
    )


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise PullError(f"There is no folder {folder}. Name the one that holds {CONFIG}.")
    files = {name: folder / name for name in (CONFIG, TENSORS)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if TENSORS in missing and (folder / _PICKLE).exists():
        raise PullError(
            f"{folder} holds its adapter as {_PICKLE}, a pickle file, which is never read: opening one "
            "can run code. Save it with safe_serialization=True."
        )
    if missing:
        raise PullError(f"{folder} is no adapter in PEFT's format: it has no {missing[0]}.")
    return files


def _check_sizes(files: dict[str, Path], base: Base) -> None:
    """Before anything is copied: no adapter of this base can be larger."""
    numbers = MAX_RANK * sum(site.rows + site.columns for site in base.sites.values())
    for name, most in ((CONFIG, MAX_CONFIG), (TENSORS, 4 * numbers + min(numbers, MAX_HEADER))):
        size = files[name].stat().st_size
        if size > most:
            raise ModelFileError(
                f"{name} has {size} bytes; an adapter of {base.name} has {most} at most. "
                "It was made for another base, or is no adapter."
            )
