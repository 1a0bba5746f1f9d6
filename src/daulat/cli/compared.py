"""How a comparison looks: sections of tables and remarks, for the terminal and as Markdown alike.

Not here: the figures (`evaluate.comparing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from daulat.cli import say
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.evaluate.comparing import Comparison, Contrast, Division, Pair, Side
    from daulat.statistics.samples import Estimate

_SIGNIFICANT: Final = 0.05
_MOST_PARTS: Final = 20
_EXCERPT: Final = 200


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title, with remarks below it. `right`: columns of figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()


def show(comparison: Comparison) -> None:
    """On the terminal: everything but the examples."""
    click.echo(_title(comparison))
    for section in sections(comparison):
        click.echo()
        echo(section)


def echo(section: Section) -> None:
    """A section on the terminal."""
    click.echo(click.style(section.title, bold=True))
    if section.rows:
        say.table(section.heads, section.rows, right=section.right)
    for remark in section.remarks:
        click.echo(say.plain(remark))


def markdown(comparison: Comparison) -> str:
    """As Markdown, with the examples on which endpoints differ most."""
    lines = [f"# {_title(comparison)}", ""]
    for section in sections(comparison):
        lines += [f"## {section.title}", ""]
        if section.rows:
            lines += [*_pipes(section), ""]
        lines += [line for remark in section.remarks for line in (_escaped(remark), "")]
    if comparison.contrasts:
        lines += [f"## {_('Examples that differ most')}", ""]
        for one in comparison.contrasts:
            lines += _contrast(one)
    return "\n".join(lines).rstrip() + "\n"


def sections(comparison: Comparison) -> Iterator[Section]:
    """What there is to say, in order."""
    from daulat.cli import judged

    if any(side.score for side in comparison.endpoints):
        yield _quality(comparison)
    if comparison.pairs:
        yield _differences(comparison)
    if comparison.judge:
        yield judged.judge(comparison.judge, comparison.about.currency)
    if comparison.people:
        yield judged.people(comparison.people)
    yield _costs(comparison)
    yield _times(comparison)
    yield _counts(comparison)
    for division in comparison.divisions:
        yield _division(comparison, division)


# --- sections -------------------------------------------------------------------------------------


def _title(comparison: Comparison) -> str:
    about = comparison.about
    examples = plural("{count} example", "{count} examples", comparison.examples)
    metric = about.metric["name"] or _("scores of the file")
    return f"{about.task}: {examples}, {metric} ({about.id})"


def _quality(comparison: Comparison) -> Section:
    failed = any(_failures(side) for side in comparison.endpoints)
    heads = [_("Endpoint"), _("Score"), _("95 % interval"), _("Examples")]
    if failed:
        heads.append(_("Failures as 0"))
    rows: list[tuple[str, ...]] = []
    for side in comparison.endpoints:
        row = [
            side.name,
            score(side.score),
            interval(side.score),
            str(side.score.n if side.score else 0),
        ]
        rows.append((*row, *([score(side.delivered)] if failed else [])))
    remarks = tuple(_caveats((side.name, side.score) for side in comparison.endpoints))
    if comparison.clusters < comparison.examples:
        text = plural("{count} cluster", "{count} clusters", comparison.clusters)
        remarks = (*remarks, _("Intervals count with {clusters}.").format(clusters=text))
    return Section(_("Quality"), tuple(heads), tuple(rows), tuple(range(1, len(heads))), remarks)


def _differences(comparison: Comparison) -> Section:
    heads = (
        *(_("First"), _("Second"), _("Difference"), _("95 % interval"), _("Wins"), _("Ties")),
        *(_("Losses"), _("First better: confidence"), _("p (Holm)")),
    )
    rows = [
        (
            *(pair.a, pair.b, signed(pair.scores.difference), interval(pair.scores.difference)),
            *(str(pair.scores.wins), str(pair.scores.ties), str(pair.scores.losses)),
            f"{100 * pair.scores.above:.1f} %",
            p_value(pair.adjusted),
        )
        for pair in comparison.pairs
    ]
    remarks = tuple(_verdict(pair) for pair in comparison.pairs)
    return Section(_("Differences"), heads, tuple(rows), tuple(range(2, 9)), remarks)


def _verdict(pair: Pair) -> str:
    found = pair.scores.difference
    if found.value is None:
        return _("{a} and {b}: no example has scores of both.").format(a=pair.a, b=pair.b)
    if pair.adjusted < _SIGNIFICANT and found.value:
        better, worse = (pair.a, pair.b) if found.value > 0 else (pair.b, pair.a)
        return _("{better} is better than {worse}.").format(better=better, worse=worse)
    text = _("{a} and {b} cannot be told apart by these examples.").format(a=pair.a, b=pair.b)
    advice = pair.advice
    if advice is None:
        return text
    if advice.needed is not None:
        more = _("If the difference is what it seems, about {count} examples would show it.")
        return f"{text} {more.format(count=f'{advice.needed:,}')}"
    if advice.detectable is not None:
        more = _("They would show a difference of {points}.")
        return f"{text} {more.format(points=f'{advice.detectable:.3f}')}"
    return text


def _costs(comparison: Comparison) -> Section:
    currency = comparison.about.currency
    heads = (
        *(
            _("Endpoint"),
            _("An answer"),
            _("95 % interval"),
            _("A good answer"),
            _("95 % interval"),
        ),
        *(_("In all"), _("Prompt tokens"), _("Answer tokens")),
    )
    rows = [
        (
            *(side.name, _cost(side.cost), _cost_range(side.cost)),
            *(_cost(side.cost_per_good), _cost_range(side.cost_per_good), money(side.money)),
            *(f"{side.prompt_tokens:,}", f"{side.completion_tokens:,}"),
        )
        for side in comparison.endpoints
    ]
    title = _("Costs in {currency}").format(currency=currency)
    return Section(title, heads, tuple(rows), tuple(range(1, 8)), tuple(_cost_remarks(comparison)))


def _cost_remarks(comparison: Comparison) -> Iterator[str]:
    for side in comparison.endpoints:
        if side.unpriced:
            text = plural("{count} answer", "{count} answers", side.unpriced)
            yield _("{name}: nobody said what {answers} cost.").format(name=side.name, answers=text)
        if side.counted:
            text = plural("{count} answer", "{count} answers", side.counted)
            yield _("{name}: the tokens of {answers} are our own count.").format(
                name=side.name, answers=text
            )
    about = comparison.about
    if about.spent is not None and about.budget is not None:
        yield _("Spent {spent} of {budget}.").format(spent=about.spent, budget=about.budget)


def _times(comparison: Comparison) -> Section:
    heads = (
        *(_("Endpoint"), _("First token, median"), _("90 %"), _("99 %")),
        *(_("Answer, median"), _("90 %"), _("99 %")),
    )
    rows = [
        (side.name, *_seconds(side.first_seconds), *_seconds(side.seconds))
        for side in comparison.endpoints
    ]
    at_once = comparison.about.how.get("concurrency")
    remark = _("With {count} examples at a time.").format(count=at_once)
    remarks = (remark,) if any(side.identity for side in comparison.endpoints) else ()
    return Section(_("Seconds"), heads, tuple(rows), tuple(range(1, 7)), remarks)


def _counts(comparison: Comparison) -> Section:
    heads = (
        *(_("Endpoint"), _("Answered"), _("Cut short"), _("Refused"), _("Kept back by the policy")),
        *(_("Errors"), _("Not asked yet")),
    )
    rows = [
        (
            side.name,
            *(str(n) for n in (side.counts.answered, side.counts.cut, side.counts.refused)),
            *(str(n) for n in (side.counts.barred, side.counts.failed, side.counts.missing)),
        )
        for side in comparison.endpoints
    ]
    remarks = tuple(_count_remarks(comparison))
    return Section(_("Answers"), heads, tuple(rows), tuple(range(1, 7)), remarks)


def _count_remarks(comparison: Comparison) -> Iterator[str]:
    for side in comparison.endpoints:
        if side.errors:
            codes = ", ".join(f"{count} x {code}" for code, count in side.errors.items())
            yield f"{side.name}: {codes}"
        if side.counts.cut:
            yield _(
                "{name}: answers were cut at {count} tokens; --max-tokens allows longer ones."
            ).format(name=side.name, count=comparison.about.how.get("max_tokens"))
        if side.counts.redacted:
            text = plural("{count} prompt", "{count} prompts", side.counts.redacted)
            yield _("{name}: what was found in {prompts} was replaced before it was sent.").format(
                name=side.name, prompts=text
            )


def _division(comparison: Comparison, division: Division) -> Section:
    titles = {
        "category": _("By category"),
        "language": _("By language"),
        "length": _("By length of the prompt, in characters"),
    }
    names = [side.name for side in comparison.endpoints]
    others = list(division.against)
    heads = (
        *(_("Part"), _("Examples"), *names),
        *(_("{a} less {b}, p (Holm)").format(a=names[0], b=other) for other in others),
    )
    told = {other: {one.name: one for one in division.against[other]} for other in others}
    parts = sorted(division.parts, key=lambda part: -part.examples)[:_MOST_PARTS]
    rows: list[tuple[str, ...]] = []
    for part in sorted(parts, key=lambda part: part.name):
        slices = [told[other][part.name] for other in others]
        rows.append(
            (
                *(part.name, str(part.examples)),
                *(f"{score(part.scores[name])} {interval(part.scores[name])}" for name in names),
                *(f"{signed(one.difference)}, {p_value(one.adjusted)}" for one in slices),
            )
        )
    left = len(division.parts) - len(rows)
    remarks = (
        (_("{count} smaller ones are in report.json.").format(count=left),) if left > 0 else ()
    )
    title = titles.get(division.by, division.by)
    return Section(title, heads, tuple(rows), tuple(range(1, len(heads))), remarks)


def _contrast(one: Contrast) -> list[str]:
    lines = [f"### {_escaped(one.example)}", "", *_quoted(one.prompt), ""]
    if one.references:
        lines += [
            _("Right: {text}").format(text=_escaped(" | ".join(one.references)[:_EXCERPT])),
            "",
        ]
    for name, answer, value in zip((one.a, one.b), one.answers, one.scores, strict=True):
        lines += [f"**{_escaped(name)}**: {value:g}", "", *_quoted(answer), ""]
    return lines


# --- words ----------------------------------------------------------------------------------------


def _failures(side: Side) -> int:
    return side.counts.failed + side.counts.barred


def _caveats(found: Iterator[tuple[str, Estimate | None]]) -> Iterator[str]:
    words = {
        "one example": _("one example only"),
        "all examples are of one cluster": _("all examples are of one cluster"),
        "all values are equal": _(
            "all scores are equal: the interval says how many could be others"
        ),
        "few clusters, or a few that outweigh the others": _(
            "few clusters, or a few that outweigh the others: the interval is a rough one"
        ),
    }
    for name, one in found:
        if one is not None and one.caveat:
            yield f"{name}: {words.get(one.caveat, one.caveat)}."


def score(found: Estimate | None) -> str:
    """A score to three decimals."""
    return "-" if found is None or found.value is None else f"{found.value:.3f}"


def signed(found: Estimate | None) -> str:
    """A difference with its sign."""
    return "-" if found is None or found.value is None else f"{found.value:+.3f}"


def interval(found: Estimate | None) -> str:
    """The interval of a score or a difference."""
    if found is None or found.value is None:
        return "-"
    return f"[{found.low:.3f}, {found.high:.3f}]"


def p_value(p: float) -> str:
    """Small ones as a bound."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def money(value: float) -> str:
    """An amount with as many decimals as it needs for two or three figures."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.2f}"
    decimals = min(12, max(2, 2 - math.floor(math.log10(value))))
    return f"{value:.{decimals}f}"


def _cost(found: Estimate | None) -> str:
    return "-" if found is None or found.value is None else money(found.value)


def _cost_range(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "-"
    high = money(found.high) if math.isfinite(found.high) else "\u221e"
    return f"[{money(found.low)}, {high}]"


def _seconds(found: Mapping[str, Estimate] | None) -> tuple[str, str, str]:
    if found is None:
        return ("-", "-", "-")
    first, second, third = (
        f"{one.value:.2f}" if one.value is not None else "-" for one in found.values()
    )
    return (first, second, third)


def _pipes(section: Section) -> list[str]:
    rules = ["---:" if i in section.right else "---" for i in range(len(section.heads))]
    rows: Sequence[Sequence[str]] = (section.heads, rules, *section.rows)
    return [
        "| " + " | ".join(_escaped(cell) if i != 1 else cell for cell in row) + " |"
        for i, row in enumerate(rows)
    ]


def _escaped(text: str) -> str:
    """Text that is no Markdown, whatever is in it."""
    plain = say.plain(text).replace("\n", " ")
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in plain)


def _quoted(text: str) -> list[str]:
    """A text as it stands, in a block that it cannot end."""
    lines = say.plain(text).split("\n")
    return [f"    {line}" for line in lines]
