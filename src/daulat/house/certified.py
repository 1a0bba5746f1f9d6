"""Keeps the hall on the certificates of the home: when it opens, and whenever one is made, replaced or removed.

What the two models are is written into the record when a certificate is followed for the first time, so that a
change is noticed also where the certificate itself does not name them. Not here: what makes a certificate
followable (`evaluate.serving`), who answers under it (`flow.auto`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from daulat.errors import DaulatError
from daulat.flow import Hall
from daulat.record import Record

if TYPE_CHECKING:
    from daulat.evaluate.serving import Standing
    from daulat.flow.naming import Naming
    from daulat.route import Rule

FOLLOWED: Final = "auto.followed"
EVERY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)

_State = frozenset[tuple[str, int, int]]


class Certified:
    """The certificates of one home before one hall.

    Attributes:
        standings: every certificate, and why some are not followed.
    """

    def __init__(self, home: Path, hall: Hall, record: Record) -> None:
        self._home = home
        self._hall = hall
        self._record = record
        self._seen: _State = frozenset()
        self.standings: tuple[Standing, ...] = ()

    async def follow(self) -> None:
        """Look whether anything has changed, and follow what there is now.

        Raises:
            RecordError: the record cannot be read or written.
        """
        state = await asyncio.to_thread(_state, self._home)
        if state == self._seen:
            return
        self.standings = await asyncio.to_thread(standings, self._home, self._hall.naming)
        rules = {one.rule.certificate: one.rule for one in self.standings if one.rule is not None}
        for rule in rules.values():
            await self._first_followed(rule)
        await asyncio.to_thread(self._hall.audits.restore, rules)
        self._hall.auto.follow(tuple(rules.values()))
        self._seen = state
        for one in self.standings:
            told = {"certificate": one.name, "why": one.why}
            if one.rule is None:
                log.warning("a certificate is not followed", extra=told)
            else:
                log.info("a certificate is followed", extra={"certificate": one.name})

    async def watch(self) -> None:
        """Follow what changes, for ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.follow()
            except DaulatError as error:
                log.warning("certificates cannot be followed now", extra={"why": error.message})

    async def _first_followed(self, rule: Rule) -> None:
        now = _models(rule)
        before = await asyncio.to_thread(first_followed, self._record, rule)
        if before is None:
            await self._record.add(FOLLOWED, rule.certificate, {"task": rule.task, "models": now})
        elif before != now:
            changed = [name for name in before if before[name] != now.get(name)]
            self._hall.auto.void(
                rule.certificate,
                f"{', '.join(changed)} changed since it was followed first; certify again",
            )


def standings(home: Path, naming: Naming) -> tuple[Standing, ...]:
    """Every certificate of a home, held against what a name stands for now."""
    # Imported here: a start without certificates needs neither numpy nor a key.
    from daulat.evaluate.serving import Here, standings  # noqa: PLC0415
    from daulat.trust.signing import house_key  # noqa: PLC0415

    if not _state(home):
        return ()
    return standings(home, house_key(home).id, Here(naming.meant, naming.identity))


def first_followed(record: Record, rule: Rule) -> Mapping[str, str] | None:
    """What its two models were when a certificate was followed first; None: it has not been yet."""
    for entry in record.entries(subject=rule.certificate, kind=FOLLOWED, limit=1):
        models: Any = entry.body.get("models", {})
        return {str(name): str(what) for name, what in models.items()}
    return None


def _models(rule: Rule) -> dict[str, str]:
    pair: Sequence[Any] = (rule.open, rule.closed)
    return {f"{one.endpoint}/{one.model}": rule.digests.get(one, "") for one in pair}


def _state(home: Path) -> _State:
    """Names, times and sizes of the files that certificates lie in."""
    found: set[tuple[str, int, int]] = set()
    for folder in ("certificates", "routers"):
        for path in (home / folder).glob("*.json"):
            try:
                told = path.stat()
            except OSError:
                continue
            found.add((f"{folder}/{path.name}", told.st_mtime_ns, told.st_size))
    return frozenset(found) if any(name.startswith("cert") for name, _, _ in found) else frozenset()
