"""`daulat spend`: what was used, and what it cost.

Not here: the sums (`record.statistics`).
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import common, opened_record, settings
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.record.statistics import By, Spend

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command(
    help=_("What was used and what it cost: the sums of this month, or of the days you name.")
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["day", "key", "project", "endpoint", "model"]),
    default=("endpoint", "model"),
    show_default=True,
    help=_("What is told apart; may be repeated."),
)
@click.option(
    "--since", type=_DAY, metavar=_("DAY"), help=_("First day (UTC). [default: the month's first]")
)
@click.option("--until", type=_DAY, metavar=_("DAY"), help=_("Last day (UTC). [default: today]"))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@click.option("--csv", "as_csv", is_flag=True, help=_("As CSV, for spreadsheets."))
@common
def spend(
    by: tuple[By, ...],
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    from daulat.record import statistics

    first = (since or datetime.now(UTC).replace(day=1)).date().isoformat()
    last = (until or datetime.now(UTC)).date().isoformat()
    if first > last:
        raise click.BadParameter(_("The last day is before the first."), param_hint="--until")
    with opened_record() as record, record.reading() as connection:
        found = statistics.spend(connection, since=first, until=last, by=by)
        every = statistics.spend(connection, since=first, until=last, by=())
    currency = settings().money.currency
    rows = [_plain(one, by, currency) for one in found]
    if as_json:
        total = _plain(every[0], (), currency) if every else None
        say.as_json({"since": first, "until": last, "rows": rows, "total": total})
    elif as_csv:
        _csv(rows, by)
    else:
        say.note(_("From {first} to {last} (UTC)").format(first=first, last=last))
        _table(found, every, by, currency)


def _plain(one: Spend, by: tuple[By, ...], currency: str) -> dict[str, Any]:
    from daulat.record.statistics import DIMENSIONS
    from daulat.values.money import shown

    fields = asdict(one)
    kept = {name: v for name, v in fields.items() if name not in DIMENSIONS or name in by}
    return {**kept, "money": shown(one.money), "currency": currency}


def _csv(rows: list[dict[str, Any]], by: tuple[By, ...]) -> None:
    names = (
        *by,
        *("requests", "errors", "counted", "unpriced"),
        *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
        *("money", "currency"),
    )
    out = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    out.writeheader()
    for row in rows:
        # A spreadsheet would take such a name for a formula.
        texts = {name: f"'{row[name]}" for name in by if row[name][:1] in ("=", "+", "-", "@")}
        out.writerow({**row, **texts})


def _table(found: list[Spend], every: list[Spend], by: tuple[By, ...], currency: str) -> None:
    words = {
        "day": _("Day"),
        "key": _("Key"),
        "project": _("Project"),
        "endpoint": _("Endpoint"),
        "model": _("Model"),
    }
    heads = (
        *(words[name] for name in by),
        *(_("Requests"), _("Errors"), _("Prompt"), _("Answer"), _("Cached"), currency),
    )
    rows = [(*(getattr(one, name) for name in by), *_figures(one)) for one in found]
    for total in every:
        names = [_("Total"), *[""] * (len(by) - 1)]
        rows.append((*names[: len(by)], *_figures(total)))
    say.table(heads, rows, right=range(len(by), len(heads)))
    for total in every:
        _remarks(total)


def _figures(one: Spend) -> tuple[str, ...]:
    from daulat.values.money import shown

    counts = (one.requests, one.errors, one.prompt_tokens, one.completion_tokens, one.cached_tokens)
    return (*(str(count) for count in counts), shown(one.money))


def _remarks(total: Spend) -> None:
    """What the sums do not say by themselves."""
    if total.unpriced:
        say.warn(
            plural(
                "{count} request has no known price: the money lacks it.",
                "{count} requests have no known price: the money lacks them.",
                total.unpriced,
            )
        )
    if total.counted:
        say.note(
            plural(
                "The tokens of {count} request are our own count.",
                "The tokens of {count} requests are our own count.",
                total.counted,
            )
        )
