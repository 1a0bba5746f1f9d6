"""All certificates of a home, each held against what is there now: whoever serves by them begins here.

A certificate stands if its signature is good and by this house's key, its router is there and the one that it
names, and neither the task nor any of the models behind its endpoints has changed, as far as the home's files
show. The data window is compared where the task's outcomes are in the home, or somebody names a file.

Nothing is imported until there is a certificate. Not here: requests (`flow`), audits, alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daulat.evaluate.certificates import Certificates, Signed
    from daulat.route.certificate import Certificate, Reason
    from daulat.route.learning.router import Router
    from daulat.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A certificate with its router, and whether it may be followed.

    Attributes:
        name: its file's.
        task: the task's name, or the name of the file that it was made from; empty: it cannot be read.
        digest: the certificate's; empty: it cannot be read.
        certificate, router: None: they cannot be read, or are not there.
        void: why it must not be followed, a sentence each; empty: it stands.
    """

    name: str
    task: str
    digest: str
    certificate: Certificate | None
    router: Router | None
    void: tuple[str, ...]


def standing(settings: Settings) -> tuple[Standing, ...]:
    """Every certificate of the home, by name; none: there is none.

    One that is damaged or has become void is there too, and says why: nobody should believe it away.
    """
    folder = settings.home / "certificates"
    if not folder.is_dir() or not any(folder.glob("*.json")):
        return ()
    from daulat.evaluate.certificates import Certificates  # noqa: PLC0415

    kept = Certificates(settings.home)
    return tuple(look(kept, name, settings) for name in kept.names())


def look(kept: Certificates, name: str, settings: Settings) -> Standing:
    """One of them.

    Raises:
        NotFoundError: there is none of that name.
    """
    from daulat.errors import CertificateError, DataError  # noqa: PLC0415

    try:
        one = kept.get(name)
    except (CertificateError, DataError) as error:
        return Standing(name, "", "", None, None, (error.message,))
    paper = one.certificate
    try:
        router = kept.router(name)
    except DataError as error:
        why = (*_signature(one, settings), error.message)
        return Standing(name, paper.task, paper.digest(), paper, None, why)
    why = [*_signature(one, settings), *_changes(one, router, settings)]
    if paper.name != name:
        why.append(f"The file is called {name}, and the certificate {paper.name}.")
    return Standing(name, paper.task, paper.digest(), paper, router, tuple(why))


def _signature(one: Signed, settings: Settings) -> list[str]:
    from daulat.errors import CertificateError  # noqa: PLC0415
    from daulat.trust.signing import known_key  # noqa: PLC0415

    try:
        one.verify()
        own = known_key(settings.home)
    except CertificateError as error:
        return [error.message]
    if one.signature.key != own:
        return [f"It is signed by the key {one.signature.key}, which is not this house's."]
    return []


def _changes(one: Signed, router: Router | None, settings: Settings) -> list[str]:
    reasons = changes(one.certificate, router, settings)
    return [sentence(reason) for reason in reasons] + (
        [] if router is not None else ["Its router is gone."]
    )


def changes(
    paper: Certificate, router: Router | None, settings: Settings, data: str = ""
) -> tuple[Reason, ...]:
    """What has changed of what it rests on.

    Args:
        router: as it is now; None: it is not there, and not compared.
        data: digest of the outcomes to compare; empty: the task's own, if it is one of the home.
    """
    from daulat.evaluate.identities import identities  # noqa: PLC0415
    from daulat.evaluate.windows import task_data, task_digest  # noqa: PLC0415
    from daulat.route.certificate import Present, void_reasons  # noqa: PLC0415

    names = (paper.open.endpoint, paper.closed.endpoint)
    present = Present(
        router=router.digest() if router is not None else "",
        task_digest=task_digest(settings.home, paper.task),
        data_digest=data or task_data(settings.home, paper.task, names),
        endpoints=identities(names, settings),
    )
    return void_reasons(paper, present)


def sentence(reason: Reason) -> str:
    """Why it is void, for a log or a header."""
    if not reason.now:
        return f"{reason.what} was {reason.was} and is gone."
    return f"{reason.what} was {reason.was} and is {reason.now}."
