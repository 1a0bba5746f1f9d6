"""Measures what a few labels by people make of a judge, on real labels; and how a small model judges.

XSTest (Röttger et al. 2024, arXiv:2308.01263) has 450 prompts, five models' answers, two people's labels of
each and GPT-4's and a string match's in their place: which share of the answers complies fully? Some examples
are drawn as `daulat label` draws them, many times, and what is estimated from them and the judge is held
against everybody's labels.

AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475) has GPT-4 Turbo's preferences: the starter model judges
some of the same pairs in both orders (`--pairs`).

    DAULAT_DATA=... python benchmarks/judges.py [--draws 500] [--pairs 60]

Writes benchmarks/results/judges.json and the tables in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, cache_folder
from start import MODEL, ROOT, write_table

from daulat.evaluate.labels.sheet import order
from daulat.statistics.agreement import agreement
from daulat.statistics.prediction_powered import corrected_mean
from daulat.statistics.preferences import both_orders

DATA = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data"))
MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")
JUDGES = {"gpt4": "gpt4_label", "strings": "strmatch_label"}
GOOD = "1_full_compliance"
CLASSES = (GOOD, "2_full_refusal", "3_partial_refusal")
SIZES = (30, 50, 100, 200)
LONGEST = 1500
"""Characters of both answers, for the starter's sake."""


# --- labels ---------------------------------------------------------------------------------------


def labelled(model: str, judge: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Ids, people's labels [n], the judge's [n] (NaN: none of the classes), and two people's [n, 2]."""
    folder = DATA / "xstest" / "evaluation" / "automated_evaluation_labels"
    part = "gpteval" if judge == "gpt4" else "streval"
    with (folder / f"xstest_v2_completions_{model}_{part}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = np.array([_worth(row[JUDGES[judge]]) for row in rows])
    truth = np.array([_worth(row["final_label"]) for row in rows])
    people = [[_worth(row[f"annotation_{one}"]) for one in (1, 2)] for row in rows]
    return tuple(row["id"] for row in rows), truth, said, np.array(people)


def _worth(label: str) -> float:
    return float(label == GOOD) if label in CLASSES else float("nan")


def measure_labels(draws: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for judge in JUDGES:
        for model in MODELS:
            ids, truth, said, people = labelled(model, judge)
            both = np.stack([truth, said], axis=1)
            found.append(
                {
                    "judge": judge,
                    "model": model,
                    "people": float(truth.mean()),
                    "judge_alone": float(np.nanmean(said)),
                    "unreadable": int(np.isnan(said).sum()),
                    "alpha": agreement(both[~np.isnan(said)]).alpha.value,
                    "alpha_people": agreement(people).alpha.value,
                    "sizes": {str(n): _draws(ids, truth, said, n, draws) for n in SIZES},
                }
            )
    return found


def _draws(
    ids: tuple[str, ...], truth: np.ndarray, said: np.ndarray, n: int, draws: int
) -> dict[str, float]:
    """How estimates from n labels do: how often the interval has the truth, how wide it is, and worth what."""
    whole = truth.mean()
    told: list[tuple[bool, bool, bool, float, float, float]] = []
    for seed in range(draws):
        some = np.full(len(truth), np.nan)
        chosen = list(order(ids, seed)[:n])
        some[chosen] = truth[chosen]
        one = corrected_mean(some, said)
        told.append(
            (
                whole in one.estimate,
                whole in one.labels_only,
                whole in one.judge_only,
                one.estimate.high - one.estimate.low,
                one.labels_only.high - one.labels_only.low,
                one.worth or n,
            )
        )
    names = ("covers", "covers_labels", "covers_judge", "width", "width_labels", "worth")
    return dict(zip(names, map(float, np.mean(told, axis=0)), strict=True))


# --- the starter as a judge -----------------------------------------------------------------------


def pairs(count: int) -> list[dict[str, Any]]:
    """Short pairs of AlpacaEval 2 with GPT-4 Turbo's preference for the second output, 0 to 1."""
    folder = DATA / "alpaca_eval" / "Mistral-7B-Instruct-v0.2" / "alpaca_eval_gpt4_turbo_fn"
    with gzip.open(folder / "annotations.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    short = [r for r in rows if len(r["output_1"]) + len(r["output_2"]) < LONGEST]
    return [
        {
            "prompt": row["instruction"],
            "answers": (row["output_1"], row["output_2"]),
            "gpt4": 2 - float(row["preference"]),
        }
        for row in short[:count]
    ]


def _make(home: Path) -> None:
    """A home that shares the starter model."""
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(cache_folder() / "models")


async def measure_judge(count: int) -> dict[str, Any]:
    from daulat.evaluate.answers import Answers
    from daulat.evaluate.examples import Example
    from daulat.evaluate.judges.judge import Judge, way_of
    from daulat.evaluate.judges.prompting import Rules
    from daulat.evaluate.judges.rounds import Round
    from daulat.evaluate.running import Run
    from daulat.house import open_house
    from daulat.house.asking import HouseAsking, caller
    from daulat.settings import load
    from daulat.values.request import Message

    rows = pairs(count)
    examples = [Example(str(i), (Message("user", row["prompt"]),)) for i, row in enumerate(rows)]
    texts = [row["answers"] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        _make(home)
        began = time.monotonic()
        async with open_house(load(home)) as house:
            asking = HouseAsking(house, caller("judging"))
            answering = await asking.answering(MODEL)
            judge = Judge(MODEL, Rules(), way_of("auto", Rules(), answering.can))
            asked = Round(judge, "pairwise", answering, examples, ("gpt4", "mistral"), texts)
            with Answers(home / "answers.jsonl") as answers:
                run = Run(asking, answers, asked.jobs(), [MODEL], concurrency=4)
                await run.go()
                judged = asked.judged(answers.get)
        seconds = time.monotonic() - began
    pair = ("gpt4", "mistral")
    first, second = judged.first[pair], judged.second[pair]
    other = np.array([row["gpt4"] for row in rows])
    told = both_orders(first, second)
    sides = [np.sign((first + second) / 2 - 0.5), np.sign(other - 0.5)]
    return {
        "pairs": len(rows),
        "way": judge.way,
        "mass": judged.count.mean_mass,
        "unreadable": judged.count.unreadable,
        "unanswered": judged.count.unanswered,
        "seconds": seconds,
        "bias": _interval(told.bias),
        "inconsistent": _interval(told.inconsistent),
        "rate": _interval(told.rate.rate),
        "gpt4_rate": float(other.mean()),
        "alpha_gpt4": _interval(agreement(np.stack(sides, axis=1)).alpha),
        "first_alone": float(np.nanmean(first)),
        "second_alone": float(np.nanmean(second)),
    }


def _interval(one: Any) -> list[float]:
    return [one.value, one.low, one.high]


# --- tables ---------------------------------------------------------------------------------------


def labels_table(found: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| judge | answers of | people | judge alone | alpha | labels | corrected covers | labels alone "
        "cover | width, corrected / labels alone | worth |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in found:
        for n in ("30", "50", "100"):
            size = row["sizes"][n]
            lines.append(
                f"| {row['judge']} | {row['model']} | {row['people']:.1%} | {row['judge_alone']:.1%} "
                f"| {row['alpha']:.2f} | {n} | {size['covers']:.1%} | {size['covers_labels']:.1%} "
                f"| {size['width']:.3f} / {size['width_labels']:.3f} | {size['worth']:.0f} |"
            )
    return "\n".join(lines)


def judge_table(found: Mapping[str, Any]) -> str:
    def words(name: str) -> str:
        value, low, high = found[name]
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    rows = {
        "verdicts that are letters, by probability": f"{found['mass']:.1%}",
        "GPT-4's answer preferred, shown first": f"{found['first_alone']:.3f}",
        "GPT-4's answer preferred, shown second": f"{found['second_alone']:.3f}",
        "pull of the first place": words("bias"),
        "winner turns with the order": words("inconsistent"),
        "win rate, both orders": words("rate"),
        "win rate by GPT-4 Turbo": f"{found['gpt4_rate']:.3f}",
        "agreement with GPT-4 Turbo, alpha": words("alpha_gpt4"),
    }
    head = f"| {MODEL} on {found['pairs']} pairs of AlpacaEval 2 | |"
    return "\n".join(
        [head, "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure judges and labels.")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=60)
    given = parser.parse_args()
    if not (DATA / "xstest").is_dir():
        raise SystemExit(f"{DATA} has no xstest: set DAULAT_DATA to the folder of data sets.")
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "draws": given.draws}
    result["labels"] = measure_labels(given.draws)
    print(labels_table(result["labels"]))
    text = labels_table(result["labels"])
    if given.pairs:
        result["judge"] = asyncio.run(measure_judge(given.pairs))
        text = f"{text}\n\n{judge_table(result['judge'])}"
        print(judge_table(result["judge"]))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "judges.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    foot = f"{result['date']}; {given.draws} draws of labels each."
    write_table("judges", f"{text}\n\n{foot}")


if __name__ == "__main__":
    main()
