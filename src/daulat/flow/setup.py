"""From settings to what the hall works by: rules, detectors, routes, limits; every cross-check between tables.

Not here: endpoints and their prices (`endpoints.remote.build`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daulat.errors import SettingsError
from daulat.guard.findings import CLASSES
from daulat.policy import Reach, Rules
from daulat.route import Route
from daulat.settings import Money, Policy, Project, Settings
from daulat.values.money import amount
from daulat.values.plan import NO_LIMITS, EndpointCard, Limits

if TYPE_CHECKING:
    from daulat.guard.scan import Detectors


def usual_detectors() -> Detectors:
    """All detectors that there are. Imported here: a start that sends nothing away needs none."""
    from daulat.guard.scan import Detectors  # noqa: PLC0415

    return Detectors()


@dataclass(frozen=True, slots=True)
class Setup:
    """What the user has set, beyond endpoints.

    Attributes:
        detectors: makes them, which takes a while; called once, when a text is looked through at all.
        routes: names of the user's.
        projects: the limits that the keys of a project share, by its name; `classes`: of their texts.
        house: the limits of everything together.
        audit_share: of the requests under a certificate, so many are answered by both models.
    """

    rules: Rules = field(default_factory=Rules)
    detectors: Callable[[], Detectors] = usual_detectors
    routes: Mapping[str, Route] = field(default_factory=dict[str, Route])
    projects: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    classes: Mapping[str, str] = field(default_factory=dict[str, str])
    house: Limits = NO_LIMITS
    currency: str = "USD"
    audit_share: float = 0.0


def setup(settings: Settings, cards: Mapping[str, EndpointCard]) -> Setup:
    """What the settings say.

    Args:
        cards: of all endpoints, this machine's too.

    Raises:
        SettingsError: names in one table that another does not have, or a pattern that is none.
    """
    rules = _rules(settings.policy)
    return Setup(
        rules,
        _detectors(settings, rules),
        _routes(settings, cards),
        {name: _shared(project) for name, project in settings.projects.items()},
        _classes(settings.projects, rules),
        _house(settings.money),
        settings.money.currency,
        settings.auto.audit_share,
    )


def _rules(policy: Policy) -> Rules:
    order = policy.order or CLASSES
    for name in CLASSES[2:]:
        if name not in order:
            raise SettingsError(
                f"policy.order leaves out {name}, which detectors find. Put it among the classes."
            )
    if len(set(order)) != len(order):
        raise SettingsError("policy.order names a class twice. Name each once.")
    _must_be("policy.default_class", policy.default_class, order)
    for name in policy.classes:
        _must_be(f"[policy.classes.{name}]", name, order)
    reach = {
        name: Reach(frozenset(one.places), frozenset(one.redacted))
        for name, one in policy.classes.items()
    }
    return Rules(policy.lock, tuple(order), policy.default_class, reach=reach)


def _detectors(settings: Settings, rules: Rules) -> Callable[[], Detectors]:
    """Made now where something is set that can be wrong or they will be needed; else when they are."""
    policy = settings.policy
    if not (policy.patterns or policy.detectors_off or settings.endpoints):
        return usual_detectors
    from daulat.guard.patterns import pattern  # noqa: PLC0415
    from daulat.guard.scan import Detectors  # noqa: PLC0415

    for name, one in policy.patterns.items():
        _must_be(f"policy.patterns.{name}.data_class", one.data_class, rules.order)
    patterns = [pattern(n, one.pattern, one.data_class) for n, one in policy.patterns.items()]
    made = Detectors(frozenset(policy.detectors_off), tuple(patterns))
    return lambda: made


def _routes(settings: Settings, cards: Mapping[str, EndpointCard]) -> Mapping[str, Route]:
    return {
        name: Route(
            _steps(name, one.to, cards), _weights(name, one.to, one.weights), one.hedge_seconds
        )
        for name, one in settings.routes.items()
    }


def _steps(name: str, to: Sequence[str], cards: Mapping[str, EndpointCard]) -> tuple[str, ...]:
    if not to:
        raise SettingsError(f"[routes.{name}] leads nowhere: write to = ['ENDPOINT/MODEL'].")
    for step in to:
        endpoint, slash, model = step.partition("/")
        _must_be(f"routes.{name}.to", endpoint, cards)
        offers = cards[endpoint].offers
        if not slash or not model:
            raise SettingsError(f"routes.{name}.to has {step!r}: write ENDPOINT/MODEL.")
        if offers:
            _must_be(f"routes.{name}.to", model, offers)
    return tuple(to)


def _weights(name: str, to: Sequence[str], weights: Sequence[float]) -> tuple[float, ...]:
    if weights and len(weights) != len(to):
        raise SettingsError(
            f"routes.{name} has {len(to)} steps and {len(weights)} weights. Give each step one."
        )
    return tuple(weights)


def _classes(projects: Mapping[str, Project], rules: Rules) -> Mapping[str, str]:
    for name, project in projects.items():
        if project.data_class:
            _must_be(f"projects.{name}.data_class", project.data_class, rules.order)
    return {name: project.data_class for name, project in projects.items() if project.data_class}


def _shared(project: Project) -> Limits:
    return Limits(
        money_per_day=_amount(project.money_per_day),
        money_per_month=_amount(project.money_per_month),
        tokens_per_day=project.tokens_per_day or None,
        tokens_per_month=project.tokens_per_month or None,
        requests_per_minute=project.requests_per_minute or None,
        tokens_per_minute=project.tokens_per_minute or None,
    )


def _house(money: Money) -> Limits:
    return Limits(money_per_day=_amount(money.per_day), money_per_month=_amount(money.per_month))


def _amount(text: str) -> int | None:
    if not text:
        return None
    try:
        return amount(text)
    except ValueError as error:
        raise SettingsError(
            f"An amount of money in daulat.toml cannot be used: {error}."
        ) from error


def _must_be(where: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
        raise SettingsError(f"{where} names {name!r}, which there is not. {hint}")
