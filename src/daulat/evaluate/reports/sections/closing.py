"""The small print: how figures were made, and with what, so that it can be done again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from daulat import __version__
from daulat.evaluate.comparing import Side
from daulat.evaluate.reports.page import Section
from daulat.evaluate.reports.telling import Teller, margin, metric
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Estimate


def method(teller: Teller) -> Section:
    """Which formulas, and what they rest on."""
    comparison, say, figures = teller.comparison, teller.say, teller.figures
    level = figures.percent(comparison.confidence, 0)
    told = [
        say(
            "Intervals have a confidence of {level}: of a hundred such intervals, about {count} "
            "miss the truth.",
            level=level,
            count=figures.number(100 * (1 - comparison.confidence)),
        ),
        *_methods(teller),
        say(
            "As good: the whole interval of the difference lies within ±{points} points. Better: "
            "it leaves out zero, and the p-value is below {alpha}. Not worse: it lies above "
            "minus {points} points. Everything else cannot be told.",
            points=margin(teller),
            alpha=figures.number(1 - comparison.confidence, 2),
        ),
    ]
    if comparison.clusters < comparison.examples:
        told.append(
            say(
                "Examples of one document or session are not independent: all intervals and tests "
                "go by these groups."
            )
        )
    if len(comparison.pairs) > 1:
        told.append(
            say(
                "Many questions of the same data find something by chance: intervals of "
                "differences hold for all pairs at once (Bonferroni), p-values are adjusted (Holm)."
            )
        )
    if any(one.corrected for one in comparison.endpoints) or any(
        one.corrected for one in comparison.pairs
    ):
        told.append(
            say(
                "Scores by people and judge: the judge's scores of all examples, corrected by "
                "people's labels of some (prediction-powered inference)."
            )
        )
    told.append(
        say(
            "Formulas, sources and what each assumes: docs/statistics.md of Daulat {version}.",
            version=__version__,
        )
    )
    return Section("method", say("How this was worked out"), lead=tuple(told), prominence="small")


def _methods(teller: Teller) -> list[str]:
    """The names of what was used."""
    comparison, say = teller.comparison, teller.say
    pairs = comparison.pairs
    costs = [e for one in comparison.endpoints for e in (one.cost, one.cost_per_good)]
    seconds = [e for one in comparison.endpoints for e in (one.seconds or {}).values()]
    found = (
        (say("Mean scores"), _named(one.score for one in comparison.endpoints)),
        (
            say("Differences"),
            _named(one.scores.difference for one in pairs),
        ),
        (
            say("Tests"),
            tuple(dict.fromkeys(one.scores.test.method for one in pairs)),
        ),
        (say("Costs"), _named(costs)),
        (say("Times"), _named(seconds)),
    )
    told = [f"{what}: {', '.join(names)}" for what, names in found if names]
    return [". ".join(told) + "."] if told else []


def _named(found: Iterable[Estimate | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.method for one in found if one is not None))


def settings(teller: Teller) -> Section:
    """With what it was asked, and digests."""
    about, say = teller.comparison.about, teller.say
    pairs = [
        (say("Task"), f"{about.task} · {about.digest}"),
        (say("Metric"), metric(teller.comparison) or _unnamed(teller)),
        *([(say("Judge"), teller.comparison.judge)] if teller.comparison.judge else []),
        (say("Made"), time(about.created)),
        *_how(about.how, say),
        *(
            [(say("Budget, {currency}", currency=about.currency), about.budget)]
            if about.budget
            else []
        ),
        *(
            [(say("Spent, {currency}", currency=about.currency), about.spent)]
            if about.spent
            else []
        ),
        (say("Comparison"), about.id),
        *((one.name, _endpoint(one, say)) for one in teller.comparison.endpoints),
    ]
    return Section(
        "settings", say("What was asked, and of whom"), pairs=tuple(pairs), prominence="small"
    )


def _how(how: Mapping[str, Any], say: Words) -> list[tuple[str, str]]:
    """How endpoints were asked; a setting that has no words stands as it is."""
    words = {
        "max_tokens": say("Longest answer, tokens"),
        "temperature": say("Temperature"),
        "seed": say("Seed"),
        "samples": say("Further samples"),
        "samples_of": say("Samples of"),
        "sample_temperature": say("Temperature of samples"),
        "concurrency": say("Examples at a time"),
        "limit": say("Examples drawn"),
    }
    kept = {name: value for name, value in how.items() if value not in (None, [], ())}
    if not kept.get("samples"):
        kept = {name: value for name, value in kept.items() if not name.startswith("sample")}
    kept.pop("endpoints", None)
    return [(words.get(name, name), _shown(value)) for name, value in kept.items()]


def _unnamed(teller: Teller) -> str:
    scored = any(one.score for one in teller.comparison.endpoints)
    return teller.say("scores of the file") if scored else teller.say("none")


def _shown(value: Any) -> str:
    """A setting as people read it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, cast("list[Any]", value)))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _endpoint(one: Side, say: Words) -> str:
    """Where it is and what stood behind its name."""
    parts = [part for part in (one.place, *one.identity) if part]
    return " · ".join(parts) or say("answers came with the file")


def time(when: str) -> str:
    """ISO 8601 as people write it."""
    return when[:16].replace("T", " ") + " UTC" if when[19:20] in ("Z", ".", "+") else when
