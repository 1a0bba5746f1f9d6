"""The certificates of a home as rules that requests can be answered by, and why some cannot be.

A rule rests on the certificate's own digests: a signature that does not fit, another router, a changed task or model
leave it out, with the reason. Not here: who follows rules (`flow.auto`), what they are (`route.rule`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daulat.errors import DaulatError
from daulat.evaluate.certificates import Certificates, Signed
from daulat.evaluate.windows import task_digest
from daulat.route.certificate import Certificate, Identity, Present, void_reasons
from daulat.route.learning.agreeing import agree
from daulat.route.learning.features import Seen, extract
from daulat.route.learning.router import Router
from daulat.route.names import Target
from daulat.route.rule import Asked, Opinion, Rule

_SERVED: Final = ("category", "logprob")
"""What a request, or the engine, can give a router beside the prompt and the answer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One certificate, and whether requests are answered by it.

    Attributes:
        certificate: None: its file holds none.
        rule: None: they are not, and `why` says it.
    """

    name: str
    certificate: Certificate | None
    rule: Rule | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Here:
    """What there is to answer with.

    Attributes:
        targets: what a name of an endpoint in a certificate stands for; empty: nothing.
        identity: digest of a model of this machine, or the vendor's name of one elsewhere; empty: not known.
    """

    targets: Callable[[str], tuple[Target, ...]]
    identity: Callable[[Target], str]


def standings(home: Path, key: str, here: Here) -> tuple[Standing, ...]:
    """Every certificate of a home.

    Args:
        key: id of the house's key; a certificate that another has signed is not followed.
    """
    kept = Certificates(home)
    return tuple(_standing(home, kept, name, key, here) for name in kept.names())


def _standing(home: Path, kept: Certificates, name: str, key: str, here: Here) -> Standing:
    try:
        signed = kept.get(name)
    except DaulatError as error:
        return Standing(name, None, None, error.message)
    paper = signed.certificate
    try:
        router = kept.router(name)
        why = _signed_by_another(signed, key) or _cannot(home, paper, router, here)
    except DaulatError as error:
        return Standing(name, paper, None, error.message)
    if why or router is None:
        return Standing(name, paper, None, why or "its router is gone: certify again")
    return Standing(name, paper, _rule(paper, router, here))


def _signed_by_another(signed: Signed, key: str) -> str:
    """Why a signature does not count here; empty: it does.

    Raises:
        CertificateError: it does not fit.
    """
    signed.verify()
    if signed.signature.key == key:
        return ""
    return f"the key {signed.signature.key} has signed it, and not this house's"


def _cannot(home: Path, paper: Certificate, router: Router | None, here: Here) -> str:
    for identity in (paper.open, paper.closed):
        if why := _unclear(identity, here):
            return why
    if router is None:
        return "its router is gone: certify again"
    present = Present(
        router=router.digest(),
        task_digest=task_digest(home, paper.task),
        endpoints={one.endpoint: _now(one, here) for one in (paper.open, paper.closed)},
    )
    if reasons := void_reasons(paper, present):
        return f"void, for this has changed: {', '.join(reason.what for reason in reasons)}"
    if router.encoder:
        return f"its router needs vectors of {router.encoder}, which are not made for requests"
    if missing := [what for what in router.given if what not in _SERVED]:
        return f"its router needs what requests do not have: {', '.join(missing)}"
    if any(endpoint.endpoint not in router.endpoints for endpoint in (paper.open, paper.closed)):
        return "its router is of other endpoints"
    return ""


def _unclear(identity: Identity, here: Here) -> str:
    found = here.targets(identity.endpoint)
    if not found:
        return f"nothing here is called {identity.endpoint}: name an endpoint's model or a route so in daulat.toml"
    if len(found) > 1:
        return f"{identity.endpoint} stands for {len(found)} models here: certify endpoint/model"
    return ""


def _now(identity: Identity, here: Here) -> Identity:
    (target,) = here.targets(identity.endpoint)
    return Identity(identity.endpoint, here.identity(target))


def _rule(paper: Certificate, router: Router, here: Here) -> Rule:
    (open_,), (closed,) = here.targets(paper.open.endpoint), here.targets(paper.closed.endpoint)
    known = {one: here.identity(one) for one in (open_, closed)}
    return Rule(
        task=paper.name,
        certificate=paper.digest(),
        mode=paper.mode,
        open=open_,
        closed=closed,
        digests={target: what for target, what in known.items() if what},
        needs=frozenset(router.given),
        opinion=_opinion(router, paper.threshold),
        similarity=router.profile.similarity,
        limit=router.profile.limit,
        agrees=agree,
        loss=paper.differ.high if paper.differ.value is not None else None,
    )


def _opinion(router: Router, threshold: float) -> Callable[[Asked], Opinion]:
    def opinion(asked: Asked) -> Opinion:
        logprob = math.nan if asked.logprob is None else asked.logprob
        seen = Seen(asked.prompt, asked.category, asked.answer, logprob)
        features = extract([seen], router.mode)
        need = float(router.steps(features).needs()[0])
        low, *others = router.expected(features)[0].tolist()
        return Opinion(need < threshold, max(others) - low)

    return opinion
