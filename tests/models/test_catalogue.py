"""The store and the catalogue: same bytes once, whole or not at all, and nothing lost to a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import ModelFileError, ModelNotFoundError, PullError
from daulat.models.catalogue import Catalogue, check_name
from daulat.models.pull import pull
from tests.models.killing import killed_at_work


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "home")


def blobs(catalogue: Catalogue) -> list[Path]:
    return list(catalogue.store.path("sha256:00").parent.parent.glob("??/*"))


def test_a_folder_comes_in_under_its_own_name(catalogue: Catalogue, small_model: Path) -> None:
    entry = pull(catalogue, str(small_model))
    assert entry.name == small_model.name
    assert entry.source == f"file:{small_model}"
    assert catalogue.names() == (entry.name,)
    assert catalogue.get(entry.name) == entry
    for name, path in entry.paths().items():
        assert path.read_bytes() == (small_model / name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o444


def test_what_happens_to_the_original_does_not_matter(
    catalogue: Catalogue, small_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_model, tmp_path / "m")
    entry = pull(catalogue, str(tmp_path / "m"))
    shutil.rmtree(tmp_path / "m")
    assert catalogue.verify(entry.name) == []


def test_the_same_bytes_are_stored_once(catalogue: Catalogue, small_model: Path) -> None:
    first = pull(catalogue, str(small_model), name="a")
    there = {path: path.stat().st_mtime_ns for path in blobs(catalogue)}
    second = pull(catalogue, str(small_model), name="b")
    assert second.digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in blobs(catalogue)} == there
    assert pull(catalogue, str(small_model), name="a") == first
    assert catalogue.remove("a") == 0  # b shares every file
    assert catalogue.verify("b") == []
    assert catalogue.remove("b") == first.size
    assert blobs(catalogue) == []


def test_a_taken_name_is_not_given_away(
    catalogue: Catalogue, small_model: Path, tmp_path: Path
) -> None:
    entry = pull(catalogue, str(small_model), name="m")
    other = tmp_path / "other"
    shutil.copytree(small_model, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(PullError, match=r"--name.*daulat models remove m"):
        pull(catalogue, str(other), name="m")
    assert catalogue.get("m") == entry
    assert len(blobs(catalogue)) == len(entry.files)  # the refused config.json is swept away


def test_verify_names_the_file(catalogue: Catalogue, small_model: Path) -> None:
    entry = pull(catalogue, str(small_model), name="m")
    seen: list[tuple[int, int]] = []
    assert catalogue.verify("m", lambda *one: seen.append(one)) == []
    assert seen[-1] == (entry.size, entry.size)
    paths = entry.paths()
    paths["tokenizer.json"].chmod(0o644)
    paths["tokenizer.json"].write_bytes(paths["tokenizer.json"].read_bytes()[:-1] + b"?")
    paths["config.json"].unlink()
    assert set(catalogue.verify("m")) == {
        "config.json is gone",
        "tokenizer.json is not what was pulled",
    }
    with pytest.raises(ModelFileError, match="pull it again"):
        entry.open()


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"files": 3}',
        '{"files": {"a": {"digest": "sha256:../x", "size": 1}}}',
        "[" * 9999,
    ],
)
def test_a_damaged_manifest_is_named_and_the_others_stay(
    catalogue: Catalogue, small_model: Path, manifest: str
) -> None:
    pull(catalogue, str(small_model), name="good")
    path = catalogue.store.manifests / "bad.json"
    path.write_text(manifest)
    assert [entry.name for entry in catalogue.entries()] == ["good"]
    with pytest.raises(ModelFileError, match=r"bad\.json is damaged"):
        catalogue.get("bad")
    # What it uses is not known, so nothing may be deleted.
    with pytest.raises(ModelFileError, match="damaged"):
        catalogue.remove("good")
    path.unlink()
    assert catalogue.verify("good") == []


def test_unknown_names(catalogue: Catalogue, small_model: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="daulat models pull starter"):
        catalogue.verify("x")
    pull(catalogue, str(small_model), name="tiny-llama")
    with pytest.raises(ModelNotFoundError, match="Did you mean tiny-llama"):
        catalogue.remove("tiny-lama")
    assert catalogue.get("../manifests/tiny-llama") is None


@given(st.text(max_size=12) | st.sampled_from(["..", ".", "a/b", "-x", "starter", "a\n", "é"]))
def test_a_name_is_a_plain_file_name(name: str) -> None:
    try:
        check_name(name)
    except PullError:
        return
    assert Path("x", name).name == name
    assert not name.startswith((".", "-"))
    assert name.isascii()


@pytest.mark.parametrize(
    "what", ["nothing here", "", "./none", "/none", "none.gguf", "a/b/c", "\0"]
)
def test_sources_that_are_none(catalogue: Catalogue, what: str) -> None:
    with pytest.raises(PullError):
        pull(catalogue, what)
    assert catalogue.names() == ()


def test_folders_that_are_no_model(catalogue: Catalogue, tmp_path: Path, small_model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PullError, match="neither"):
        pull(catalogue, str(empty))
    (empty / "a.gguf").write_bytes(b"GGUF")
    (empty / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(PullError, match=r"a\.gguf, b\.gguf"):
        pull(catalogue, str(empty))
    half = tmp_path / "half"
    shutil.copytree(small_model, half)
    (half / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match="tokenizer"):
        pull(catalogue, str(half))
    with pytest.raises(PullError, match=r"not a \.gguf file"):
        pull(catalogue, str(small_model / "config.json"))
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(PullError, match="needs all its parts"):
        pull(catalogue, str(tmp_path / "m-00001-of-00002.gguf"))
    assert catalogue.names() == ()
    assert blobs(catalogue) == []


_PULL = """
import sys
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
for i in range(1000):
    pull(Catalogue(Path(sys.argv[1])), sys.argv[2], name=f"m{i}")
"""


@pytest.mark.parametrize("milliseconds", [2, 9, 30, 75])
def test_kill_at_any_moment(
    catalogue: Catalogue, small_model: Path, milliseconds: int, tmp_path: Path
) -> None:
    killed_at_work(_PULL, tmp_path / "home", small_model, milliseconds)
    for entry in catalogue.entries():
        assert catalogue.verify(entry.name) == []
    assert len(catalogue.entries()) == len(catalogue.names())
    assert catalogue.verify(pull(catalogue, str(small_model), name="after").name) == []
    for name in catalogue.names():
        catalogue.remove(name)
    assert blobs(catalogue) == []


def test_two_at_once_do_not_disturb_each_other(
    catalogue: Catalogue, small_model: Path, tmp_path: Path
) -> None:
    code = _PULL.replace("range(1000)", "range(3)").replace('f"m{i}"', "sys.argv[3] + str(i)")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "home"), str(small_model), who],
            stdin=subprocess.PIPE,
        )
        for who in ("a", "b")
    ]
    for process in processes:
        process.communicate(b"\n")
        assert process.returncode == 0
    assert len(catalogue.names()) == 6
    assert all(catalogue.verify(name) == [] for name in catalogue.names())


def test_a_home_that_cannot_be_written(small_model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(PullError, match="--home"):
        pull(Catalogue(blocked), str(small_model))
    assert os.path.isfile(blocked)
