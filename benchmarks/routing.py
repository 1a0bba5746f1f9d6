"""Measures the routers on public outcomes: `DAULAT_DATA=... python benchmarks/routing.py`.

For each set, labels are drawn at random, a router is fitted on them as `daulat route fit` does, and everything
else is held out, copies of a labelled prompt left away. Figures are means over several draws, with the lowest
and the highest; beside them the 95 % bootstrap interval of one draw. `--only mmlu,gsm8k,...` measures some
parts again and keeps what is known of the others.

Writes benchmarks/results/routing.json and the tables in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import outcome_sets as sets
from common import RESULTS
from start import ROOT, write_table

from daulat.route.learning.curves import exact, figures, published
from daulat.route.learning.features import Mode, extract, seen_in
from daulat.route.learning.fitting import fit, not_seen
from daulat.route.learning.outcomes import Outcomes
from daulat.route.learning.router import Router, decide

FILE = RESULTS / "routing.json"
RANDOMS = 400
DECISIONS, ROUNDS = 400, 7
FIGURES = ("apgr", "cpt50", "cpt80", "keep95")


@dataclass(frozen=True, slots=True)
class Case:
    """A set on which a router is fitted and measured; bars are what the project aims at."""

    title: str
    load: Callable[[Path], Outcomes]
    mode: Mode
    labels: int
    best: Mapping[str, float]
    bars: Mapping[str, float]
    draws: int = 5
    """Of labels. More where little is held out, fewer where a draw takes long."""


def _untagged(data: Path) -> Outcomes:
    known = sets.mmlu(data)
    return replace(known, categories=("",) * len(known))


def _with_second(outcomes: Outcomes, other: Outcomes) -> Outcomes:
    """The other open model's answers as further samples of the open one: do they agree?"""
    samples = tuple(((row[0] or "",), ()) for row in other.answers)
    return replace(outcomes, samples=samples)


LLAMA, MISTRAL = "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.2"
CASES = {
    "mmlu": Case(
        "MMLU, from the prompt and its subject",
        sets.mmlu,
        "before",
        1500,
        {"apgr": 0.603, "cpt50": 35.4, "cpt80": 70.3, "keep95": 56},
        {"apgr": 0.66, "cpt50": 30, "cpt80": 62, "keep95": 43},
    ),
    "mmlu_untagged": Case(
        "MMLU, from the prompt alone",
        _untagged,
        "before",
        1500,
        {"apgr": 0.603, "cpt50": 35.4, "cpt80": 70.3, "keep95": 56},
        {},
        draws=3,
    ),
    "gsm8k": Case(
        "GSM8K, cascade",
        sets.gsm8k,
        "cascade",
        1000,
        {"apgr": 0.622, "cpt50": 33.6, "cpt80": 63.3, "keep95": 63},
        {"apgr": 0.72, "cpt50": 20, "cpt80": 50, "keep95": 45},
        draws=5,
    ),
    "pro_llama": Case(
        "MMLU-Pro, gpt-4o over llama-3.1-8b, cascade",
        lambda data: sets.mmlu_pro(data, LLAMA),
        "cascade",
        2000,
        {"apgr": 0.548},
        {"apgr": 0.70},
    ),
    "pro_mistral": Case(
        "MMLU-Pro, gpt-4o over mistral-7b, cascade",
        lambda data: sets.mmlu_pro(data, MISTRAL),
        "cascade",
        2000,
        {"apgr": 0.568},
        {"apgr": 0.70},
    ),
    "pro_llama_second": Case(
        "MMLU-Pro, gpt-4o over llama-3.1-8b, cascade that has mistral-7b's answer to compare",
        lambda data: _with_second(sets.mmlu_pro(data, LLAMA), sets.mmlu_pro(data, MISTRAL)),
        "cascade",
        2000,
        {},
        {},
        draws=3,
    ),
    "pro_mistral_second": Case(
        "MMLU-Pro, gpt-4o over mistral-7b, cascade that has llama-3.1-8b's answer to compare",
        lambda data: _with_second(sets.mmlu_pro(data, MISTRAL), sets.mmlu_pro(data, LLAMA)),
        "cascade",
        2000,
        {},
        {},
        draws=3,
    ),
}
RANDOM_ROUTER = {
    "MT-Bench": {"apgr": "0.500 (±0.02)", "cpt50": "49.03 (±4)", "cpt80": "78.08 (±3)"},
    "MMLU": {"apgr": "0.500 (±0)", "cpt50": "50.07 (±0)", "cpt80": "79.93 (±0)"},
    "GSM8K": {"apgr": "0.497 (±0.01)", "cpt50": "50.00 (±2)", "cpt80": "80.08 (±1)"},
}
"""What RouteLLM's paper (arXiv 2406.18665v4, tables 1 to 3) gives for its random router, with its intervals."""
COUNTED = {
    "biology": 622,
    "business": 620,
    "chemistry": 837,
    "computer science": 321,
    "economics": 682,
    "engineering": 533,
    "health": 590,
    "history": 267,
    "law": 562,
    "math": 1028,
    "other": 716,
    "philosophy": 350,
    "physics": 970,
    "psychology": 632,
}
"""Right answers of gpt-4o by MMLU-Pro's eval_results/gpt4o/*_summary.json (commit ff991b5). For what could not
be parsed an option is drawn there, with the seed 12345 each time."""


# --- fitted routers -------------------------------------------------------------------------------


def measured(case: Case, data: Path, draws: int | None) -> dict[str, Any]:
    """The figures of a case over several draws of labels, by both protocols."""
    outcomes = case.load(data)
    rounds = [_round(case, outcomes, seed, first=seed == 0) for seed in range(draws or case.draws)]
    held = {
        protocol: {name: [one[protocol][name] for one in rounds] for name in rounds[0][protocol]}
        for protocol in ("exact", "published")
    }
    return {
        "labels": case.labels,
        "draws": len(rounds),
        "examples": len(outcomes),
        "held_out": [one["held_out"] for one in rounds],
        "models": [one["model"] for one in rounds],
        "seconds_to_fit": statistics.median(one["seconds"] for one in rounds),
        **held,
        "bootstrap": rounds[0]["bootstrap"],
        "one_router": rounds[0]["decisions"],
    }


def _round(case: Case, outcomes: Outcomes, seed: int, *, first: bool) -> dict[str, Any]:
    began = time.perf_counter()
    router = fit(outcomes, case.mode, endpoints=outcomes.endpoints, labels=case.labels, seed=seed)
    seconds = time.perf_counter() - began
    rest = not_seen(outcomes, router)
    need = router.steps(extract(seen_in(rest, router.endpoints[0]), case.mode)).needs()
    cheap, dear = rest.scores.T
    curve, theirs = exact(need, cheap, dear), published(need, cheap, dear)
    print(f"{case.title}: draw {seed}, {router.part.name}, APGR {curve.apgr():.3f}", flush=True)
    whole = figures(need, cheap, dear, rest.clusters) if first else None
    return {
        "held_out": len(rest),
        "model": router.candidates[0][0],
        "seconds": seconds,
        "exact": {
            "apgr": curve.apgr(),
            "cpt50": curve.cpt(0.5),
            "cpt80": curve.cpt(0.8),
            "keep95": curve.keeping(0.95),
        },
        "published": {"apgr": theirs.apgr, "cpt50": theirs.cpt50, "cpt80": theirs.cpt80},
        "bootstrap": {name: [one.low, one.high] for name, one in _intervals(whole)},
        "decisions": _decisions(router, rest) if first else None,
    }


def _intervals(whole: Any) -> list[tuple[str, Any]]:
    return [] if whole is None else [(name, getattr(whole, name)) for name in FIGURES]


def _decisions(router: Router, rest: Outcomes) -> dict[str, float]:
    """Decisions a second of processor time, one request after the other, from prompt and answer to choice."""
    examples = seen_in(rest.take(range(min(DECISIONS, len(rest)))), router.endpoints[0])
    for one in examples:
        decide(router, one, 0.3)
    rates = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for one in examples:
            decide(router, one, 0.3)
        rates.append(len(examples) / (time.process_time() - began))
    return {"per_second": statistics.median(rates), "best": max(rates), "worst": min(rates)}


# --- what others published ------------------------------------------------------------------------


def random_router(data: Path) -> dict[str, Any]:
    """RouteLLM's random router by its own protocol, drawn anew many times: the mean and the middle 95 %."""
    found: dict[str, Any] = {}
    loaded = {"MT-Bench": sets.mt_bench, "MMLU": sets.mmlu, "GSM8K": sets.gsm8k}
    for name, load in loaded.items():
        outcomes = load(data)
        cheap, dear = outcomes.scores.T
        random_ = np.random.default_rng(0)
        drawn = [asdict(published(random_.random(len(cheap)), cheap, dear)) for _ in range(RANDOMS)]
        best = exact(dear - cheap, cheap, dear)
        found[name] = {
            "examples": len(outcomes),
            "weak": float(cheap.mean()),
            "strong": float(dear.mean()),
            "random": {key: _middle([one[key] for one in drawn]) for key in FIGURES[:3]},
            "perfect": {"apgr": best.apgr(), "cpt50": best.cpt(0.5), "cpt80": best.cpt(0.8)},
        }
    return found


def _middle(values: Sequence[float]) -> list[float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(np.mean(values)), float(low), float(high)]


def categories(data: Path) -> dict[str, Any]:
    """Right answers of gpt-4o in each category of MMLU-Pro, as its own script counts them, and as we do."""
    found: dict[str, list[int]] = {}
    for line in sets.stored(data, sets.GPT4O).values():
        counts = found.setdefault(line["category"], [0, 0, 0])
        counts[0] += 1
        if line["pred"] is None:
            drawn = random.Random(12345).randint(0, len(line["options"]) - 1)  # noqa: S311
            counts[2] += drawn == ord(line["answer"]) - ord("A")
        else:
            counts[1] += line["pred"] == line["answer"]
    return {
        name: {
            "questions": n,
            "right": right,
            "as_published": right + lucky,
            "published": COUNTED[name],
        }
        for name, (n, right, lucky) in sorted(found.items())
    }


# --- tables ---------------------------------------------------------------------------------------

_FORMS = {"apgr": "{:.3f}", "cpt50": "{:.1f}", "cpt80": "{:.1f}", "keep95": "{:.1f}"}
_WORDS = {"apgr": "APGR", "cpt50": "CPT 50 %", "cpt80": "CPT 80 %", "keep95": "calls for 95 %"}


def _spread(values: Sequence[float], form: str) -> str:
    ends = f"{form.format(min(values))} - {form.format(max(values))}"
    return f"{form.format(statistics.fmean(values))} ({ends})"


def _verdict(name: str, value: float, bar: float | None) -> str:
    if bar is None:
        return "-"
    kept = value >= bar if name == "apgr" else value <= bar
    sign = "≥" if name == "apgr" else "≤"
    return f"{sign} {bar:g}, " + ("reached" if kept else "**missed**")


def _fitted_table(result: Mapping[str, Any]) -> list[str]:
    head = "| set | | every threshold | 95 % interval of one draw | eleven points |"
    lines = [f"{head} best published | bar |", "|---|---|---|---|---|---|---|"]
    for key, case in CASES.items():
        if key not in result:
            continue
        one = result[key]
        for name in FIGURES:
            values, eleven = one["exact"][name], one["published"].get(name)
            form = _FORMS[name]
            low, high = one["bootstrap"][name]
            cells = (
                f"{case.title}: {case.labels:,} labels, draws of them: {one['draws']}"
                if name == "apgr"
                else "",
                _WORDS[name],
                _spread(values, form),
                f"{form.format(low)} - {form.format(high)}",
                _spread(eleven, form) if eleven else "-",
                form.format(case.best[name]) if name in case.best else "-",
                _verdict(name, statistics.fmean(values), case.bars.get(name)),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _decision_table(result: Mapping[str, Any]) -> list[str]:
    lines = ["| router | decisions a second, one core | to fit it |", "|---|---|---|"]
    for key, case in CASES.items():
        if key in result:
            speed, seconds = result[key]["one_router"], result[key]["seconds_to_fit"]
            rates = f"{speed['per_second']:,.0f} ({speed['worst']:,.0f} - {speed['best']:,.0f})"
            lines.append(f"| {case.title} | {rates} | {seconds:.0f} s |")
    return lines


def _random_table(found: Mapping[str, Any]) -> list[str]:
    head = "| RouteLLM's random router | weak and strong alone | APGR | in its paper | CPT 50 % |"
    rest = "in its paper | CPT 80 % | in its paper | perfect router's APGR |"
    lines = [f"{head} {rest}", "|---|---|" + "---|" * 7]
    for name, one in found.items():
        cells = [f"{name}, {one['examples']:,}", f"{one['weak']:.1%}, {one['strong']:.1%}"]
        for key in FIGURES[:3]:
            mean, low, high = (_FORMS[key].format(value) for value in one["random"][key])
            cells += [f"{mean} ({low} - {high})", RANDOM_ROUTER[name][key]]
        lines.append(f"| {' | '.join([*cells, format(one['perfect']['apgr'], '.3f')])} |")
    return lines


def _category_table(found: Mapping[str, Any]) -> list[str]:
    head = "| MMLU-Pro, gpt-4o | questions | right | drawn for the unparsed as there | its table |"
    lines = [head, "|---|---|---|---|---|"]
    for name, one in found.items():
        n = one["questions"]
        cells = [
            f"{one[key]:,} ({one[key] / n:.2%})" for key in ("right", "as_published", "published")
        ]
        lines.append(f"| {name} | {n:,} | {' | '.join(cells)} |")
    total = {key: sum(one[key] for one in found.values()) for key in next(iter(found.values()))}
    n = total["questions"]
    cells = [
        f"{total[key]:,} ({total[key] / n:.2%})" for key in ("right", "as_published", "published")
    ]
    return [*lines, f"| all | {n:,} | {' | '.join(cells)} |"]


def tables(result: Mapping[str, Any]) -> str:
    """All tables, with blank lines between."""
    blocks = [_fitted_table(result), _decision_table(result)]
    if "random" in result:
        blocks.append(_random_table(result["random"]))
    if "categories" in result:
        blocks.append(_category_table(result["categories"]))
    last = f"{result['date']}; {result['machine']}."
    return "\n\n".join(["\n".join(block) for block in blocks] + [last])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure routers on public outcomes.")
    names = (*CASES, "random", "categories")
    parser.add_argument("--only", default=",".join(names), help="parts, with commas between")
    parser.add_argument(
        "--draws", type=int, help="draws of labels, in place of each set's own number"
    )
    given = parser.parse_args()
    data = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "routellm").is_dir():
        raise SystemExit(f"{data}/routellm is missing: set DAULAT_DATA to the folder of data sets.")
    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        raise SystemExit(f"There is no part {unknown[0]!r}; there are {', '.join(names)}.")
    result: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    result |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
    }
    for name in wanted:
        match name:
            case "random":
                result[name] = random_router(data)
            case "categories":
                result[name] = categories(data)
            case _:
                result[name] = measured(CASES[name], data, given.draws)
        FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_table("routing", tables(result))
    print(tables(result))


if __name__ == "__main__":
    main()
