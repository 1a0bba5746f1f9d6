"""How replays of recorded traffic look: a table beside what really happened, and JSON for other programs.

Not here: the command (`backtest`), the figures (`evaluate.replaying`), replays of outcomes (`routed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from daulat.cli import say
from daulat.cli.wanted import tell_left_out
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.evaluate.replaying import Replayed
    from daulat.evaluate.traffic import Traffic

_DIGITS: Final = 4
"""Of an estimate, shown; what is recorded is shown to its last digit."""


def show(traffic: Traffic, rows: Sequence[Replayed], currency: str) -> None:
    """What happened, then a row for each rule; below it what the figures do not say by themselves."""
    heads = (
        *(_("Rule"), _("Exchanges"), _("Asked"), _("Closed"), currency, _("Of what was paid")),
        *(_("Estimated"), _("Seconds"), _("Agrees with closed")),
    )
    say.table(heads, [_row(one) for one in rows], right=range(1, len(heads)))
    first, last = traffic.pasts[0].time[:10], traffic.pasts[-1].time[:10]
    count = plural("{count} exchange", "{count} exchanges", len(traffic.pasts))
    say.note(
        _("{count}, from {first} to {last} (UTC).").format(count=count, first=first, last=last)
    )
    tell_left_out(traffic.left_out)
    _explain_money(rows)
    for one in rows:
        _warn_of_gaps(one)
    _explain_quality(rows)


def _row(one: Replayed) -> tuple[str, ...]:
    asked = ", ".join(f"{name} {share:.1%}" for name, share in one.asks if share > 0)
    return (
        one.rule or _("as answered then"),
        f"{one.exchanges:,}",
        asked,
        f"{one.closed:.1%}",
        _money(one),
        _of_then(one),
        "-" if one.bill.money is None else f"{one.bill.estimated:,}",
        "-" if one.seconds is None else f"{one.seconds:.2f}",
        _agreement(one),
    )


def _money(one: Replayed) -> str:
    from daulat.values.money import PER_UNIT, shown

    if one.bill.money is None:
        return "-"
    if one.bill.estimated:
        return f"~{one.bill.money / PER_UNIT:.{_DIGITS}g}"
    return shown(one.bill.money)


def _of_then(one: Replayed) -> str:
    if one.bill.money is None or not one.then:
        return "-"
    mark = "~" if one.bill.estimated else ""
    return f"{mark}{one.bill.money / one.then:.1%}"


def _agreement(one: Replayed) -> str:
    from daulat.evaluate.audited import BY_DEFINITION

    found = one.agreement.estimate
    if found is None or found.value is None:
        return "-"
    if found.method == BY_DEFINITION:
        return _("all, by definition")
    audits = plural("{count} audit", "{count} audits", one.agreement.audits)
    return f"{found.value:.1%} ({found.low:.1%} - {found.high:.1%}), {audits}"


# --- what the figures do not say ------------------------------------------------------------------


def _explain_money(rows: Sequence[Replayed]) -> None:
    from daulat.evaluate.replaying import named

    if any(one.bill.estimated for one in rows if one.bill.money is not None):
        say.note(
            _(
                "~: estimated for so many exchanges, from today's prices, the recorded prompt and the mean "
                "length of that endpoint's answers, or else that of the answer given. All other costs are "
                "recorded."
            )
        )
    then = rows[0]
    if then.bill.money is None:
        say.warn(
            _("Of {count} exchanges nobody knows what they cost.").format(
                count=then.exchanges - then.bill.recorded
            )
        )
    unpriced = {named(target) for one in rows for target in one.bill.unpriced}
    for name in sorted(unpriced):
        say.warn(
            _(
                "Nobody says what {name} costs, so what needs it shows -. Set its prices in daulat.toml."
            ).format(name=name)
        )


def _warn_of_gaps(one: Replayed) -> None:
    if one.unseen:
        say.warn(
            _(
                "{rule}: {count} exchanges are left out, since it goes by an answer that the record does not "
                "have. They are no random sample: its row is about the others alone."
            ).format(rule=one.rule, count=f"{one.unseen:,}")
        )
    if one.barred and one.rule:
        say.warn(
            _(
                "{rule}: {count} exchanges are of a class that the policy keeps from an endpoint that it asks. "
                "Served, they would be refused or answered by somebody else."
            ).format(rule=one.rule, count=f"{one.barred:,}")
        )
    if one.lacking:
        say.warn(
            _(
                "{rule}: {count} exchanges are left out, since it goes by what the record does not have: "
                "{needs}. Its row is about the others alone."
            ).format(rule=one.rule, count=f"{one.lacking:,}", needs=", ".join(one.needs))
        )


def _explain_quality(rows: Sequence[Replayed]) -> None:
    then = rows[0].agreement
    known = any(one.agreement.estimate is not None for one in rows)
    if then.exchanges:
        say.note(
            _(
                "Agreement with the closed model is about the {exchanges} exchanges under certificates that "
                "were audited. Audits weigh by the inverse of their chance; intervals are of 95 %."
            ).format(exchanges=f"{then.exchanges:,}")
        )
    for one in rows[1:]:
        if one.agreement.unknown:
            say.note(
                _("{rule}: of {count} of its answers no audit tells how good they are.").format(
                    rule=one.rule, count=f"{one.agreement.unknown:,}"
                )
            )
    if not known:
        say.note(_("How good the answers were is not known from this traffic."))
    if not known or any(one.agreement.estimate is None for one in rows):
        say.note(
            _(
                "To measure it: `daulat task add NAME --from-record`, then `daulat compare NAME`, then "
                "`daulat route backtest NAME`."
            )
        )


# --- for programs ---------------------------------------------------------------------------------


def as_plain(traffic: Traffic, rows: Sequence[Replayed], currency: str) -> dict[str, Any]:
    """Replays as JSON; money as exact decimal numbers in texts."""
    return {
        "exchanges": len(traffic.pasts),
        "first": traffic.pasts[0].time,
        "last": traffic.pasts[-1].time,
        "left_out": dict(traffic.left_out),
        "currency": currency,
        "then": _plain(rows[0]),
        "rules": [_plain(one) for one in rows[1:]],
    }


def _plain(one: Replayed) -> dict[str, Any]:
    from daulat.evaluate.replaying import named
    from daulat.values.money import shown

    told = asdict(one)
    found, bill = one.agreement, one.bill
    return {
        **{
            key: told[key]
            for key in ("rule", "exchanges", "unseen", "lacking", "needs", "barred", "closed")
        },
        "asks": dict(one.asks),
        "cost": None if bill.money is None else shown(bill.money),
        "cost_then": None if one.then is None else shown(one.then),
        "recorded": bill.recorded,
        "estimated": bill.estimated,
        "unpriced": list(map(named, bill.unpriced)),
        "seconds": one.seconds,
        "agreement": {
            "estimate": None if found.estimate is None else asdict(found.estimate),
            "audits": found.audits,
            "exchanges": found.exchanges,
            "unknown": found.unknown,
        },
    }
