"""`GET /admin/spend`: what was used, by day, key, project, endpoint and model.

Not here: the sums (`record.statistics`), the page that shows them (`console`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import parse_qsl

from starlette.responses import Response

from daulat.errors import RequestError
from daulat.record import Record, statistics
from daulat.record.statistics import DIMENSIONS, By
from daulat.server.answering import json_response
from daulat.server.calls import Call
from daulat.server.wire.spend import SpendReport, spend_row

DAY: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
BY: Final = f"^({'|'.join(DIMENSIONS)})(,({'|'.join(DIMENSIONS)})){{0,4}}$"
_LONGEST: Final = 512
_MOST_ROWS: Final = 10_000


async def spend(call: Call) -> Response:
    """The sums of the days that are asked for."""
    given = _query(call.scope["query_string"])
    today = datetime.now(UTC).date()
    since = _day(given, "since", today.replace(day=1))
    until = _day(given, "until", today)
    if since > until:
        raise RequestError("`until` is before `since`: swap them.", param="until")
    by = _by(given.get("by", "endpoint,model"))
    report = await asyncio.to_thread(
        _report,
        call.hall.record,
        since.isoformat(),
        until.isoformat(),
        by,
        call.hall.setup.currency,
    )
    return json_response(call, report)


def _report(
    record: Record, since: str, until: str, by: tuple[By, ...], currency: str
) -> SpendReport:
    with record.reading() as connection:
        found = statistics.spend(connection, since=since, until=until, by=by)
        every = statistics.spend(connection, since=since, until=until, by=())
    if len(found) > _MOST_ROWS:
        raise RequestError(
            f"That has more than {_MOST_ROWS} rows: ask for fewer days, or tell less apart.",
            param="by",
        )
    return SpendReport(
        since=since,
        until=until,
        currency=currency,
        rows=[spend_row(one, by) for one in found],
        total=spend_row(every[0], ()) if every else None,
    )


def _query(raw: bytes) -> Mapping[str, str]:
    """The parameters, each at most once.

    Raises:
        RequestError: one that there is not, one twice, or what cannot be read.
    """
    try:
        if len(raw) > _LONGEST:
            raise ValueError
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict"
        )
    except ValueError:
        raise RequestError("What stands behind the `?` cannot be read.", param="query") from None
    given = dict(pairs)
    for name in given:
        if name not in ("since", "until", "by"):
            raise RequestError(
                f"There is no `{name[:64]}` here: there are since, until and by.", param="query"
            )
    if len(given) < len(pairs):
        raise RequestError("Give each of since, until and by once.", param="query")
    return given


def _day(given: Mapping[str, str], name: str, otherwise: date) -> date:
    text = given.get(name)
    if text is None:
        return otherwise
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise RequestError(f"`{name}` must be a day such as 2026-01-31.", param=name)
    return found


def _by(text: str) -> tuple[By, ...]:
    names = text.split(",")
    known: tuple[By, ...] = tuple(name for name in DIMENSIONS if name in names)
    if len(known) != len(names):
        raise RequestError(
            f"`by` takes each of {', '.join(DIMENSIONS)} once, with commas between.", param="by"
        )
    return known
