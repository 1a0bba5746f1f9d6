"""Certificates and the routers that they name, as files of the home.

    certificates/NAME.json           the certificate and its signature
    certificates/routers/NAME.json   its router, in the form that its digest is over

A certificate of a name takes the place of the one before. Its router is not one of the home's `routers/`, which
`daulat route fit` replaces: the certificate would be void. Files are whole or not there. Not here: what is in
them (`route.certificate`, `route.learning.router`), which of them stand (`standing`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from daulat import whole
from daulat.errors import CertificateError, DataError, NotFoundError, RequestError
from daulat.route import certificate as papers
from daulat.route.certificate import Certificate
from daulat.route.learning.router import MAX_BYTES, Router, from_json, to_json
from daulat.trust.signing import HouseKey, Signature, verify
from daulat.values.names import is_name

_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate with its signature, which has not been checked yet."""

    certificate: Certificate
    signature: Signature

    def verify(self) -> None:
        """Go on only if the signature fits.

        Raises:
            CertificateError: it does not.
        """
        verify(self.signature, self.certificate.signed_bytes())

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"certificate": self.certificate.as_dict(), "signature": asdict(self.signature)}


def signed(certificate: Certificate, key: HouseKey) -> Signed:
    """A certificate that the house's key has signed."""
    return Signed(certificate, key.sign(certificate.signed_bytes()))


class Certificates:
    """Those of a home, with their routers."""

    def __init__(self, home: Path) -> None:
        self._papers = home / "certificates"
        self._routers = self._papers / "routers"

    def names(self) -> list[str]:
        """Of all certificates, sorted."""
        found = self._papers.glob("*.json") if self._papers.is_dir() else ()
        return sorted(path.stem for path in found if is_name(path.stem))

    def get(self, name: str) -> Signed:
        """The certificate of that name.

        Raises:
            NotFoundError: there is none.
            CertificateError: the file is not one.
        """
        path = self._papers / f"{checked(name)}.json"
        if not path.is_file():
            there = ", ".join(self.names()) or "none"
            raise NotFoundError(
                f"There is no certificate {name!r}. There are: {there}. `daulat certify TASK` makes one."
            )
        return read(path)

    def router(self, name: str) -> Router | None:
        """The router that is kept under the certificate's name; None: there is none.

        Raises:
            DataError: the file is damaged.
        """
        path = self._routers / f"{checked(name)}.json"
        return from_json(_bytes(path, MAX_BYTES)) if path.is_file() else None

    def put(self, one: Signed, router: Router) -> Path:
        """Keep both under the certificate's name, and say where the certificate is.

        Raises:
            CertificateError: they cannot be written.
        """
        name = checked(one.certificate.name)
        path = self._papers / f"{name}.json"
        text = json.dumps(one.as_dict(), ensure_ascii=False, indent=1) + "\n"
        try:
            _write(self._routers / f"{name}.json", to_json(router))
            _write(path, text.encode())
        except OSError as error:
            raise CertificateError(
                f"The certificate cannot be written to the home: {error.strerror}."
            ) from error
        return path


def read(path: Path) -> Signed:
    """A certificate from a file.

    Raises:
        DataError: the file cannot be read.
        CertificateError: it holds no certificate.
    """
    try:
        value: Any = json.loads(_bytes(path, _MOST))
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{path.name} is not a certificate: it is not JSON.") from error
    if not isinstance(value, dict) or set(cast(dict[str, Any], value)) != {
        "certificate",
        "signature",
    }:
        raise CertificateError(
            f"{path.name} is not a certificate: it lacks the two parts `certificate` and `signature`."
        )
    parts = cast(dict[str, Any], value)
    try:
        signature = msgspec.convert(parts["signature"], Signature, strict=True)
    except msgspec.ValidationError as error:
        raise CertificateError(f"The signature of {path.name} is not one: {error}.") from error
    return Signed(papers.read(parts["certificate"]), signature)


def checked(name: str) -> str:
    """A name that a certificate can have.

    Raises:
        RequestError: it is none.
    """
    if not is_name(name):
        raise RequestError(
            f"{name[:80]!r} cannot be a name: up to 64 letters, digits, '.', '_' and '-', and none of these "
            "three at the ends. Give one with --name."
        )
    return name


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise DataError(f"{path.name} has more than {most >> 20} MiB.")
    return data


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole.write(path, [data])
