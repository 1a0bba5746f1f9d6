"""Measures what certificates promise against what is kept, on public outcomes.

    DAULAT_DATA=... python benchmarks/certificates.py [--only mmlu,gsm8k] [--routers 13] [--draws 40]

For each set and seed, 1,000 labels (or 2,500) are split as `daulat certify --labels 1000` does, and a router
is fitted on its share of them. Fitting is what takes long: so the examples that it was not fitted on are then
dealt out `draws` times, into as many to calibrate on as there were and a held-out rest. Each of these random
splits is certified, and the certified threshold is applied to the rest: a violation is a rest of whose closed
quality less is kept than the certificate says. The rest is itself a sample, which matters where it is small; so
there is a second count, with calibration examples drawn with replacement from all that the router was not
fitted on, and the truth of all of these.

Writes benchmarks/results/certificates.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import outcome_sets as sets
from common import RESULTS
from start import ROOT, write_table

from daulat.evaluate.routers import Learnt, gains_of
from daulat.evaluate.splitting import split
from daulat.evaluate.thresholds import Pairs, certify, thresholds
from daulat.route.learning.features import Features, Mode, extract, seen_in
from daulat.route.learning.fitting import fit
from daulat.route.learning.outcomes import Outcomes
from daulat.statistics.intervals import proportion

FILE = RESULTS / "certificates.json"
LABELS, KEEP, CONFIDENCE = 1000, 0.95, 0.95
ROUTERS, DRAWS = 13, 40
LLAMA = "llama-3.1-8b-instruct"


@dataclass(frozen=True, slots=True)
class Case:
    """A set whose certificates are measured; the bar is of the issue this was built for, in percent."""

    title: str
    load: Callable[[Path], Outcomes]
    mode: Mode
    bar: float | None = None
    labels: int = LABELS


CASES = {
    "mmlu": Case("MMLU, from the prompt and its subject", sets.mmlu, "before", 55),
    "mmlu_2500": Case("the same", sets.mmlu, "before", labels=2500),
    "gsm8k": Case("GSM8K, cascade", sets.gsm8k, "cascade"),
    "pro_llama": Case(
        "MMLU-Pro, gpt-4o over llama-3.1-8b, cascade",
        lambda data: sets.mmlu_pro(data, LLAMA),
        "cascade",
    ),
}


def measured(case: Case, data: Path, routers: int, draws: int) -> dict[str, Any]:
    """All splits of a set."""
    outcomes = case.load(data)
    features = extract(seen_in(outcomes, outcomes.endpoints[0]), case.mode)
    rounds = []
    for seed in range(routers):
        rounds.append(_round(case, outcomes, features, seed, draws))
        last = rounds[-1]
        print(f"{case.title}: {seed}, closed {np.mean(last['share']):.3f}", flush=True)
    every = {key: np.concatenate([one[key] for one in rounds]) for key in rounds[0]}
    closed = every["share"]
    return {
        "examples": len(outcomes),
        "labels": case.labels,
        "routers": routers,
        "splits": len(closed),
        "held_out": int(np.median(every["held_out"])),
        "violations": _counted(every["violated"]),
        "violations_of_all": _counted(every["violated_of_all"]),
        "closed_share": _spread(closed),
        "closed_share_by_router": [float(np.mean(one["share"])) for one in rounds],
        "kept": _spread(every["kept"]),
        "not_certified": float((closed == 1).mean()),
        "with_all_known": _spread(every["known"]),
    }


def _round(
    case: Case, outcomes: Outcomes, features: Features, seed: int, draws: int
) -> dict[str, np.ndarray]:
    """One router, and as many splits of what it was not fitted on."""
    parts = split(outcomes, seed=seed, labels=case.labels)
    router = fit(outcomes.take(parts.train), case.mode, endpoints=outcomes.endpoints, seed=seed)
    gains = gains_of(router, features, outcomes.prompts)
    every = Pairs(gains, outcomes.scores[:, 0], outcomes.scores[:, 1])
    train, pool = _take(every, parts.train), np.concatenate([parts.calibrate, parts.audit])
    tested = thresholds(Learnt(router).stops(), gains[parts.train])
    random = np.random.default_rng(seed)
    count = len(parts.calibrate)

    def threshold(rows: np.ndarray) -> float:
        calibrate = _take(every, rows)
        return certify(train, calibrate, tested, KEEP, CONFIDENCE, seed).threshold

    found: dict[str, list[float]] = {key: [] for key in ("share", "kept", "violated", "held_out")}
    found |= {"violated_of_all": [], "known": [_known(_take(every, pool))]}
    whole = _take(every, pool)
    for _ in range(draws):
        dealt = random.permutation(pool)
        rest = _take(every, dealt[count:])
        chosen = threshold(dealt[:count])
        found["share"].append(rest.closed_share(chosen))
        found["kept"].append(_kept(rest, chosen))
        found["violated"].append(_kept(rest, chosen) < KEEP)
        found["held_out"].append(len(rest))
        again = threshold(random.choice(pool, count))
        found["violated_of_all"].append(_kept(whole, again) < KEEP)
    return {key: np.array(values, float) for key, values in found.items()}


def _take(pairs: Pairs, rows: np.ndarray) -> Pairs:
    return Pairs(pairs.gains[rows], pairs.open[rows], pairs.closed[rows])


def _kept(pairs: Pairs, threshold: float) -> float:
    return float(pairs.routed(threshold).mean() / pairs.closed.mean())


def _known(pairs: Pairs) -> float:
    """The share with which this router keeps enough, if all scores were known."""
    order = np.argsort(-pairs.gains, kind="stable")
    lost = np.cumsum((pairs.closed - pairs.open)[order][::-1])[::-1] / len(order)
    enough = (
        np.append(pairs.closed.mean() - lost, pairs.closed.mean()) >= KEEP * pairs.closed.mean()
    )
    return float(np.argmax(enough) / len(order))


def _counted(which: np.ndarray) -> dict[str, float]:
    found = proportion(int(which.sum()), len(which), exact=True)
    return {
        "count": int(which.sum()),
        "share": float(found.value or 0),
        "low": found.low,
        "high": found.high,
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(values, [0.1, 0.9])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


# --- tables ---------------------------------------------------------------------------------------


def table(result: Mapping[str, Any]) -> str:
    """A row for each set."""
    head = "| set, labels | splits | violations | the same of all | closed share | bar | if all were known |"
    lines = [f"{head} kept |", "|---|---|---|---|---|---|---|---|"]
    for key, case in CASES.items():
        if key not in result:
            continue
        one = result[key]
        cells = (
            f"{case.title}, {case.labels:,}",
            f"{one['splits']:,} of {one['routers']} routers",
            _violations(one["violations"]),
            _violations(one["violations_of_all"]),
            _percent(one["closed_share"]),
            _verdict(one["closed_share"]["mean"], case.bar),
            _percent(one["with_all_known"]),
            _percent(one["kept"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    last = f"{result['date']}; {result['machine']}."
    return "\n".join([*lines, "", last])


def _violations(one: Mapping[str, float]) -> str:
    return f"{one['share']:.1%} ({one['low']:.1%} - {one['high']:.1%})"


def _percent(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.1f} % ({100 * one['low']:.1f} - {100 * one['high']:.1f})"


def _verdict(share: float, bar: float | None) -> str:
    if bar is None:
        return "-"
    return f"≤ {bar:g} %, " + ("reached" if 100 * share <= bar else "**missed**")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure certificates on public outcomes.")
    parser.add_argument("--only", default=",".join(CASES), help="sets, with commas between")
    parser.add_argument("--routers", type=int, default=ROUTERS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    data = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "routellm").is_dir():
        raise SystemExit(f"{data}/routellm is missing: set DAULAT_DATA to the folder of data sets.")
    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(CASES)):
        raise SystemExit(f"There is no set {unknown[0]!r}; there are {', '.join(CASES)}.")
    result: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    result |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
        "keep": KEEP,
        "confidence": CONFIDENCE,
    }
    for name in wanted:
        result[name] = measured(CASES[name], data, given.routers, given.draws)
        FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_table("certificates", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
