"""How routers and replays look: tables, and JSON for other programs.

Not here: the commands (`route`), the figures (`route.learning`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.route.learning.backtest import Curved, Replay
    from daulat.route.learning.curves import Figures, Interval
    from daulat.route.learning.router import Point, Router
    from daulat.statistics.samples import Estimate

_KEEP = (0.9, 0.95, 0.99)
_SHOWN = 5


def show(name: str, router: Router, *, kept: bool = True) -> None:
    """A router with what it did in cross-validation."""
    on = router.fitted_on
    rows = [
        (_("Router"), name if kept else _("{name} (not kept)").format(name=name)),
        (_("Decides"), _mode(router)),
        (_("Endpoints"), " < ".join(router.endpoints)),
        (_("Learnt from"), _labels(router)),
        *([(_("Needs besides"), _given(router))] if router.given else []),
        (_("Model"), router.candidates[0][0] if router.candidates else _("the mean scores")),
        (_("Digest"), router.digest()),
    ]
    say.pairs([*rows, *_figures(router)])
    if on.left_out:
        say.note(
            _("{count} examples without a score of every endpoint were left out.").format(
                count=on.left_out
            )
        )
    if not router.curve:
        say.warn(
            _("Too few examples to cross-validate: it knows the mean scores alone. Add examples.")
        )
        return
    click.echo()
    _show_dial(router)


def _mode(router: Router) -> str:
    if router.mode == "before":
        return _("before anything is asked, from the prompt")
    return _("after {name} has answered, from prompt and answer").format(name=router.endpoints[0])


def _given(router: Router) -> str:
    """What its examples had beside a prompt and an answer."""
    words = {
        "category": _("the category"),
        "logprob": _("log-probabilities"),
        "samples": _("further answers"),
        "probe": _("hidden states"),
    }
    return ", ".join(words[one] for one in router.given)


def _labels(router: Router) -> str:
    on = router.fitted_on
    return _("{labels} of {examples} examples, {groups} independent").format(
        labels=f"{on.labels:,}", examples=f"{on.examples:,}", groups=f"{on.groups:,}"
    )


def _figures(router: Router) -> list[tuple[str, str]]:
    return [] if router.figures is None else _of_curve(router.figures)


def _of_curve(found: Figures) -> list[tuple[str, str]]:
    return [
        ("APGR", _interval(found.apgr, "{:.3f}")),
        ("CPT 50 %", _interval(found.cpt50, "{:.1f} %")),
        ("CPT 80 %", _interval(found.cpt80, "{:.1f} %")),
        (_("Calls for 95 %"), _interval(found.keep95, "{:.1f} %")),
    ]


def _interval(one: Interval, form: str) -> str:
    if math.isnan(one.value):
        return _("not defined: the dearer endpoint is not better")
    if math.isnan(one.low):
        return form.format(one.value)
    return f"{form.format(one.value)} ({form.format(one.low)} - {form.format(one.high)})"


def _show_dial(router: Router) -> None:
    """Settings that kept some quality, from the cross-validated curve."""
    dear = router.curve[-1].quality
    points = [(_("cheapest"), router.curve[0])]
    for part in _KEEP:
        level = router.level_keeping(part)
        if not math.isnan(level):
            points.append((f"{part:.0%}", _at(router, level)))
    points.append((_("dearest"), router.curve[-1]))
    heads = (_("Keep"), _("Level"), _("Leaves the cheapest"), _("Quality"), _("Of the dearest"))
    heads = (*heads, _("Cost"), _("Seconds"))
    rows = [(name, *_row(point, dear)) for name, point in points]
    say.table(heads, rows, right=range(1, len(heads)))
    say.note(
        _("In cross-validation, an estimate: `daulat certify` says what is sure."),
    )


def _at(router: Router, level: float) -> Point:
    return min(router.curve, key=lambda point: abs(point.level - level))


def _row(point: Point, dear: float) -> tuple[str, ...]:
    return (
        f"{point.level:.2f}",
        f"{point.share:.1%}",
        f"{point.quality:.3f}",
        f"{point.quality / dear:.1%}" if dear > 0 else "-",
        _number(point.cost),
        _number(point.seconds),
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def show_all(found: Sequence[tuple[str, Router]]) -> None:
    """One line a router."""
    heads = (_("Router"), _("Decides"), _("Endpoints"), _("Examples"), _("Model"))
    modes = {"before": _("before"), "cascade": _("cascade")}
    rows = [
        (
            name,
            modes[router.mode],
            " < ".join(router.endpoints),
            f"{router.fitted_on.labels:,}",
            router.candidates[0][0] if router.candidates else "-",
        )
        for name, router in found
    ]
    say.table(heads, rows, right=(3,))


def as_plain(name: str, router: Router) -> dict[str, Any]:
    """A router's figures, without the numbers that it computes with."""
    return {
        "name": name,
        "digest": router.digest(),
        "mode": router.mode,
        "endpoints": list(router.endpoints),
        "prices": router.prices.tolist(),
        "encoder": router.encoder,
        "given": list(router.given),
        "fitted_on": asdict(router.fitted_on),
        "candidates": [{"name": one, "explained": share} for one, share in router.candidates],
        "figures": None if router.figures is None else _plain(asdict(router.figures)),
        "curve": [_plain(asdict(point)) for point in router.curve],
        "keep": {f"{part:g}": _known(router.level_keeping(part)) for part in _KEEP},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return _known(value) if isinstance(value, float) else value


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- replays --------------------------------------------------------------------------------------


def show_replays(found: Sequence[Replay], whole: Curved | None, currency: str) -> None:
    """A row for each rule, below the figures of the router's whole dial."""
    if whole is not None:
        say.pairs(_of_curve(whole.figures))
        click.echo()
    heads = (
        *(_("Rule"), _("Quality"), _("Kept of {name}").format(name=found[0].reference)),
        *(_("Asked"), _("{currency} each").format(currency=currency), _("Of its cost")),
        *(_("Seconds"), _("p95")),
    )
    say.table(heads, [_replay_row(one) for one in found], right=range(1, len(heads)))
    first = found[0]
    say.note(
        _("{count} examples; intervals of 95 %, paired and clustered.").format(
            count=f"{first.examples:,}"
        )
    )
    if any(one.left_out for one in found):
        say.warn(
            _("Up to {count} examples without a score that a rule needs were left out.").format(
                count=max(one.left_out for one in found)
            )
        )


def _replay_row(one: Replay) -> tuple[str, ...]:
    asked = ", ".join(f"{name} {share:.1%}" for name, share in one.asks if share > 0)
    other = dict(one.asks)[one.reference] < 1 or sum(share for _name, share in one.asks) > 1
    return (
        one.rule,
        _estimate(one.quality, "{:.3f}", 1),
        _estimate(one.kept, "{:.1f} %", 100, ends=other),
        asked,
        _estimate(one.cost, "{:.4g}", 1),
        _estimate(one.spending, "{:.1f} %", 100, ends=other),
        _estimate(one.seconds, "{:.2f}", 1, ends=False),
        _estimate(one.slow, "{:.2f}", 1, ends=False),
    )


def _estimate(one: Estimate | None, form: str, scale: float, *, ends: bool = True) -> str:
    if one is None or one.value is None:
        return "-"
    value = form.format(one.value * scale)
    if not ends or not (math.isfinite(one.low) and math.isfinite(one.high)):
        return value
    return f"{value} ({form.format(one.low * scale)} - {form.format(one.high * scale)})"


def replays_as_plain(found: Sequence[Replay], whole: Curved | None) -> dict[str, Any]:
    """Replays as JSON, with the figures of the router's whole dial."""
    return {
        "router": None if whole is None else _plain(asdict(whole)),
        "rules": [_replay_as_plain(one) for one in found],
    }


def _replay_as_plain(one: Replay) -> dict[str, Any]:
    plain = _plain(asdict(one))
    return {**plain, "answers": dict(one.answers), "asks": dict(one.asks)}
