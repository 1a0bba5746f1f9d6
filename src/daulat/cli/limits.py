"""What a person writes for a limit or a time, and how we write it back.

Not here: what limits do (`record.ledger`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

import click

from daulat.cli.words import _
from daulat.values.money import amount, shown
from daulat.values.plan import Limits

_FIELDS: Final = {
    ("money", "day"): "money_per_day",
    ("money", "month"): "money_per_month",
    ("money", ""): "money_in_all",
    ("tokens", "day"): "tokens_per_day",
    ("tokens", "month"): "tokens_per_month",
    ("tokens", "minute"): "tokens_per_minute",
    ("requests", "minute"): "requests_per_minute",
}
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]{1,7})([mhdw])")
_WORDS: Final = {
    "money_per_day": _("{most} a day"),
    "money_per_month": _("{most} a month"),
    "money_in_all": _("{most} in all"),
    "tokens_per_day": _("{most} tokens a day"),
    "tokens_per_month": _("{most} tokens a month"),
    "requests_per_minute": _("{most} requests a minute"),
    "tokens_per_minute": _("{most} tokens a minute"),
}


def read(budgets: Iterable[str], tokens: Iterable[str], requests: Iterable[str]) -> Limits:
    """Limits from `5/day`, `100/month`, `500`, `1000000/day`, `60/minute`.

    Raises:
        click.BadParameter: not of that form, or one given twice.
    """
    found: dict[str, int] = {}
    for kind, option, texts in (
        ("money", "--budget", budgets),
        ("tokens", "--tokens", tokens),
        ("requests", "--requests", requests),
    ):
        for text in texts:
            number, slash, period = text.partition("/")
            name = _FIELDS.get((kind, period))
            if name is None or bool(slash) != bool(period):
                raise _bad(_periods(kind, text), option)
            if name in found:
                raise _bad(_("{text} is the second limit of its kind.").format(text=text), option)
            found[name] = _number(kind, number, option)
    return Limits(**found)


def described(limits: Limits, currency: str) -> list[str]:
    """Each limit in words."""
    chosen = [(f.name, getattr(limits, f.name)) for f in fields(limits)]
    return [
        _WORDS[name].format(most=figure(name, most, currency))
        for name, most in chosen
        if most is not None
    ]


def figure(name: str, most: int, currency: str) -> str:
    """A limit's number, as money where it is money."""
    return f"{shown(most)} {currency}" if name.startswith("money") else str(most)


def as_json(limits: Limits) -> dict[str, Any]:
    """Limits for other programs: those that are set, money as decimal texts."""
    chosen = {f.name: getattr(limits, f.name) for f in fields(limits)}
    return {
        name: shown(most) if name.startswith("money") else most
        for name, most in chosen.items()
        if most is not None
    }


def duration(text: str, option: str) -> int:
    """Seconds from `90m`, `12h`, `30d`, `4w`, or `0`.

    Raises:
        click.BadParameter: not of that form.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0
    if match is None:
        raise _bad(_("{text} is not a time such as 12h, 30d or 4w.").format(text=text), option)
    return int(match[1]) * _SECONDS[match[2]]


def end(text: str | None, option: str) -> float | None:
    """Seconds since 1970 from a duration, or from a date, at whose beginning (UTC) it ends.

    Raises:
        click.BadParameter: neither of them.
    """
    if text is None:
        return None
    if _DURATION.fullmatch(text):
        return time.time() + duration(text, option)
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        said = _("{text} is neither a time such as 30d nor a date such as 2027-01-31.")
        raise _bad(said.format(text=text), option) from error


def moment(seconds: float | None) -> str:
    """A time in UTC to the minute; empty for none."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _number(kind: str, text: str, option: str) -> int:
    try:
        if kind == "money":
            return amount(text)
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return int(text)
    except ValueError as error:
        said = _("{text} is not an amount of money.").format(text=text)
        raise _bad(said, option) from error
    raise _bad(_("{text} is not a whole number.").format(text=text), option)


def _periods(kind: str, text: str) -> str:
    known: Sequence[str] = [period for one, period in _FIELDS if one == kind]
    forms = ", ".join(f"N/{period}" if period else "N" for period in known)
    return _("{text} is not a limit. Write one of: {forms}").format(text=text, forms=forms)


def _bad(message: str, option: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=option)
