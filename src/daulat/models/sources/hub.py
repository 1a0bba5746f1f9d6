"""Models of the Hugging Face Hub, by id: only the files that make a model, pinned to a commit, all checked.

Large files are checked by the SHA-256 that the Hub states, small ones by their git object id. What was
downloaded stays in the caller's folder, so the next attempt takes up where this one stopped.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from daulat.errors import AccessRefusedError, PullError
from daulat.models.sources import Fetched, Progress
from daulat.models.sources.local import WANTED
from daulat.models.store import hash_file
from daulat.net import transfer

MAX_FILES = 2000
MAX_SIZE = 2 << 40
_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(@(?P<revision>[\w./-]{1,200}))?([:/](?P<file>[\w./ -]{1,300}\.gguf))?"
)
_SAFE = re.compile(r"[\w ()+=,@-][\w. ()+=,@-]*(/[\w ()+=,@-][\w. ()+=,@-]*)*")
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of a repository. One of the two digests is there."""

    name: str
    size: int
    sha256: str
    git_sha1: str


def fetch(what: str, folder: Path, *, hub: str, progress: Progress) -> Fetched:
    """Fetch `owner/name`, with `@revision` or `:file.gguf` behind it.

    Raises:
        NetworkError: the Hub cannot be reached or refuses.
        PullError: nothing there that we read, or what came is not what was promised.
    """
    match = _ID.fullmatch(what)
    if match is None:
        raise PullError(f"{what[:200]!r} is not a Hugging Face id such as owner/name.")
    hub = hub.rstrip("/")
    revision = match["revision"] or "main"
    try:
        info = transfer.get_json(
            f"{hub}/api/models/{match['id']}/revision/{revision}?blobs=true", headers=_token()
        )
    except AccessRefusedError as error:
        raise AccessRefusedError(
            f"The Hub refuses {match['id']}: there is none of that name, or it is private or gated. "
            "For a gated model accept its licence on its page, then set HF_TOKEN to a token that may "
            "read it."
        ) from error
    commit = str(info.get("sha", ""))
    if not _COMMIT.fullmatch(commit):
        raise PullError(f"The Hub did not say which commit {match['id']} is at. Try again later.")
    wanted = _choose(what, _files(info), match["file"])
    _check_space(wanted, folder)
    base = f"{hub}/{match['id']}/resolve/{commit}"
    files = _download(base, wanted, folder, progress)
    return Fetched(files, f"hub:{match['id']}", commit, _licence(info))


def _token() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "")
    return {"Authorization": f"Bearer {token}"} if token.isprintable() and token else {}


def _files(info: Mapping[str, Any]) -> list[Remote]:
    """The repository's files, as far as their names are plain."""
    siblings = info.get("siblings")
    if not isinstance(siblings, list):
        raise PullError("The Hub gave no list of files. Try again later.")
    found: list[Remote] = []
    for one in cast("list[Any]", siblings)[: MAX_FILES * 10]:
        try:
            name = str(one["rfilename"])
            lfs = cast("dict[str, Any]", one.get("lfs") or {})
            size = int(lfs.get("size", one.get("size")))
            remote = Remote(name, size, str(lfs.get("sha256", "")), str(one.get("blobId", "")))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if _SAFE.fullmatch(name) and 0 <= size <= MAX_SIZE:
            found.append(remote)
    return found


def _choose(what: str, files: Sequence[Remote], named: str | None) -> list[Remote]:
    ggufs = [file for file in files if file.name.endswith(".gguf")]
    if named:
        return _parts(what, ggufs, named)
    wanted = [file for file in files if WANTED.fullmatch(file.name) and file not in ggufs]
    if any(file.name.endswith(".safetensors") for file in wanted):
        # A repository may hold the same weights a second time in another layout.
        kept = ("model.safetensors", "model-") if _has_model(wanted) else ("",)
        return [
            f for f in wanted if not f.name.endswith(".safetensors") or f.name.startswith(kept)
        ][:MAX_FILES]
    if ggufs:
        listed = "\n".join(f"  {f.name}  {f.size >> 20} MiB" for f in ggufs[:40])
        raise PullError(
            f"{what} has GGUF files only; choose one:\n{listed}\n"
            f"for example: daulat models pull {what}:{ggufs[0].name}"
        )
    raise PullError(
        f"{what} has neither safetensors nor GGUF files. Pickle files (.bin, .pt) are never read; "
        "look for a conversion to safetensors."
    )


def _has_model(files: Sequence[Remote]) -> bool:
    return any(re.fullmatch(r"model(-.*)?\.safetensors", file.name) for file in files)


def _parts(what: str, ggufs: Sequence[Remote], named: str) -> list[Remote]:
    part = _PART.fullmatch(named)
    if part is None:
        chosen = [file for file in ggufs if file.name == named]
    else:
        start, end = f"{part['stem']}-", f"-of-{part['count']}.gguf"
        chosen = [f for f in ggufs if f.name.startswith(start) and f.name.endswith(end)]
    if not chosen:
        names = ", ".join(file.name for file in ggufs[:40]) or "none"
        raise PullError(f"{what}: there is no such GGUF file. There are: {names}.")
    return chosen


def _check_space(files: Sequence[Remote], folder: Path) -> None:
    # Twice: once as it comes, once in the store.
    need = 2 * sum(file.size for file in files)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise PullError(
            f"Fetching this needs {need >> 20} MiB of disk for a while, and {free >> 20} MiB are "
            "free. Free some, or name another home with --home."
        )


def _download(
    base: str, files: Sequence[Remote], folder: Path, progress: Progress
) -> dict[str, Path]:
    total = sum(file.size for file in files)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    found: dict[str, Path] = {}
    for file in files:
        target = folder / file.name.replace("/", "__")
        url = f"{base}/{file.name.replace(' ', '%20')}"
        transfer.download(url, target, size=file.size, headers=_token(), advance=advance)
        _check_digest(file, target)
        found[file.name.rpartition("/")[2] if file.name.endswith(".gguf") else file.name] = target
    return found


def _check_digest(file: Remote, path: Path) -> None:
    if file.sha256:
        sound = hash_file(path) == f"sha256:{file.sha256}"
    else:
        data = path.read_bytes()
        head = b"blob %d\x00" % len(data)
        # git's own name for the file, which is what the Hub states for small ones.
        sound = hashlib.sha1(head + data, usedforsecurity=False).hexdigest() == file.git_sha1
    if not sound:
        path.unlink()
        raise PullError(f"{file.name} came damaged (its digest differs). Pull again.")


def _licence(info: Mapping[str, Any]) -> str:
    card = info.get("cardData")
    licence = cast("Mapping[str, Any]", card).get("license") if isinstance(card, dict) else None
    return licence[:64] if isinstance(licence, str) else ""
