"""Opens the house: record, keys, catalogue, engine and hall, wired once; closes it in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from daulat.endpoints import Endpoint
from daulat.endpoints.native import NativeEndpoint
from daulat.endpoints.pool import Pool
from daulat.flow import Hall, setup
from daulat.house.certified import Certified
from daulat.models.catalogue import Catalogue
from daulat.net.lock import set_lock
from daulat.record import Record
from daulat.record.instances import Instance
from daulat.record.keys import Keys
from daulat.settings import Settings

_EXPIRY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class House:
    """Attributes:
    interrupted: exchanges that an earlier process had left open, now closed in the record.
    """

    settings: Settings
    record: Record
    keys: Keys
    catalogue: Catalogue
    pool: Pool
    native: NativeEndpoint
    hall: Hall
    certified: Certified
    interrupted: int


@contextlib.asynccontextmanager
async def open_house(settings: Settings) -> AsyncGenerator[House, None]:
    """Everything that answers requests, for as long as the context is open.

    Raises:
        RecordError, SettingsError: the record cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(contextlib.closing(open_record(settings)))
        instance = stack.enter_context(Instance(settings.home))
        # While others see that this process is at work: what it writes last is its own.
        stack.callback(record.close)
        await asyncio.to_thread(record.hold, instance.id)
        interrupted = await asyncio.to_thread(record.recover, instance.is_alive)
        catalogue = Catalogue(settings.home)
        keys = Keys(record)
        pool = Pool(catalogue, settings.engine, settings.models.idle_minutes)
        native = NativeEndpoint(pool)
        elsewhere = _elsewhere(settings)
        endpoints: dict[str, Endpoint] = {native.card.name: native, **elsewhere}
        cards = {name: endpoint.card for name, endpoint in endpoints.items()}
        hall = Hall(catalogue, keys, record, endpoints, instance.id, setup(settings, cards))
        certified = Certified(settings, hall)
        await certified.follow()
        chores = [
            asyncio.create_task(chore)
            for chore in (pool.sweep(), _expire(record), certified.watch())
        ]
        try:
            yield House(
                settings, record, keys, catalogue, pool, native, hall, certified, interrupted
            )
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            try:
                await hall.audits.close()
                for endpoint in endpoints.values():
                    await endpoint.close()
            finally:
                await record.write_here()


def open_record(settings: Settings) -> Record:
    """The record that the settings name: SQLite in the home folder unless they say otherwise."""
    kept = settings.record
    return Record.open(settings.record_place, contents=kept.contents, keep_days=kept.keep_days)


def _elsewhere(settings: Settings) -> Mapping[str, Endpoint]:
    """The endpoints of daulat.toml; without any, nothing is imported for them."""
    set_lock(settings.policy.lock)
    if not settings.endpoints:
        return {}
    from daulat.endpoints.remote.build import build  # noqa: PLC0415

    return build(settings)


async def _expire(record: Record) -> None:
    """Remove contents whose time is over, now and every hour."""
    while True:
        await asyncio.to_thread(record.expire)
        await asyncio.sleep(_EXPIRY_SECONDS)
