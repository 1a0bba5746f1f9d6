"""Keeps a certificate honest: a random share of what falls under it is answered by both models.

The loss of a request is 1 where the open model's answer was kept and the closed one's says something else,
else 0. Which requests are looked at is decided by a coin before anything is known of them, so their mean loss
is that of the traffic. `statistics.drift` watches it; at an alarm the certificate is void, and the closed
model answers. Where the other answer does not come (a budget, a failure), nothing is learned; that is counted.

Not here: what a certificate promises (`evaluate.certifying`), its requests (`auto`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from daulat.errors import DaulatError
from daulat.flow.auto import Auto, Ruling
from daulat.flow.cascading import said
from daulat.flow.exchange import Exchange
from daulat.record import Record
from daulat.record.transcript import AUDITED
from daulat.route import Rule

if TYPE_CHECKING:
    from daulat.statistics.drift import Drift

VOIDED: Final = "auto.voided"
_MOST_LOSS: Final = 0.999

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """One certificate in service.

    Attributes:
        unanswered: requests that were to be looked at, and whose other answer did not come.
    """

    drift: Drift
    unanswered: int = 0


class Audits:
    """All certificates that this process has seen in service.

    Args:
        share: of the requests under a certificate that are looked at, in [0, 1].
        coin: uniform in [0, 1).
    """

    def __init__(
        self,
        auto: Auto,
        record: Record,
        share: float,
        coin: Callable[[], float] = random.random,
    ) -> None:
        self._auto = auto
        self._record = record
        self._share = share
        self._coin = coin
        self._watched: dict[str, Watch] = {}
        self._looking: set[asyncio.Task[None]] = set()

    def restore(self, rules: Mapping[str, Rule]) -> None:
        """Take up again what the record says of these certificates, by their digests; of those that are watched
        already, nothing.

        Raises:
            RecordError: it cannot be read.
        """
        new = {name: rule for name, rule in rules.items() if name not in self._watched}
        if not new:
            return
        for rule in new.values():
            self.watch(rule)
        for entry in self._record.entries(kind=VOIDED):
            if entry.subject in new:
                self._auto.void(entry.subject, str(entry.body.get("why", "")))
        for entry in self._record.entries(kind=AUDITED):
            rule = new.get(str(entry.body.get("certificate", "")))
            if rule is not None:
                self._add(rule, entry.body.get("loss"))

    def heard(
        self,
        exchange_id: str,
        ruling: Ruling,
        answer: str,
        other: Callable[[], Awaitable[Exchange]],
    ) -> None:
        """A whole answer was given under a certificate.

        Args:
            other: asks the closed model the same.
        """
        if ruling.rule.loss is None or ruling.way not in ("kept", "escalated"):
            return
        if self._coin() >= self._share:
            return
        looking = self._look(exchange_id, ruling, answer, other)
        self._looking.add(task := asyncio.ensure_future(looking))
        task.add_done_callback(self._looking.discard)

    async def settle(self) -> None:
        """Wait for what is being looked at."""
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is being looked at."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    def watch(self, rule: Rule) -> Watch:
        """What is known of a certificate in service."""
        # Imported here: a start without certificates needs no numpy.
        from daulat.statistics.drift import Drift  # noqa: PLC0415

        loss = min(1.0 if rule.loss is None else rule.loss, _MOST_LOSS)
        return self._watched.setdefault(rule.certificate, Watch(Drift(loss, rule.delta)))

    async def _look(
        self,
        exchange_id: str,
        ruling: Ruling,
        answer: str,
        other: Callable[[], Awaitable[Exchange]],
    ) -> None:
        loss: float | None = 0.0
        beside = ""
        # What was escalated, or answered by the closed model for want of the open one, cannot be worse.
        if ruling.way == "kept" and not ruling.why:
            try:
                exchange = await other()
                beside = exchange.id
                async with contextlib.aclosing(exchange.events()) as events:
                    second = said([event async for event in events])
                loss = 0.0 if ruling.rule.agrees(answer, second.text) else 1.0
            except DaulatError as error:
                log.info(
                    "an audit got no answer", extra={"exchange": exchange_id, "why": error.code}
                )
                loss = None
        await self._note(exchange_id, ruling.rule, loss, beside)

    async def _note(self, exchange_id: str, rule: Rule, loss: float | None, beside: str) -> None:
        body: dict[str, Any] = {"certificate": rule.certificate, "loss": loss, "share": self._share}
        with contextlib.suppress(DaulatError):
            await self._record.add(
                AUDITED, exchange_id, body | ({"beside": beside} if beside else {})
            )
            if self._add(rule, loss):
                why = self._auto.voided(rule.certificate)
                await self._record.add(VOIDED, rule.certificate, {"task": rule.task, "why": why})

    def _add(self, rule: Rule, loss: object) -> bool:
        """Whether this ends the certificate."""
        watch = self.watch(rule)
        if not isinstance(loss, int | float):
            watch.unanswered += 1
            return False
        if not watch.drift.add(float(loss)):
            return False
        mean = watch.drift.mean or 0.0
        return self._auto.void(
            rule.certificate,
            f"of {watch.drift.losses} audited answers {mean:.1%} differ, {rule.loss or 0:.1%} may",
        )
