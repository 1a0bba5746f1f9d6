"""Prepared files: whole or not at all, looked at before they are used, within their room."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daulat.models import shelf as module
from daulat.models.safetensors import SafetensorsFile
from daulat.models.shelf import PIECE, DamageError, Place, Shelf, Stored, cache_folder, check

DIGEST = "sha256:" + "5a" * 32
OTHER = "sha256:" + "6b" * 32


def tensors(size: int = 3 * PIECE + 77) -> list[Stored]:
    data = bytes(i * 7 % 251 for i in range(997)) * (size // 997 + 1)
    vector = struct.pack("<4f", 1, 2, 3, 4)
    return [
        Stored("norm", "F32", (4,), memoryview(vector)),
        Stored("qkv", "U8", (size,), memoryview(data[:size])),
    ]


def place(folder: Path, digest: str = DIGEST, limit: int = 1 << 30, numbers: str = "int8") -> Place:
    found = Shelf(folder, limit, 0).place(digest, numbers)
    assert found is not None
    with found.lock():
        pass  # makes the folder
    return found


@pytest.fixture
def written(tmp_path: Path) -> Place:
    found = place(tmp_path / "prepared")
    assert found.write(tensors(), {"forms": "{}"})
    return found


def test_what_is_written_is_read_by_any_reader_of_the_format(written: Place) -> None:
    from safetensors import safe_open

    metadata = written.look()
    assert metadata is not None
    assert metadata["model"] == DIGEST
    with safe_open(written.path, "pt") as theirs:
        assert theirs.get_tensor("norm").tolist() == [1, 2, 3, 4]
        assert bytes(theirs.get_tensor("qkv").numpy()) == bytes(tensors()[1].data)
    ours = SafetensorsFile(written.path)
    assert bytes(ours.read("qkv")) == bytes(tensors()[1].data)
    assert ours.tensors["norm"].offset % 64 == 0
    assert written.path.stat().st_mode & 0o777 == 0o600
    assert written.path.parent.stat().st_mode & 0o777 == 0o700
    pieces = metadata["pieces"]
    raw = written.path.read_bytes()[ours.tensors["norm"].offset :]
    assert pieces[64:128] == hashlib.sha256(raw[PIECE : 2 * PIECE]).hexdigest()


def test_every_damage_is_found_in_full_and_any_cut_at_once(written: Place) -> None:
    whole = written.path.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for at in (0, 3, 9, 400, start - 80, start, start + 5, start + 2 * PIECE + 1, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        written.path.write_bytes(damaged)
        with pytest.raises(DamageError):
            check(written.path, full=True)
    for size in (0, 4, 8, 100, start - 1, start, start + PIECE, len(whole) - 1):
        written.path.write_bytes(whole[:size])
        with pytest.raises(DamageError):
            check(written.path)
    written.path.write_bytes(whole + b"\0")
    with pytest.raises(DamageError):
        check(written.path)
    written.path.write_bytes(whole)
    check(written.path, full=True)


def test_a_quick_look_finds_a_damaged_middle_sooner_or_later(written: Place) -> None:
    data = bytearray(written.path.read_bytes())
    data[-2 * PIECE] ^= 1
    written.path.write_bytes(data)
    for _ in range(200):
        try:
            check(written.path)
        except DamageError:
            return
    pytest.fail("not found in 200 looks at 3 of 4 pieces")


def test_damage_is_removed_and_told(written: Place, caplog: pytest.LogCaptureFixture) -> None:
    written.path.write_bytes(written.path.read_bytes()[:-1])
    assert written.look() is None
    assert not written.path.exists()
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b'{"__metadata__":3}',
        b"{" * 3000,
        b"[" * 100_000,
        json.dumps({"__metadata__": {"seal": "0" * 64}}).encode(),
    ],
)
def test_headers_that_are_not_ours(written: Place, header: bytes) -> None:
    written.path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert written.look() is None


def test_another_models_file_is_not_taken(written: Place, tmp_path: Path) -> None:
    other = place(tmp_path / "prepared", OTHER)
    other.path.write_bytes(written.path.read_bytes())
    other.path.chmod(0o600)
    assert other.look() is None


def test_what_others_could_have_written_is_not_taken(written: Place) -> None:
    written.path.chmod(0o666)
    assert written.look() is None


def test_the_room_is_bounded_and_the_longest_unused_goes_first(tmp_path: Path) -> None:
    folder, size = tmp_path / "prepared", 1 << 20
    limit = 2 * size + (size >> 1)
    digests = ["sha256:" + letter * 64 for letter in "abc"]
    a, b, c = (place(folder, digest, limit) for digest in digests)
    for number, one in enumerate((a, b)):
        assert one.write(tensors(size), {})
        os.utime(one.path, (number, number))
    assert a.look() is not None  # used now, so b is the older
    assert c.write(tensors(size), {})
    assert [one.path.exists() for one in (a, b, c)] == [True, False, True]
    assert not b.write(tensors(limit + 1), {})  # never fits, so nothing is removed for it
    assert [one.path.exists() for one in (a, b, c)] == [True, False, True]


def test_no_room_no_file(tmp_path: Path) -> None:
    assert Shelf(tmp_path, 0).place(DIGEST, "int8") is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = Shelf(tmp_path / "file" / "prepared", 1 << 30).place(DIGEST, "int8")
    assert found is not None
    with found.lock():
        assert not found.write(tensors(), {})
    assert found.look() is None


def test_removed_with_its_model_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    mine = [place(folder, numbers=numbers) for numbers in ("int8", "int4")]
    other = place(folder, OTHER)
    for one in (*mine, other):
        assert one.write(tensors(1000), {})
    shelf = Shelf(folder, 1 << 30)
    assert shelf.remove(DIGEST) > 2000
    assert shelf.files() == [other.path]
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".safetensors"]


def test_verified_to_the_last_byte(written: Place) -> None:
    assert written.shelf.verify(DIGEST) == []
    data = bytearray(written.path.read_bytes())
    data[-PIECE] ^= 1
    written.path.write_bytes(data)
    assert written.shelf.verify(DIGEST) == [written.path.name]
    assert not written.path.exists()


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "daulat"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "daulat"


_KILLED = """
import os, sys
from pathlib import Path
from daulat.models import shelf
from tests.models.test_shelf import place, tensors
real = os.fsync
def hang(descriptor):
    print("written", flush=True)
    sys.stdin.read()
os.fsync = hang
one = place(Path(sys.argv[1]))
with one.lock():
    one.write(tensors(), {})
"""


def test_a_killed_process_leaves_nothing_that_is_taken_and_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"written\n"
        assert [path.suffix for path in folder.iterdir() if path.suffix != ".lock"] == [".partial"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    one = place(folder)
    assert one.look() is None
    began = time.monotonic()
    with one.lock():  # the system has let go of the dead one's
        assert time.monotonic() - began < 5
        assert one.write(tensors(), {})
    assert {path.suffix for path in folder.iterdir()} == {".lock", ".safetensors"}
    assert one.look() is not None


def test_one_waits_while_another_prepares_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    first, second = place(tmp_path), place(tmp_path)
    with first.lock():
        began = time.monotonic()
        with second.lock():
            assert 0.2 <= time.monotonic() - began < 5
