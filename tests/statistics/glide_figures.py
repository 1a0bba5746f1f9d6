"""Makes glide_figures.json: what the package glide-py answers to a few small data sets.

glide-py (Emerton Data, Apache-2.0) needs Python 3.12 and a newer scipy than this project, so that its answers
are kept, with the data, rather than asked for in each run:

    python3.12 -m venv /tmp/glide && /tmp/glide/bin/pip install glide-py==0.11.0
    /tmp/glide/bin/python tests/statistics/glide_figures.py > tests/statistics/glide_figures.json
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np
from glide.estimators import ClusteredPPIMeanEstimator, PPIMeanEstimator


def case(seed: int, labelled: int, others: int, binary: bool, size: int = 1) -> dict[str, Any]:
    """Labels, a judge that is too kind, clusters of one size, and glide's answers."""
    generator = np.random.default_rng(seed)
    n = labelled + others
    truth = generator.random(n // size).repeat(size) * 0.5 + generator.random(n) * 0.5
    judge = np.clip(truth + 0.1 + 0.1 * generator.normal(size=n), 0, 1)
    if binary:
        truth, judge = np.round(truth), np.round(judge)
    truth, judge = truth.round(4), judge.round(4)
    labels = np.where(np.arange(n) < labelled, truth, np.nan)
    clusters = np.arange(n) // size
    return {
        "labels": [None if np.isnan(one) else float(one) for one in labels],
        "judge": [float(one) for one in judge],
        "clusters": None if size == 1 else [int(one) for one in clusters],
        "untuned": answer(labels, judge, clusters, size, False),
        "tuned": answer(labels, judge, clusters, size, True),
    }


def answer(labels: Any, judge: Any, clusters: Any, size: int, tuned: bool) -> dict[str, float]:
    if size == 1:
        told = PPIMeanEstimator().estimate(labels, judge, power_tuning=tuned)
    else:
        told = ClusteredPPIMeanEstimator().estimate(labels, judge, clusters, power_tuning=tuned)
    return {"mean": float(told.mean), "error": float(told.std)}


if __name__ == "__main__":
    cases = [
        case(1, 20, 80, binary=True),
        case(2, 30, 40, binary=False),
        case(3, 60, 20, binary=False),
        case(4, 24, 60, binary=False, size=3),
        case(5, 40, 40, binary=True, size=4),
    ]
    print(json.dumps({"glide-py": version("glide-py"), "cases": cases}))
