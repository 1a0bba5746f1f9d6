"""The answer of `GET /admin/spend`."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from daulat.record.statistics import By, Spend
from daulat.server.wire.common import Outgoing
from daulat.values.money import shown


class SpendRow(Outgoing, frozen=True, kw_only=True):
    """Sums of one group; what was not asked to be told apart is not there.

    `money` is an exact decimal number of the currency's units.
    """

    day: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    project: str | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    requests: int
    errors: int
    counted: int
    unpriced: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    money: str


class SpendReport(Outgoing, frozen=True, kw_only=True):
    since: str
    until: str
    currency: str
    rows: list[SpendRow]
    total: SpendRow | None
    """None: nothing was used."""


def spend_row(one: Spend, by: tuple[By, ...]) -> SpendRow:
    """The wire's form of one group's sums."""
    return SpendRow(
        **{name: getattr(one, name) for name in by},
        requests=one.requests,
        errors=one.errors,
        counted=one.counted,
        unpriced=one.unpriced,
        prompt_tokens=one.prompt_tokens,
        completion_tokens=one.completion_tokens,
        cached_tokens=one.cached_tokens,
        reasoning_tokens=one.reasoning_tokens,
        money=shown(one.money),
    )
