"""The house's key: made once, kept close; a signature fits what was signed and nothing else."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import CertificateError
from daulat.trust.signing import FILE, HouseKey, house_key, key_id, known_key, verify

KEY = HouseKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
DATA = b"a paper 1\n{}"

_PARALLEL = """
import sys
from pathlib import Path
from daulat.trust.signing import house_key
print(house_key(Path(sys.argv[1])).id)
"""


def test_the_signature_is_ed25519s() -> None:
    one = KEY.sign(DATA)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(one.public))
    public.verify(base64.b64decode(one.value), DATA)
    verify(one, DATA)
    assert one.key == key_id(one.public) == KEY.id


@given(st.binary(max_size=60).filter(lambda data: data != DATA))
def test_it_fits_nothing_else(data: bytes) -> None:
    with pytest.raises(CertificateError, match="does not fit"):
        verify(KEY.sign(DATA), data)


@given(st.integers(0, 511))
def test_a_changed_bit_is_found(bit: int) -> None:
    one = KEY.sign(DATA)
    value = bytearray(base64.b64decode(one.value))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CertificateError, match="does not fit"):
        verify(replace(one, value=base64.b64encode(value).decode()), DATA)


def test_another_key_cannot_pass_for_this_one() -> None:
    one, other = KEY.sign(DATA), HouseKey(Ed25519PrivateKey.generate()).sign(DATA)
    for forged in (replace(one, public=other.public), replace(one, key=other.key)):
        with pytest.raises(CertificateError, match="key id"):
            verify(forged, DATA)
    with pytest.raises(CertificateError, match="does not fit"):
        verify(replace(one, public=other.public, key=other.key), DATA)


@pytest.mark.parametrize(
    ("part", "value"),
    [("public", "?"), ("public", "AAAA"), ("value", "AAAA"), ("value", "é"), ("algorithm", "none")],
)
def test_what_is_no_signature_is_refused(part: str, value: str) -> None:
    forged = replace(KEY.sign(DATA), **{part: value})
    if part == "public" and value == "AAAA":
        forged = replace(forged, key=KEY.id)
    with pytest.raises(CertificateError):
        verify(forged, DATA)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert known_key(tmp_path) == ""
    assert not (tmp_path / FILE).exists(), "asking for it does not make it"
    first = house_key(tmp_path)
    assert house_key(tmp_path).public == first.public
    assert known_key(tmp_path) == first.id
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert first.id in repr(first)
    assert "PRIVATE" not in repr(first)


def test_processes_that_need_it_at_once_get_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARALLEL, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {one.communicate(timeout=60)[0] for one in running}
    assert len(said) == 1
    assert all(one.returncode == 0 for one in running)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    house_key(tmp_path)
    os.chmod(tmp_path / FILE, 0o644)
    with pytest.raises(CertificateError, match="chmod 600"):
        house_key(tmp_path)


def test_a_file_that_is_no_such_key_is_left_alone(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for data in (b"", b"nonsense", other, b"-" * 9000):
        path = tmp_path / FILE
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(CertificateError, match="not an Ed25519 key"):
            house_key(tmp_path)
        assert path.read_bytes() == data


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot be used"):
        house_key(tmp_path / "nowhere")
