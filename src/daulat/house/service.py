"""What has become of requests under the certificates of a home, from its files and its record alone.

Not here: answering (`certified`), how it is shown (`cli.standing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from daulat.evaluate.serving import Served, served
from daulat.flow.audits import Audits, Watch
from daulat.flow.auto import Auto
from daulat.flow.books import CLOSED
from daulat.house.directory import directory
from daulat.record import Record
from daulat.settings import Settings

if TYPE_CHECKING:
    from daulat.route import Rule

LOOKED: Final = 20_000
"""So many of the newest exchanges are looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One certificate in service.

    Attributes:
        ended: why it is void by its audits; empty: it is not.
        ways: how many requests went which way (`flow.auto.Way`), of the newest `LOOKED` exchanges.
        watch: its audits; None: it is not followed.
    """

    served: Served
    ended: str
    ways: Mapping[str, int] = field(default_factory=dict[str, int])
    watch: Watch | None = None


def service(settings: Settings, record: Record) -> tuple[Service, ...]:
    """Every certificate of the home.

    Raises:
        SettingsError, RecordError: they cannot be read.
    """
    found = served(settings, directory(settings).meant)
    rules = {one.rule.certificate: one.rule for one in found if one.rule is not None}
    auto = Auto(tuple(rules.values()))
    audits = Audits(auto, record, settings.auto.audit_share)
    audits.restore(rules)
    ways = _ways(record) if found else {}
    return tuple(_service(one, auto, audits, ways) for one in found)


def _service(one: Served, auto: Auto, audits: Audits, ways: Mapping[str, Counter[str]]) -> Service:
    rule: Rule | None = one.rule
    went = ways.get(one.standing.digest, Counter[str]())
    if rule is None:
        return Service(one, "", went)
    return Service(one, auto.voided(rule.certificate) or "", went, audits.watch(rule))


def _ways(record: Record) -> dict[str, Counter[str]]:
    """Ways of requests, by the digest of the certificate."""
    found: dict[str, Counter[str]] = {}
    for entry in record.entries(kind=CLOSED, limit=LOOKED, newest_first=True):
        told = entry.body.get("auto")
        if isinstance(told, dict):
            ruling = cast("dict[str, object]", told)
            own = found.setdefault(str(ruling.get("certificate")), Counter())
            own[str(ruling.get("way"))] += 1
    return found
