"""Measures how often each interval covers the truth, and how often each test errs, against what they promise.

Examples are drawn from populations with known truths (benchmarks/populations.py), thousands of times; every
method that is for such a question answers. To add a method, add a row to METHODS.

    python benchmarks/coverage.py [--trials 4000] [--only WORD] [--processes 2]

Writes benchmarks/results/coverage.json and the tables in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

if __name__ == "coverage":
    # numba looks for the package of this name, and every benchmark has this folder in its path.
    raise ImportError("this is a benchmark, not the package that measures tests")

import numpy as np
from common import RESULTS
from populations import GROUPED, POPULATIONS, Draw, Population
from rich.progress import Progress
from start import write_table

from daulat.statistics import (
    bootstrap,
    intervals,
    multiple,
    paired,
    percentiles,
    ratios,
    significance,
)
from daulat.statistics.bradley_terry import bradley_terry
from daulat.statistics.prediction_powered import corrected_mean
from daulat.statistics.preferences import both_orders
from daulat.statistics.samples import Estimate

CONFIDENCE = 0.95
SIZES = (20, 100, 500)
DRAWS = 1000
"""Of each bootstrap and permutation test in here."""
KINDS: Mapping[str, str] = {
    "mean": "Mean of scores",
    "difference": "Difference of two endpoints, paired",
    "beats": "Chance that a beats b",
    "null": "Tests where there is no difference: share not rejected at 5 %",
    "slices": "Ten slices at once: none rejected, or all covered",
    "percentile": "Percentiles",
    "ratio": "Cost per good answer",
    "bias": "Position bias, both orders",
    "strength": "Bradley-Terry: strength of the strongest",
    "judged": "Mean from few human labels and a judge",
}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to answer a kind of question.

    Attributes:
        answer: from a draw to an estimate whose interval should cover the truth; an interval as a pair; a
            p-value of what is true (it should not be below 0.05); or whether all of several held.
        needs: marks that a population must have.
        share: of the trials; less for slow methods.
    """

    name: str
    kind: str
    answer: Callable[[Draw], Estimate | tuple[float, float] | float | bool]
    needs: frozenset[str] = field(default_factory=frozenset)
    share: float = 1.0


BINARY = frozenset({"binary", "alone"})


def _proportion(exact: bool) -> Callable[[Draw], Estimate]:
    return lambda draw: intervals.proportion(draw["a"].sum(), len(draw["a"]), exact=exact)


def _paired(draw: Draw) -> Estimate:
    return paired.difference(draw["a"], draw["b"], clusters=draw.clusters)


def _paired_t(draw: Draw, clusters: bool = True) -> Estimate:
    apart = draw["a"] - draw["b"]
    return intervals.mean(apart, clusters=draw.clusters if clusters else None, bounds=(-1.0, 1.0))


def _beats(draw: Draw) -> Estimate:
    return paired.compare(draw["a"], draw["b"], clusters=draw.clusters, flips=100).beats


def _flips(draw: Draw) -> float:
    return significance.sign_flips(draw["a"], draw["b"], clusters=draw.clusters, flips=DRAWS).p


def _direction(draw: Draw) -> float:
    told = paired.above(draw["a"] - draw["b"], clusters=draw.clusters)
    return 2 * min(told, 1 - told)


def _slices(draw: Draw) -> tuple[multiple.Slice, ...]:
    return multiple.by_slice(draw["a"], draw["b"], list(draw["slices"]), flips=DRAWS)


def _percentile(draw: Draw) -> Estimate:
    return percentiles.percentile(draw["a"], float(draw["share"][0]), clusters=draw.clusters)


def _ratio(method: ratios.Method) -> Callable[[Draw], Estimate]:
    return lambda draw: ratios.ratio(
        draw["above"], draw["below"], clusters=draw.clusters, method=method, draws=DRAWS
    )


def _strength(draw: Draw) -> Estimate:
    rows = bradley_terry(draw["left"], draw["right"], draw["a"], clusters=draw.clusters)
    return next(row.strength for row in rows if row.name == "0")


def _judged(tuned: bool) -> Callable[[Draw], Estimate]:
    return lambda draw: (
        corrected_mean(draw["labels"], draw["judge"], clusters=draw.clusters, tuned=tuned).estimate
    )


METHODS: Sequence[Method] = (
    Method("Wilson", "mean", _proportion(False), BINARY),
    Method("Clopper-Pearson", "mean", _proportion(True), BINARY),
    Method("score (reports)", "mean", lambda d: intervals.score(d["a"], clusters=d.clusters)),
    Method("t, CR2", "mean", lambda d: intervals.mean(d["a"], clusters=d.clusters)),
    Method(
        "t, CR1",
        "mean",
        lambda d: intervals.mean(d["a"], clusters=d.clusters, correction="CR1"),
        GROUPED,
    ),
    Method("t, clusters ignored", "mean", lambda d: intervals.mean(d["a"]), GROUPED),
    Method(
        "BCa bootstrap",
        "mean",
        lambda d: bootstrap.bootstrap_mean(d["a"], clusters=d.clusters, draws=DRAWS),
        share=0.25,
    ),
    Method("difference (reports)", "difference", _paired),
    Method("t, CR2", "difference", _paired_t),
    Method("t, clusters ignored", "difference", lambda d: _paired_t(d, clusters=False), GROUPED),
    Method("beats (reports)", "beats", _beats),
    Method("sign flips", "null", _flips, share=0.5),
    Method("above, two-sided", "null", _direction),
    Method("McNemar, exact", "null", lambda d: significance.mcnemar(d["a"], d["b"]).p, BINARY),
    Method("McNemar, mid-p", "null", lambda d: significance.mcnemar(d["a"], d["b"]).mid_p, BINARY),
    Method("no adjustment", "slices", lambda d: min(s.test.p for s in _slices(d)), share=0.1),
    Method("Holm", "slices", lambda d: min(s.adjusted for s in _slices(d)), share=0.1),
    Method(
        "Bonferroni intervals",
        "slices",
        lambda d: all(0.0 in s.simultaneous for s in _slices(d)),
        share=0.1,
    ),
    Method("order statistics", "percentile", _percentile),
    Method("Fieller", "ratio", _ratio("fieller")),
    Method("delta method", "ratio", _ratio("delta")),
    Method("BCa bootstrap", "ratio", _ratio("bootstrap"), share=0.25),
    Method("both orders", "bias", lambda d: both_orders(d["first"], d["second"]).bias),
    Method("sandwich", "strength", _strength, share=0.5),
    Method("prediction-powered, tuned", "judged", _judged(True)),
    Method("prediction-powered", "judged", _judged(False)),
    Method(
        "human labels alone",
        "judged",
        lambda d: corrected_mean(d["labels"], d["judge"], clusters=d.clusters).labels_only,
    ),
    Method(
        "judge alone",
        "judged",
        lambda d: corrected_mean(d["labels"], d["judge"], clusters=d.clusters).judge_only,
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """How one method did on one population at one size."""

    kind: str
    method: str
    population: str
    n: int
    trials: int
    held: int
    width: float | None

    @property
    def share(self) -> float:
        return self.held / self.trials

    @property
    def error(self) -> float:
        """Standard error of the share if the nominal level were true."""
        return math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / self.trials)


def held(
    answer: Estimate | tuple[float, float] | float | bool, truth: float
) -> tuple[bool, float | None]:
    """Whether an answer was right, and how wide its interval is."""
    if isinstance(answer, bool):
        return answer, None
    if isinstance(answer, float):
        return bool(answer > 1 - CONFIDENCE), None
    low, high = (answer.low, answer.high) if isinstance(answer, Estimate) else answer
    return bool(low <= truth <= high), float(high - low)


def fitting(population: Population, methods: Sequence[Method] = METHODS) -> list[Method]:
    """Methods for a population's kind of question."""
    return [m for m in methods if m.kind == population.kind and m.needs <= population.marks]


def measure(population: Population, n: int, trials: int) -> list[Measured]:
    """Each fitting method on the same draws; the same draws each time."""
    generator = np.random.default_rng([zlib.crc32(population.name.encode()), n])
    methods = fitting(population)
    wanted = [max(1, round(trials * method.share)) for method in methods]
    results: list[list[tuple[bool, float | None]]] = [[] for _method in methods]
    for trial in range(max(wanted)):
        drawn = population.draw(generator, n)
        for method, most, told in zip(methods, wanted, results, strict=True):
            if trial < most:
                told.append(held(method.answer(drawn), population.truth))
    return [
        _measured(population, method, n, told)
        for method, told in zip(methods, results, strict=True)
    ]


def _measured(
    population: Population, method: Method, n: int, told: list[tuple[bool, float | None]]
) -> Measured:
    widths = [width for _held, width in told if width is not None and math.isfinite(width)]
    return Measured(
        population.kind,
        method.name,
        population.name,
        n,
        len(told),
        sum(one for one, _width in told),
        float(np.mean(widths)) if widths else None,
    )


def run(populations: Sequence[Population], trials: int, processes: int) -> list[Measured]:
    """All populations at all sizes, in processes."""
    tasks = [(POPULATIONS.index(one), n) for one in populations for n in SIZES]
    found: dict[tuple[int, int], list[Measured]] = {}
    with ProcessPoolExecutor(processes) as pool, Progress() as progress:
        bar = progress.add_task("coverage", total=len(tasks))
        waiting = {pool.submit(_task, *task, trials): task for task in tasks}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            progress.advance(bar)
    return [one for task in tasks for one in found[task]]


def _task(index: int, n: int, trials: int) -> list[Measured]:
    return measure(POPULATIONS[index], n, trials)


def tables(rows: Iterable[Measured], facts: str) -> str:
    """A table for each kind of question."""
    grouped: dict[str, dict[tuple[str, str], dict[int, Measured]]] = {}
    for row in rows:
        cells = grouped.setdefault(row.kind, {}).setdefault((row.population, row.method), {})
        cells[row.n] = row
    parts = [_table(KINDS.get(kind, kind), cells) for kind, cells in grouped.items()]
    return "\n\n".join([*parts, facts])


def _table(title: str, rows: Mapping[tuple[str, str], Mapping[int, Measured]]) -> str:
    head = " | ".join(f"n = {n}" for n in SIZES)
    lines = [
        f"**{title}**",
        "",
        f"| population | method | {head} |",
        "|---|---|" + "---|" * len(SIZES),
    ]
    for (population, method), cells in rows.items():
        told = " | ".join(_cell(cells[n]) if n in cells else "" for n in SIZES)
        lines.append(f"| {population} | {method} | {told} |")
    return "\n".join(lines)


def _cell(one: Measured) -> str:
    """In percent, with the mean width; bold where it is below the nominal level by 3 standard errors."""
    share = f"{one.share:.1%}"
    if one.share < CONFIDENCE - 3 * one.error:
        share = f"**{share}**"
    return share if one.width is None else f"{share} ({one.width:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the coverage of intervals and tests.")
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--only", default="", help="populations whose kind or name has this word")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [one for one in POPULATIONS if options.only in f"{one.kind} {one.name}"]
    began = time.monotonic()
    rows = run(chosen, max(100, options.trials), options.processes)
    facts = (
        f"{time.strftime('%Y-%m-%d')}; {options.trials:,} trials (fewer for resampling), nominal 95 %; "
        f"numpy {version('numpy')}, scipy {version('scipy')}; {time.monotonic() - began:.0f} s with "
        f"{options.processes} processes."
    )
    text = tables(rows, facts)
    print(text)
    if options.only:
        return
    result: dict[str, Any] = {
        "facts": facts,
        "confidence": CONFIDENCE,
        "measured": [{**_plain(row), "share": round(row.share, 5)} for row in rows],
    }
    RESULTS.joinpath("coverage.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    write_table("coverage", text)


def _plain(row: Measured) -> dict[str, Any]:
    width = None if row.width is None else float(f"{row.width:.6g}")
    return {
        "kind": row.kind,
        "method": row.method,
        "population": row.population,
        "n": row.n,
        "trials": row.trials,
        "held": row.held,
        "width": width,
    }


if __name__ == "__main__":
    main()
