"""Intervals cover as often as they say: small simulations; benchmarks/coverage.py has the large ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import populations
import pytest
import scipy.stats


def _benchmark() -> ModuleType:
    """benchmarks/coverage.py, which has the name of a package that others look for."""
    place = Path(populations.__file__).with_name("coverage.py")
    spec = importlib.util.spec_from_file_location("benchmark_of_coverage", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


coverage = _benchmark()

TRIALS = 300
UNLIKELY = 1e-4
"""A method that holds what it promises fails here less often than this."""
HONEST = {
    "mean": {"Clopper-Pearson", "score (reports)"},
    "difference": {"difference (reports)"},
    "beats": {"beats (reports)"},
    "null": {"sign flips", "McNemar, exact"},
    "slices": {"Holm", "Bonferroni intervals"},
    "percentile": {"order statistics"},
    "ratio": {"Fieller"},
    "bias": {"both orders"},
    "strength": {"sandwich"},
    "judged": {"prediction-powered, tuned", "prediction-powered", "human labels alone"},
}
SLACK = 0.015
"""Approximate intervals may cover so much less often than they say, at n = 100."""


@pytest.mark.parametrize(
    "population", populations.POPULATIONS, ids=lambda one: f"{one.kind}: {one.name}"
)
def test_what_reports_show_covers(population: populations.Population) -> None:
    for row in coverage.measure(population, 100, TRIALS):
        if row.method not in HONEST[row.kind]:
            continue
        least = coverage.CONFIDENCE - SLACK
        chance = scipy.stats.binom.cdf(row.held, row.trials, least)
        assert chance > UNLIKELY, f"{row.method}: {row.held} of {row.trials}"


def test_a_method_that_ignores_clusters_is_caught() -> None:
    rows = coverage.measure(populations.clustered(0.7), 100, TRIALS)
    naive = next(row for row in rows if row.method == "t, clusters ignored")
    assert scipy.stats.binom.cdf(naive.held, naive.trials, 0.9) < UNLIKELY


def test_a_judge_taken_at_its_word_is_caught() -> None:
    rows = coverage.measure(populations.judged(0.2, 0.5), 500, 100)
    naive = next(row for row in rows if row.method == "judge alone")
    assert scipy.stats.binom.cdf(naive.held, naive.trials, 0.8) < UNLIKELY


def test_an_answer_of_each_form_is_judged() -> None:
    assert coverage.held(0.04, 0.0) == (False, None)
    assert coverage.held(0.06, 0.0) == (True, None)
    assert coverage.held((0.2, 1.0), 0.5) == (True, 0.8)
    assert coverage.held((0.6, 1.0), 0.5)[0] is False
    assert coverage.held(True, 0.0) == (True, None)
    table = coverage.tables([coverage.Measured("mean", "m", "p", 20, 100, 80, 0.5)], "facts")
    assert "| p | m | **80.0%** (0.5) |" in table
