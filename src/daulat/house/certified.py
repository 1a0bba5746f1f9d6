"""Keeps the hall on the certificates of the home: when it opens, and whenever one is made, replaced or removed.

Not here: what makes a certificate followable (`evaluate.serving`), who answers under it (`flow.auto`).
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from daulat.errors import DaulatError
from daulat.evaluate.serving import served
from daulat.flow import Hall
from daulat.settings import Settings

if TYPE_CHECKING:
    from daulat.evaluate.serving import Served

EVERY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)

_State = frozenset[tuple[str, int, int]]


class Certified:
    """The certificates of one home before one hall."""

    def __init__(self, settings: Settings, hall: Hall) -> None:
        self._settings = settings
        self._hall = hall
        self._seen: _State = frozenset()

    async def follow(self) -> None:
        """Look whether anything has changed, and follow what there is now.

        Raises:
            RecordError: the record cannot be read.
        """
        state = await asyncio.to_thread(_state, self._settings.home)
        if state == self._seen:
            return
        found = await asyncio.to_thread(served, self._settings, self._hall.naming.meant)
        rules = {one.rule.certificate: one.rule for one in found if one.rule is not None}
        await asyncio.to_thread(self._hall.audits.restore, rules)
        self._hall.auto.follow(tuple(rules.values()))
        self._seen = state
        _tell(found)

    async def watch(self) -> None:
        """Follow what changes, for ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.follow()
            except DaulatError as error:
                log.warning("certificates cannot be followed now", extra={"why": error.message})


def _tell(found: tuple[Served, ...]) -> None:
    for one in found:
        told = {"certificate": one.standing.name, "why": one.why}
        log.info("a certificate is " + ("followed" if one.rule else "not followed"), extra=told)


def _state(home: Path) -> _State:
    """Names, times and sizes of the files that certificates lie in; empty: there is none."""
    folder = home / "certificates"
    found: set[tuple[str, int, int]] = set()
    for path in (*folder.glob("*.json"), *folder.glob("routers/*.json")):
        try:
            told = path.stat()
        except OSError:  # it has just been replaced or removed: the next look sees it
            continue
        found.add((str(path.relative_to(folder)), told.st_mtime_ns, told.st_size))
    return frozenset(found)
