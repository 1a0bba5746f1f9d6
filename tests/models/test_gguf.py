"""GGUF: equal to the `gguf` package on sound files, and never more than an error on others."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, quants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daulat.engine import tensors
from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models import gguf_header
from daulat.models.gguf import GgufFile

QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
BLOCKS = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "TQ1_0", "MXFP4"]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    head = text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
    return head + struct.pack("<IQ", kind, offset)


def file(
    path: Path,
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    counts: tuple[int, int] | None = None,
    magic: bytes = b"GGUF\x03\0\0\0",
    data: bytes = bytes(4096),
) -> GgufFile:
    entries, tensors = entries or [], tensors or []
    n_tensors, n_entries = counts or (len(tensors), len(entries))
    head = magic + struct.pack("<QQ", n_tensors, n_entries) + b"".join(entries + tensors)
    target = path / "m.gguf"
    target.write_bytes(head + bytes(-len(head) % 32) + data)
    return GgufFile(target)


def test_the_starter_equals_the_package(starter_gguf: Path) -> None:
    started = time.monotonic()
    ours = GgufFile(starter_gguf)
    numbers = {name: ours.read(name) for name in ours.tensors}
    assert time.monotonic() - started < 20
    reader = gguf.GGUFReader(starter_gguf)
    assert len(reader.tensors) == len(ours.tensors)
    for theirs in reader.tensors:
        info = ours.tensors[theirs.name]
        assert (info.type, info.offset, info.size) == (
            theirs.tensor_type.name,
            theirs.data_offset,
            theirs.n_bytes,
        )
        assert list(info.shape) == [int(n) for n in reversed(theirs.shape)]
        expected = quants.dequantize(theirs.data, theirs.tensor_type)
        assert np.array_equal(numbers[theirs.name], expected)
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in ours.metadata.items()} == fields


def test_the_types_are_the_packages() -> None:
    theirs = {kind.value: kind.name for kind in GGMLQuantizationType}
    assert theirs.items() <= gguf_header.KINDS.items()
    sizes = {kind.name: size for kind, size in GGML_QUANT_SIZES.items()}
    assert sizes.items() <= gguf_header.BLOCKS.items()


@pytest.mark.parametrize("kind", QUANTISED)
def test_written_quantised(tmp_path: Path, kind: str) -> None:
    weights = np.random.default_rng(1).standard_normal((3, 5, 64)).astype(np.float32)
    number = GGMLQuantizationType[kind]
    packed = quants.quantize(weights, number)
    writer = GGUFWriter(tmp_path / "w.gguf", "llama")
    writer.add_tensor("w", packed, raw_dtype=number)
    finish(writer)
    ours = GgufFile(tmp_path / "w.gguf")
    expected = quants.dequantize(packed, number)
    assert ours.read("w").shape == (3, 5, 64)
    assert np.array_equal(ours.read("w"), expected)
    assert np.array_equal(ours.read_rows("w", 1, 3), expected[1:3])
    assert ours.raw("w").tobytes() == packed.tobytes()


@pytest.mark.parametrize("kind", BLOCKS)
def test_written_blocks(tmp_path: Path, kind: str) -> None:
    number = GGMLQuantizationType[kind]
    block, size = GGML_QUANT_SIZES[number]
    random = np.random.default_rng(2)
    packed = random.integers(0, 256, (7, 1024 // block * size), dtype=np.uint8)
    writer = GGUFWriter(tmp_path / "w.gguf", "llama")
    writer.add_tensor("w", packed, raw_dtype=number)
    finish(writer)
    with np.errstate(all="ignore"):
        expected = quants.dequantize(packed, number)
    assert np.array_equal(GgufFile(tmp_path / "w.gguf").read("w"), expected, equal_nan=True)


def test_written_floats_and_metadata(tmp_path: Path) -> None:
    weights = torch.randn(4, 6)
    writer = GGUFWriter(tmp_path / "w.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_string("x.text", "grüße 世界")
    writer.add_array("x.words", ["a", "", "c"])
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_array("x.flags", [True, False])
    writer.add_bool("x.flag", True)
    writer.add_uint64("x.big", (1 << 64) - 1)
    writer.add_float64("x.real", 0.1)
    writer.add_tensor("f32", weights.numpy())
    writer.add_tensor("f16", weights.half().numpy())
    bf16 = weights.bfloat16().view(torch.int16).numpy().view(np.uint8)
    writer.add_tensor("bf16", bf16, raw_dtype=GGMLQuantizationType.BF16)
    finish(writer)
    ours = GgufFile(tmp_path / "w.gguf")
    assert torch.equal(tensors.tensor(ours.read("f32")), weights)
    assert torch.equal(tensors.tensor(ours.read("f16")), weights.half())
    assert torch.equal(tensors.tensor(ours.read("bf16")), weights.bfloat16())
    assert torch.equal(tensors.tensor(ours.read_rows("f16", 1, 2)), weights.half()[1:2])
    got = {k: v for k, v in ours.metadata.items() if k.startswith("x.")}
    assert got == {
        "x.text": "grüße 世界",
        "x.words": ("a", "", "c"),
        "x.numbers": (1, 2, 3),
        "x.flags": (True, False),
        "x.flag": True,
        "x.big": (1 << 64) - 1,
        "x.real": 0.1,
    }
    assert ours.metadata["x.flag"] is True


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def nested(depth: int) -> bytes:
    return struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 1) + b"\0"


HUGE = 1 << 60
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "many tensors": ({"counts": (HUGE, 0)}, "tensors, which cannot be"),
    "many keys": ({"counts": (0, HUGE)}, "metadata keys, which cannot be"),
    "long key": ({"entries": [struct.pack("<Q", HUGE)]}, "a metadata key claims"),
    "long string": ({"entries": [entry("a", 8, struct.pack("<Q", HUGE))]}, "the string at 'a'"),
    "cut string": ({"entries": [entry("a", 8, struct.pack("<Q", 9999))]}, "middle of its header"),
    "not UTF-8": ({"entries": [entry("a", 8, struct.pack("<Q", 1) + b"\xff")]}, "not UTF-8"),
    "long array": ({"entries": [entry("a", 9, struct.pack("<IQ", 0, HUGE))]}, "values at 'a'"),
    "strings": ({"entries": [entry("a", 9, struct.pack("<IQ", 8, 1 << 20))]}, "values at 'a'"),
    "deep array": ({"entries": [entry("a", 9, nested(9))]}, "nested too deep"),
    "odd array": ({"entries": [entry("a", 9, struct.pack("<IQ", 99, 1))]}, "unknown type 99"),
    "odd type": ({"entries": [entry("a", 99, b"")]}, "unknown type 99"),
    "twice": ({"entries": [entry("a", 0, b"\0")] * 2}, "'a' appears twice"),
    "alignment": (
        {"entries": [entry("general.alignment", 4, struct.pack("<I", 48))]},
        "not a power of two",
    ),
    "alignment 0": (
        {"entries": [entry("general.alignment", 4, struct.pack("<I", 0))]},
        "not a power of two",
    ),
    "alignment text": ({"entries": [entry("general.alignment", 8, text("x"))]}, "power of two"),
    "dims": ({"tensors": [tensor("w", [1] * 5, 0, 0)]}, "5 dimensions"),
    "no dims": ({"tensors": [tensor("w", [], 0, 0)]}, "0 dimensions"),
    "overflow": ({"tensors": [tensor("w", [HUGE, HUGE], 0, 0)]}, "claims the shape"),
    "zero": ({"tensors": [tensor("w", [0, 4], 0, 0)]}, "claims the shape"),
    "type": ({"tensors": [tensor("w", [32], 77, 0)]}, "quantisation number 77"),
    "block": ({"tensors": [tensor("w", [33], 2, 0)]}, "whole blocks of 32"),
    "unaligned": ({"tensors": [tensor("w", [8], 0, 4)]}, "multiple of 32"),
    "outside": ({"tensors": [tensor("w", [8], 0, 1 << 40)]}, "behind the file's end"),
    "far outside": ({"tensors": [tensor("w", [8], 0, (1 << 64) - 32)]}, "behind the file's end"),
    "too big": ({"tensors": [tensor("w", [1 << 20], 0, 0)]}, "behind the file's end"),
    "overlap": (
        {"tensors": [tensor("v", [16], 0, 0), tensor("w", [8], 0, 32)]},
        "'v' and 'w' overlap",
    ),
    "same name": (
        {"tensors": [tensor("w", [8], 0, 0), tensor("w", [8], 0, 32)]},
        "the same name",
    ),
    "long name": ({"tensors": [tensor("w" * 300, [8], 0, 0)]}, "claims 300 bytes"),
    "magic": ({"magic": b"GGML\x03\0\0\0"}, "does not begin with GGUF"),
    "version 1": ({"magic": b"GGUF\x01\0\0\0"}, "version 1 is not read"),
    "big-endian": ({"magic": b"GGUF\0\0\0\x03"}, "big-endian"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_lying_headers(tmp_path: Path, case: str) -> None:
    arguments, words = HOSTILE[case]
    with pytest.raises(ModelFileError, match=words):
        file(tmp_path, **arguments)


def test_version_2_and_a_quantisation_that_nobody_unpacks(tmp_path: Path) -> None:
    ours = file(tmp_path, tensors=[tensor("w", [256], 15, 0)], magic=b"GGUF\x02\0\0\0")
    assert ours.version == 2
    with pytest.raises(UnsupportedModelError, match="Q8_K"):
        ours.read("w")
    with pytest.raises(ModelFileError, match="no tensor 'x'"):
        ours.read("x")


def test_rows_out_of_range(tmp_path: Path) -> None:
    ours = file(tmp_path, tensors=[tensor("w", [32, 4], 3, 0)])
    for start, stop in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(ModelFileError, match="no rows"):
            ours.read_rows("w", start, stop)


def sound() -> bytes:
    head = b"GGUF\x03\0\0\0" + struct.pack("<QQ", 2, 3)
    head += entry("a", 8, text("hello")) + entry("b", 9, struct.pack("<IQ", 8, 2) + text("x") * 2)
    head += entry("c", 9, struct.pack("<IQ", 6, 2) + struct.pack("<2f", 1, 2))
    head += tensor("v", [32, 2], 3, 0) + tensor("w", [4, 2], 0, 64)
    return head + bytes(-len(head) % 32) + bytes(96)


@settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_files_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(sound())
    for _ in range(data.draw(st.integers(0, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    target = tmp_path / "m.gguf"
    target.write_bytes(raw)
    try:
        ours = GgufFile(target)
        for name in ours.tensors:
            ours.read(name)
    except ModelFileError:
        return
