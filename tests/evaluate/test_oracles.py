"""Every figure of a comparison beside a slow, plain way to work it out: arithmetic, numpy, statsmodels."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from comparisons import GPT, LLAMA, MISTRAL, comparison
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from daulat.evaluate.answers import Answer
from daulat.evaluate.comparing import About, Cell, Comparison, Table, compare
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Score
from daulat.values.money import PER_UNIT
from daulat.values.request import Message

N, GROUPS, MARGIN = 240, 60, 0.03
NAMES = ("a", "b", "c")
CATEGORIES = ("law", "art", "physics")
ABOUT = About("0" * 12, "t", "sha256:0", {"name": "exact", "options": {}}, {}, "now", "USD")
QUALITY = {"a": 0.8, "b": 0.7, "c": 0.69}


def _cell(name: str, row: int, rng: np.random.Generator) -> Cell:
    drawn = rng.random()
    failed, refused = drawn < 0.05, drawn > 0.97
    answer = Answer(
        *(f"{name}{row}", str(row), name, 0, "failed" if failed else "answered", "x", "stop"),
        money=0 if failed else int(rng.lognormal(20, 1)),
        seconds=float(rng.lognormal()),
        time=0.0,
        prompt_tokens=int(rng.integers(1, 90)),
        completion_tokens=int(rng.integers(1, 90)),
    )
    return Cell(
        answer, None if failed else Score(0.0 if refused else float(rng.random() < QUALITY[name]))
    )


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(5)
    examples = tuple(
        Example(
            str(i),
            (Message("user", "word " * (i % 50)),),
            category=CATEGORIES[i // 4 % 3],
            cluster=f"g{i // (N // GROUPS)}",
        )
        for i in range(N)
    )
    return Table(NAMES, examples, tuple(tuple(_cell(n, i, rng) for n in NAMES) for i in range(N)))


@pytest.fixture(scope="module")
def found(table: Table) -> Comparison:
    return compare(table, ABOUT, {}, margin=MARGIN)


def _scores(table: Table, name: str) -> list[float | None]:
    return [cell.score.value if cell.score else None for cell in table.column(name)]


def _both(table: Table, a: str, b: str) -> list[tuple[int, float, float]]:
    """Row and both scores, where there are both."""
    rows = zip(_scores(table, a), _scores(table, b), strict=True)
    return [(i, x, y) for i, (x, y) in enumerate(rows) if x is not None and y is not None]


def _clustered(table: Table, rows: list[tuple[int, float, float]]) -> tuple[float, float]:
    """Mean difference and its cluster-robust standard error: regression on a constant alone."""
    apart = np.array([x - y for _i, x, y in rows])
    groups = np.array([int(table.examples[i].cluster[1:]) for i, _x, _y in rows])
    fit: Any = sm.OLS(apart, np.ones(len(apart))).fit(
        cov_type="cluster", cov_kwds={"groups": groups}
    )
    return float(fit.params[0]), float(fit.bse[0])


def _flipped(table: Table, rows: list[tuple[int, float, float]]) -> float:
    """Of 20,000 random signs of the clusters, the share that lies as far from zero as what was seen."""
    sums: Counter[str] = Counter()
    for i, x, y in rows:
        sums[table.examples[i].cluster] += x - y
    values = np.array(list(sums.values()))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(20_000, len(values)))
    return float(np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9))


def test_each_endpoint(table: Table, found: Comparison) -> None:
    for name, side in zip(NAMES, found.endpoints, strict=True):
        scores = [one for one in _scores(table, name) if one is not None]
        given = [cell.answer for cell in table.column(name) if cell.answer and cell.answer.final]
        money = [(one.money or 0) / PER_UNIT for one in given]
        assert side.score is not None
        assert side.score.value == pytest.approx(fmean(scores))
        assert side.score.low < fmean(scores) < side.score.high
        assert side.delivered is not None
        assert side.delivered.value == pytest.approx(sum(scores) / N)
        assert side.cost is not None
        assert side.cost.value == pytest.approx(fmean(money))
        assert side.cost_per_good is not None
        assert side.cost_per_good.value == pytest.approx(sum(money) / sum(scores))
        assert side.money == pytest.approx(sum(money))
        assert side.prompt_tokens == sum(one.prompt_tokens for one in given)
        assert side.completion_tokens == sum(one.completion_tokens for one in given)
        statuses = Counter(cell.answer.status for cell in table.column(name) if cell.answer)
        assert side.counts.failed == statuses["failed"] > 0
        assert side.counts.answered == statuses["answered"]


def test_percentiles_of_times(table: Table, found: Comparison) -> None:
    for name, side in zip(NAMES, found.endpoints, strict=True):
        seconds = [
            cell.answer.seconds for cell in table.column(name) if cell.answer and cell.answer.final
        ]
        assert side.seconds is not None
        for share, label in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
            told = side.seconds[label]
            assert told.value == pytest.approx(float(np.quantile(seconds, share)))
            assert told.low <= (told.value or 0) <= told.high


def test_each_pair(table: Table, found: Comparison) -> None:
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in found.pairs:
        rows = _both(table, pair.a, pair.b)
        wins, losses = sum(x > y for _i, x, y in rows), sum(x < y for _i, x, y in rows)
        ties = len(rows) - wins - losses
        told = pair.scores
        assert (told.wins, told.ties, told.losses) == (wins, ties, losses)
        assert told.beats.value == pytest.approx((wins + ties / 2) / len(rows))
        mean, error = _clustered(table, rows)
        assert told.difference.value == pytest.approx(mean)
        assert told.difference.error == pytest.approx(error, rel=0.02)
        assert told.above == pytest.approx(stats.t.cdf(mean / error, GROUPS - 1), abs=0.01)
        assert told.test.p == pytest.approx(_flipped(table, rows), abs=0.015)
        assert pair.kept.value == pytest.approx(
            fmean(x for _i, x, _y in rows) / fmean(y for _i, _x, y in rows)
        )
        assert pair.simultaneous is not None
        assert pair.simultaneous.confidence == pytest.approx(1 - 0.05 / 3)
        assert (
            pair.simultaneous.low
            < told.difference.low
            < told.difference.high
            < pair.simultaneous.high
        )


def test_costs_beside_each_other(table: Table, found: Comparison) -> None:
    for pair in found.pairs:
        columns = [table.column(name) for name in (pair.a, pair.b)]
        money = [
            [cell.answer.money if cell.answer and cell.answer.final else None for cell in cells]
            for cells in columns
        ]
        both = [(x, y) for x, y in zip(*money, strict=True) if x is not None and y is not None]
        assert pair.cost is not None
        assert pair.cost.value == pytest.approx(sum(x for x, _y in both) / sum(y for _x, y in both))
        assert pair.cost.low < (pair.cost.value or 0) < pair.cost.high


def test_pairs_and_slices_after_holm(table: Table, found: Comparison) -> None:
    raw = [pair.scores.test.p for pair in found.pairs]
    adjusted = multipletests(raw, method="holm")[1]
    assert [pair.adjusted for pair in found.pairs] == pytest.approx(list(adjusted))
    (division,) = [one for one in found.divisions if one.by == "category"]
    assert {part.name for part in division.parts} == set(CATEGORIES)
    for other, slices in division.against.items():
        wanted = multipletests([one.test.p for one in slices], method="holm")[1]
        assert [one.adjusted for one in slices] == pytest.approx(list(wanted))
        for one in slices:
            rows = [
                row
                for row in _both(table, "a", other)
                if table.examples[row[0]].category == one.name
            ]
            mean, error = _clustered(table, rows)
            assert one.difference.value == pytest.approx(mean)
            assert one.difference.error == pytest.approx(error, rel=0.05)
            assert (
                one.simultaneous.low
                <= one.difference.low
                <= one.difference.high
                <= one.simultaneous.high
            )
    for part in division.parts:
        here = [i for i in range(N) if table.examples[i].category == part.name]
        assert part.examples == len(here)
        for name in NAMES:
            scores = [s for i in here if (s := _scores(table, name)[i]) is not None]
            assert part.scores[name].value == pytest.approx(fmean(scores))


def test_parts_of_lengths_hold_a_third_each(table: Table, found: Comparison) -> None:
    (division,) = [one for one in found.divisions if one.by == "length"]
    lengths = [len(example.prompt) for example in table.examples]
    for part in division.parts:
        low, high = part.name.split("-")
        here = [n for n in lengths if int(low or 0) <= n <= int(high or 10**9)]
        assert part.examples == len(here)
        assert 0.2 < len(here) / N < 0.5
    begins = [int(part.name.partition("-")[0] or 0) for part in division.parts]
    assert begins == sorted(begins)
    assert sum(part.examples for part in division.parts) == N


def test_how_many_examples_it_takes() -> None:
    """Without clusters, statsmodels' power of a paired t test gives the same number; three pairs share 5 %."""
    found, alpha = comparison((LLAMA, GPT, MISTRAL), 400, margin=MARGIN), 0.05 / 3
    for pair in found.pairs:
        told = pair.scores.difference
        assert told.error is not None
        deviation = told.error * math.sqrt(told.n)
        for advice, apart in ((pair.wanted, MARGIN), (pair.advice, abs(told.value or 0))):
            assert advice is not None
            wanted = float(TTestPower().solve_power(apart / deviation, power=0.8, alpha=alpha))
            assert advice.needed == pytest.approx(wanted, abs=2, rel=0.01)
        assert pair.wanted is not None
        smallest = TTestPower().solve_power(nobs=told.n, power=0.8, alpha=alpha) * deviation
        assert pair.wanted.detectable == pytest.approx(smallest, rel=0.01)


def test_examples_that_differ_most_come_first(table: Table, found: Comparison) -> None:
    for one in found.contrasts:
        row = int(one.example)
        scores = [_scores(table, name)[row] for name in (one.a, one.b)]
        assert list(one.scores) == scores
        assert abs(one.scores[0] - one.scores[1]) == 1
    assert {(one.a, one.b) for one in found.contrasts} == {("a", "b"), ("a", "c")}
