"""What a certificate is: which router keeps how much of which quality, at which threshold, shown how.

A certificate is a value with one canonical form. It names by digest all that its statement rests on, and is
void when any of that changes: `void_reasons` says what has. A router answers openly where the gain that it
expects of the closed endpoint is below the threshold.

Not here: how it is made (`evaluate.certifying`), signed (`trust.signing`) or kept (`evaluate.certificates`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from daulat.canon import canonical, digest
from daulat.errors import CertificateError
from daulat.route.rule import Mode

VERSION: Final = 1
DOMAIN: Final = b"daulat certificate 1\n"
"""What stands before a certificate's bytes when they are signed."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST: Final = 512
_MOST: Final = 10**9


@dataclass(frozen=True, slots=True)
class Identity:
    """An endpoint as it was when the certificate was made.

    Attributes:
        endpoint: its name in the outcomes.
        model: digest of a model here, else the name that its vendor has for it; empty: not known.
        template: digest of the chat template; empty: not known, or the vendor's own.
    """

    endpoint: str
    model: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its interval.

    Attributes:
        value: None: the data do not say.
        low, high: None: not bounded there.
        confidence: of the interval.
        method: how it was made, and on which examples.
        n: examples.
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    n: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """The statement, what it rests on, and what was measured besides.

    Attributes:
        name: its own.
        task: the name of the task or of the file.
        task_digest: of the task's definition; empty: outcomes from a file have none.
        data_digest: of the outcomes, every example of the window.
        router: digest of the router.
        mode: whether the open endpoint's answer is seen before the closed one is asked.
        threshold: the closed endpoint is asked where the router's gain reaches it.
        keep: with this much of the closed endpoint's quality, at least, ...
        confidence: ... shown with this confidence. The two are the statement; all below it are estimates.
        kept: the share of its quality that is kept.
        closed_share: the share of requests that it is asked.
        saved: the share of its cost that is saved.
        differ: the share of requests whose open answer is kept and does not agree with the closed endpoint's
            (`learning.agreeing`): what audits hold the traffic against.
        temperature: at which the answers were asked for; None: not known.
        train, calibrate, audit: examples that the router was fitted on, that its thresholds were tested on,
            and that neither was.
        set_aside: examples that were not used: repeated prompts, missing scores.
        method: the test.
        tested: thresholds that were tested, up to the first that was not shown to keep enough.
        seed: of the split and of all else that is drawn.
        made: RFC 3339, UTC.
        program: the version that made it.
    """

    version: int
    name: str
    task: str
    task_digest: str
    data_digest: str
    router: str
    mode: Mode
    open: Identity
    closed: Identity
    threshold: float
    keep: float
    confidence: float
    kept: Measured
    closed_share: Measured
    saved: Measured
    differ: Measured
    temperature: float | None
    train: int
    calibrate: int
    audit: int
    set_aside: int
    method: str
    tested: int
    seed: int
    made: str
    program: str

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise CertificateError(f"The certificate cannot be: {fault}.")

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def signed_bytes(self) -> bytes:
        """What a signature is over."""
        return DOMAIN + canonical(self.as_dict())

    def digest(self) -> str:
        """Its own name among all."""
        return digest(canonical(self.as_dict()))


def read(value: Any) -> Certificate:
    """A certificate from JSON.

    Raises:
        CertificateError: it is not one, or has fields that this version does not know.
    """
    try:
        found = msgspec.convert(value, Certificate, strict=True)
    except (msgspec.ValidationError, ValueError) as error:
        raise CertificateError(f"This is not a certificate: {error}.") from error
    if canonical(found.as_dict()) != _canonical(value):
        raise CertificateError(
            "The certificate has fields that this version does not know. Verify it with the version that made "
            f"it ({found.program[:40]})."
        )
    return found


@dataclass(frozen=True, slots=True)
class Present:
    """What is there now, to hold a certificate against; empty or None: not known, and not compared.

    Attributes:
        endpoints: identities by the name of the endpoint; one that had an identity and is not there is gone.
            None: not known.
    """

    router: str = ""
    task_digest: str = ""
    data_digest: str = ""
    endpoints: Mapping[str, Identity] | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a certificate is void.

    Attributes:
        what: the certificate's field.
        was, now: what it says, and what is there; empty: nothing is.
    """

    what: str
    was: str
    now: str


def void_reasons(certificate: Certificate, present: Present) -> tuple[Reason, ...]:
    """Everything that has changed; empty: the certificate stands."""
    return tuple(_changes(certificate, present))


def _changes(certificate: Certificate, present: Present) -> Iterator[Reason]:
    for what in ("router", "task_digest", "data_digest"):
        was, now = getattr(certificate, what), getattr(present, what)
        if was and now and was != now:
            yield Reason(what, was, now)
    if present.endpoints is None:
        return
    for what, was in (("open", certificate.open), ("closed", certificate.closed)):
        now = present.endpoints.get(was.endpoint)
        if now is None:
            if was.model:
                yield Reason(what, was.endpoint, "")
            continue
        for part in ("model", "template"):
            before, after = getattr(was, part), getattr(now, part)
            if before and before != after:
                yield Reason(f"{what}.{part}", before, after)


# --- what can be -------------------------------------------------------------------------------------------


def _faults(one: Certificate) -> Iterator[str]:
    if one.version != VERSION:
        yield f"its version is {one.version}, and this program knows {VERSION}"
    for what in ("data_digest", "router"):
        if not _DIGEST.fullmatch(getattr(one, what)):
            yield f"{what} is not a digest"
    if one.task_digest and not _DIGEST.fullmatch(one.task_digest):
        yield "task_digest is not a digest"
    yield from _impossible_numbers(one)
    if any(len(text) > _LONGEST for text in _texts(one)):
        yield f"a text is longer than {_LONGEST} characters"
    if one.open.endpoint == one.closed.endpoint:
        yield "both endpoints are one"
    if not _is_time(one.made):
        yield "made is not a time"


def _impossible_numbers(one: Certificate) -> Iterator[str]:
    if not 0 < one.keep <= 1:
        yield "keep is not in (0, 1]"
    if not 0.5 <= one.confidence < 1:
        yield "confidence is not in [0.5, 1)"
    counts = (one.train, one.calibrate, one.audit, one.set_aside, one.tested)
    if not all(0 <= count <= _MOST for count in counts):
        yield f"a count is not between 0 and {_MOST}"
    if not 0 <= one.seed < 2**63:
        yield "seed is not between 0 and 2^63 - 1"
    if one.temperature is not None and not 0 <= one.temperature <= 2:
        yield "temperature is not between 0 and 2"
    for what in ("kept", "closed_share", "saved", "differ"):
        figure = cast(Measured, getattr(one, what))
        if None not in (figure.low, figure.high) and cast(float, figure.low) > cast(
            float, figure.high
        ):
            yield f"the interval of {what} ends before it begins"
        if not (0 < figure.confidence < 1 and 0 <= figure.n <= _MOST):
            yield f"{what} has an impossible confidence or number of examples"


def _texts(one: Certificate) -> Iterator[str]:
    for part in (one, one.open, one.closed, one.kept, one.closed_share, one.saved, one.differ):
        values = (getattr(part, field.name) for field in fields(part))
        yield from (value for value in values if isinstance(value, str))


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _canonical(value: Any) -> bytes:
    try:
        return canonical(value)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"This is not a certificate: {error}.") from error
