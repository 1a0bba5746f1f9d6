"""The house's own key and what it signs: Ed25519 (RFC 8032), by `cryptography`.

The key is made when it is first needed and lies in the home as `house.key` (PKCS #8, PEM), for its owner alone.
Two processes that need it at once get one key. What is signed begins with a text of its own kind, so that a
signature of one thing is never one of another. A signature says which key made it, not whose key that is: hand
the public key to whoever has to check.

Not here: what is signed (`route.certificate`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from daulat.errors import CertificateError

FILE: Final = "house.key"
ALGORITHM: Final = "Ed25519"
_MOST_BYTES: Final = 4096
_ID_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature with the key that it can be checked with.

    Attributes:
        algorithm: `Ed25519`.
        key: its id, the beginning of the public key's SHA-256.
        public: the public key, 32 bytes in base64.
        value: the signature, 64 bytes in base64.
    """

    algorithm: str
    key: str
    public: str
    value: str


class HouseKey:
    """A private key. Never shown, and never written but to its file."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        return f"HouseKey({self.id})"

    def sign(self, data: bytes) -> Signature:
        """A signature of these bytes, which begin with the name of what they are."""
        value = base64.b64encode(self._private.sign(data)).decode()
        return Signature(ALGORITHM, self.id, self.public, value)


def house_key(home: Path) -> HouseKey:
    """The key of a home, made if there is none.

    Raises:
        CertificateError: it cannot be read or written, others may read it, or it is not a key.
    """
    path = home / FILE
    try:
        if not path.exists():
            _make(path)
        return HouseKey(_load(path))
    except OSError as error:
        raise CertificateError(
            f"The house's key {FILE} cannot be used: {error.strerror}. Look at the home folder's permissions."
        ) from error


def known_key(home: Path) -> str:
    """The id of the home's key; empty: none has been made yet.

    Raises:
        CertificateError: see `house_key`.
    """
    return house_key(home).id if (home / FILE).exists() else ""


def key_id(public: str) -> str:
    """What a public key in base64 is called.

    Raises:
        CertificateError: it is no such key.
    """
    return hashlib.sha256(_bytes(public, 32, "public key")).hexdigest()[:_ID_LENGTH]


def verify(signature: Signature, data: bytes) -> None:
    """Go on only if the signature is one of these bytes by the key that it names.

    Raises:
        CertificateError: it is not.
    """
    if signature.algorithm != ALGORITHM:
        raise CertificateError(
            f"Signatures are {ALGORITHM}, and this is {signature.algorithm[:40]!r}."
        )
    if signature.key != key_id(signature.public):
        raise CertificateError("The signature's key id is not that of its public key.")
    public = Ed25519PublicKey.from_public_bytes(_bytes(signature.public, 32, "public key"))
    try:
        public.verify(_bytes(signature.value, 64, "signature"), data)
    except InvalidSignature as error:
        raise CertificateError(
            "The signature does not fit: what was signed has been changed, or another key signed it. Do not "
            "rely on it; get it again from whoever made it."
        ) from error


def _make(path: Path) -> None:
    """Write a new key beside its place and link it there, unless another process was sooner."""
    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    beside = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            return
    finally:
        beside.unlink()
    _sync(path.parent)


def _load(path: Path) -> Ed25519PrivateKey:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise CertificateError(
                f"Others may read the house's key. Run `chmod 600 {FILE}` in the home folder; if others may "
                "have read it, move it away, and a new one is made."
            )
        data = file.read(_MOST_BYTES + 1)
    try:
        found = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(_not_a_key()) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise CertificateError(_not_a_key())
    return found


def _not_a_key() -> str:
    return (
        f"{FILE} in the home folder is not an Ed25519 key. Put the right file back, or move it away: a new key "
        "is made then, and what the old one signed names the old one."
    )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(text: str, length: int, what: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CertificateError(f"The {what} is not base64.") from error
    if len(found) != length:
        raise CertificateError(f"The {what} has {len(found)} bytes, and not {length}.")
    return found
