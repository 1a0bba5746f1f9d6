"""Certificates that stand, as rules that requests are answered by; and why some cannot be.

Beyond standing (`standing`), a certificate that is followed needs to name both models, each of them one here,
and a router that asks for nothing that a request cannot have. Not here: who follows rules (`flow.auto`), what
they are (`route.rule`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from daulat.evaluate.standing import Standing
    from daulat.route.certificate import Certificate
    from daulat.route.learning.router import Router
    from daulat.route.names import Target
    from daulat.route.rule import Asked, Opinion, Rule
    from daulat.settings import Settings

_SERVED: Final = ("category", "logprob", "probe")
"""What a request, or the engine, can give a router beside the prompt and the answer."""

Meant = Callable[[str], "tuple[Target, ...]"]
"""Which models a name stands for here; empty: none."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One certificate, and whether requests are answered by it.

    Attributes:
        rule: None: they are not, and `why` says it.
    """

    standing: Standing
    rule: Rule | None
    why: str = ""


def served(settings: Settings, meant: Meant) -> tuple[Served, ...]:
    """Every certificate of a home; without any, nothing is imported."""
    from daulat.evaluate.standing import standing  # noqa: PLC0415

    return tuple(_served(one, meant) for one in standing(settings))


def _served(one: Standing, meant: Meant) -> Served:
    paper, router = one.certificate, one.router
    if one.void or paper is None or router is None:
        return Served(one, None, " ".join(one.void))
    if why := _cannot(paper, router, meant):
        return Served(one, None, why)
    return Served(one, _rule(paper, router, meant))


def _cannot(paper: Certificate, router: Router, meant: Meant) -> str:
    """Why requests cannot be answered by it; empty: they can."""
    for one in (paper.open, paper.closed):
        found = meant(one.endpoint)
        if len(found) != 1:
            there = f"{len(found)} models here" if found else "nothing here"
            return f"{one.endpoint} stands for {there}; a certificate that is followed names one model."
        if not one.model:
            return f"It does not say which model {one.endpoint} was. Certify again, now that it is here."
    if router.encoder:
        return (
            f"Its router needs vectors of {router.encoder}, which are not made while requests wait."
        )
    if missing := [what for what in router.given if what not in _SERVED]:
        return f"Its router needs what requests do not have: {', '.join(missing)}."
    return ""


def _rule(paper: Certificate, router: Router, meant: Meant) -> Rule:
    from daulat.route.learning.agreeing import agree  # noqa: PLC0415
    from daulat.route.rule import Rule  # noqa: PLC0415

    (open_,), (closed,) = meant(paper.open.endpoint), meant(paper.closed.endpoint)
    return Rule(
        task=paper.name,
        certificate=paper.digest(),
        mode=paper.mode,
        open=open_,
        closed=closed,
        digests={open_: paper.open.model, closed: paper.closed.model},
        needs=frozenset(router.given),
        temperature=paper.temperature,
        opinion=_opinion(router, paper.threshold),
        similarity=router.profile.similarity,
        limit=router.profile.limit,
        agrees=agree,
        loss=None if paper.differ.value is None else paper.differ.high,
    )


def _opinion(router: Router, threshold: float) -> Callable[[Asked], Opinion]:
    from daulat.evaluate import routers  # noqa: PLC0415
    from daulat.route.learning.features import Seen  # noqa: PLC0415
    from daulat.route.rule import Opinion  # noqa: PLC0415

    def opinion(asked: Asked) -> Opinion:
        logprob = math.nan if asked.logprob is None else asked.logprob
        seen = Seen(asked.prompt, asked.category, asked.answer, logprob, probe=asked.probe or ())
        gain, better = routers.opinion(router, seen)
        return Opinion(gain < threshold, better)

    return opinion
