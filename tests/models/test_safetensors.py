"""Safetensors: equal to the reference on sound files, never more than an error on others."""

from __future__ import annotations

import json
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from daulat.engine.tensors import tensor
from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.safetensors import DTYPES, SafetensorsFile

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
SAME_FOLDER = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    file = path / "model.safetensors"
    length = len(header) if length is None else length
    file.write_bytes(struct.pack("<Q", length) + header + data)
    return file


def opened(path: Path, header: Any, data: bytes = bytes(16)) -> SafetensorsFile:
    return SafetensorsFile(write(path, json.dumps(header).encode(), data))


THEIRS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def test_equals_the_reference_in_every_type(tmp_path: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name in DTYPES:
        raw = torch.randint(0, 2 if name == "BOOL" else 99, (3, 5))
        tensors[name] = raw.to(THEIRS[name])
    tensors |= {
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
        "odd": torch.ones(3).half(),
    }
    save_file(tensors, tmp_path / "t.safetensors", {"format": "pt"})
    ours = SafetensorsFile(tmp_path / "t.safetensors")
    assert ours.metadata == {"format": "pt"}
    with safe_open(tmp_path / "t.safetensors", "pt") as reference:
        assert set(ours.tensors) == set(reference.keys())
        for name in tensors:
            expected = reference.get_tensor(name)
            got = tensor(ours.read(name))
            assert expected.dtype == tensor(ours.read(name)).dtype
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            assert got.shape == ours.tensors[name].shape
            assert torch.equal(got.contiguous().view(-1), expected.view(-1)) or name.startswith(
                "F8"
            )


def test_reads_without_copy_warning_or_writing_through(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.arange(4096.0)}, path)
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view = SafetensorsFile(path).read("a")
    assert view.ctypes.data % 4 == 0
    view[0] = 7.0
    assert path.read_bytes() == before
    assert SafetensorsFile(path).read("a")[0] == 0.0


def test_unaligned_data_is_copied(tmp_path: Path) -> None:
    header = json.dumps({"a": A}).encode()
    header += b" " * ((3 - len(header)) % 4)
    file = SafetensorsFile(write(tmp_path, header, struct.pack("<4f", 1, 2, 3, 4)))
    assert file.tensors["a"].offset % 4
    assert file.read("a").tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_release_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.arange(100_000.0)}, path)
    file = SafetensorsFile(path)
    view = file.read("a")
    file.release("a")
    assert np.array_equal(view, np.arange(100_000, dtype=np.float32))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {**A, "dtype": "F99"}}, "number type 'F99'"),
        ({"a": {**A, "dtype": 3}}, "no dtype"),
        ({"a": {**A, "shape": [-1, -4]}}, "shape holds -1"),
        ({"a": {**A, "shape": [1 << 62, 1 << 62]}}, "which cannot be"),
        ({"a": {**A, "shape": [0, 1 << 47, 1 << 47], "data_offsets": [0, 0]}}, "cannot be"),
        ({"a": {**A, "shape": [2.0, 2]}}, "shape holds 2.0"),
        ({"a": {**A, "shape": [True, 4]}}, "shape holds True"),
        ({"a": {**A, "shape": [[2], 2]}}, "shape holds"),
        ({"a": {**A, "shape": "22"}}, "shape must be a list"),
        ({"a": {**A, "shape": [1] * 9}}, "at most 8 numbers"),
        ({"a": {**A, "shape": [2, 3]}}, "cannot be 16 bytes"),
        ({"a": {**A, "data_offsets": [16, 0]}}, "an end behind it"),
        ({"a": {**A, "data_offsets": [0]}}, "a start and an end"),
        ({"a": {**A, "data_offsets": [0, 15]}}, "cannot be 15 bytes"),
        ({"a": {**A, "data_offsets": [16, 32]}}, "behind the file's end"),
        ({"a": {**A, "data_offsets": [1 << 60, (1 << 60) + 16]}}, "data_offsets holds"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}}, "leaves a gap"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "belong to no tensor"),
        ({"a": A, "b": A}, "overlaps"),
        ({"a": {**A, "more": 1}}, "exactly dtype"),
        ({"a": {"dtype": "F32"}}, "exactly dtype"),
        ({"a": [1]}, "not described by an object"),
        ({"": A}, "a name of 0 characters"),
        ({"n" * 2000: A}, "a name of 2000 characters"),
        ({"__metadata__": {"a": 1}, "a": A}, "__metadata__"),
        ({"__metadata__": [], "a": A}, "__metadata__"),
        ([1, 2], "not a JSON object"),
    ],
)
def test_lying_headers(tmp_path: Path, header: Any, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        opened(tmp_path, header)


@pytest.mark.parametrize(
    ("header", "length", "words"),
    [
        (b'{"a": 1', None, "not JSON"),
        (b"{", 1, "claims a header of 1 bytes"),
        (b"{}", 1 << 63, "is the maximum"),
        (b"{}", 99_999_999, "refetch it"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "nested deeper"),
        (b'{"a": ' + b"[" * 9 + b"]" * 9 + b"}", None, "nested deeper"),
        (b'{"a": {}, "a": {}}', None, "'a' twice"),
        (b'{"\xff": {}}', None, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", None, "not JSON"),
        (b"  {}", None, "not a JSON object"),
    ],
)
def test_headers_that_are_not_headers(
    tmp_path: Path, header: bytes, length: int | None, words: str
) -> None:
    with pytest.raises(ModelFileError, match=words):
        SafetensorsFile(write(tmp_path, header, length=length))


def test_files_that_are_not_files(tmp_path: Path) -> None:
    import os

    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"1234567")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "short", "pipe", "none", "."):
        with pytest.raises(ModelFileError):
            SafetensorsFile(tmp_path / name)


def test_unknown_type_is_unsupported_and_unknown_name_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError):
        opened(tmp_path, {"a": {**A, "dtype": "F4"}})
    with pytest.raises(ModelFileError, match="no tensor 'b'"):
        opened(tmp_path, {"a": A}).read("b")


def test_a_header_of_many_values_is_refused_quickly(tmp_path: Path) -> None:
    header = b'{"a": [' + b"[]," * 8_000_000 + b"[]]}"
    start = time.monotonic()
    with pytest.raises(ModelFileError, match="more than"):
        SafetensorsFile(write(tmp_path, header))
    assert time.monotonic() - start < 2


@SAME_FOLDER
@given(data=st.data())
def test_mutated_files_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    sound = json.dumps({"a": A, "b": {**A, "data_offsets": [16, 32]}}).encode()
    raw = bytearray(struct.pack("<Q", len(sound)) + sound + bytes(32))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=8))
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    try:
        file = SafetensorsFile(path)
    except ModelFileError:
        return
    for name in file.tensors:
        file.read(name).sum()
