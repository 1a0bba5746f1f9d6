"""What the hidden-state probe gives a router, and costs a step: `python benchmarks/probing.py --home HOME`.

The model (a home's starter) answers small generated questions that it gets partly right, through the hall as a
comparison asks. How well a router tells right answers from wrong ones is the area below its ROC curve, each
example predicted by a model that was fitted on the other four fifths; the same folds for all it may look at.
APGR is that of the router that `daulat route fit` makes of all.
`--step` measures a decode step with and without a probe, in turn, in one process.

Prints tables for docs/experiments.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daulat.engine.loading import load_native
from daulat.engine.probe import Probe
from daulat.engine.rows import rows_of
from daulat.engine.step import Chunk
from daulat.evaluate.asking import Failed, Question, Told
from daulat.house import open_house
from daulat.house.asking import HouseAsking, caller
from daulat.models.catalogue import Catalogue
from daulat.route.learning import models
from daulat.route.learning.features import Mode, extract, seen_in
from daulat.route.learning.fitting import fit
from daulat.route.learning.folds import folds, groups
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.parts import Average
from daulat.settings import load
from daulat.values.request import Message

MODEL = "SmolLM2-135M-Instruct"
MOST = 32
SEEDS = 5
PENALTY = 2.5
DRAWS = 2000

WORDS = """
    apple river window garden market teacher silver orange planet castle bridge forest pencil winter summer
    island dragon mirror rocket basket candle doctor finger guitar hammer jacket kitchen ladder monkey needle
"""
CAPITALS = """
    France=Paris Japan=Tokyo Italy=Rome Spain=Madrid Germany=Berlin Egypt=Cairo Kenya=Nairobi Peru=Lima
    Canada=Ottawa Norway=Oslo Sweden=Stockholm Poland=Warsaw Cuba=Havana Greece=Athens Iran=Tehran
    Iraq=Baghdad Austria=Vienna Portugal=Lisbon Ireland=Dublin Finland=Helsinki Hungary=Budapest
    Thailand=Bangkok Vietnam=Hanoi Indonesia=Jakarta Turkey=Ankara Chile=Santiago Australia=Canberra
    Mongolia=Ulaanbaatar Nepal=Kathmandu Ghana=Accra Uganda=Kampala Latvia=Riga Bolivia=Sucre
    Croatia=Zagreb Serbia=Belgrade Bulgaria=Sofia Romania=Bucharest Denmark=Copenhagen Estonia=Tallinn
    Jordan=Amman Lebanon=Beirut Morocco=Rabat Senegal=Dakar Angola=Luanda Zambia=Lusaka Laos=Vientiane
    Fiji=Suva Jamaica=Kingston Ecuador=Quito Uruguay=Montevideo Paraguay=Asuncion Venezuela=Caracas
"""
OPPOSITES = """
    hot=cold big=small up=down fast=slow young=old happy=sad rich=poor light=dark hard=soft early=late
    open=closed full=empty strong=weak wet=dry loud=quiet high=low thick=thin near=far clean=dirty
    sweet=sour long=short win=lose buy=sell push=pull left=right good=bad true=false day=night
"""
ANIMALS = """
    dog cat horse lion tiger bear wolf eagle shark whale rabbit mouse snake frog spider bee ant sheep goat duck
"""
PLANTS = """
    rose oak pine tulip carrot potato wheat rice fern cactus moss bamboo daisy lily clover onion cabbage palm
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and whether an answer to it is right."""

    kind: str
    prompt: str
    right: Callable[[str], bool]


def questions(seed: int) -> list[Asked]:
    """All different, in an order of their own."""
    drawn = random.Random(seed)  # noqa: S311 - a workload
    found: list[Asked] = []
    for _ in range(150):
        a, b = drawn.randint(1, 12), drawn.randint(1, 9)
        found.append(Asked("sum", f"What is {a} + {b}?", _last_number(a + b)))
        a, b = drawn.sample(range(3, 99), 2)
        found.append(
            Asked(
                "larger",
                f"Which number is larger: {a} or {b}?",
                _first_of(str(max(a, b)), str(min(a, b))),
            )
        )
    for word in WORDS.split():
        found.append(Asked("letter", f'What is the first letter of "{word}"?', _letter(word)))
        found.append(Asked("letter", f'What is the last letter of "{word}"?', _letter(word[::-1])))
    for country, city in _pairs(CAPITALS):
        found.append(Asked("city", f"What is the capital of {country}?", _has(city)))
        found.append(Asked("country", f"In which country is the city {city}?", _has(country)))
    for words, right, wrong in ((ANIMALS, "animal", "plant"), (PLANTS, "plant", "animal")):
        for one in words.split():
            asked = f"Is {one} an animal or a plant?"
            found.append(Asked("living", asked, _first_of(right, wrong)))
    for one, other in _pairs(OPPOSITES):
        found.append(Asked("opposite", f'What is the opposite of "{one}"?', _has(other)))
        found.append(Asked("opposite", f'What is the opposite of "{other}"?', _has(one)))
    every = list({one.prompt: one for one in found}.values())
    drawn.shuffle(every)
    return every


def _pairs(text: str) -> list[tuple[str, str]]:
    """Of lines of `one=other`."""
    return [(one, other) for one, _, other in (pair.partition("=") for pair in text.split())]


def _last_number(number: int) -> Callable[[str], bool]:
    return lambda said: re.findall(r"\d+", said)[-1:] == [str(number)]


def _first_of(right: str, wrong: str) -> Callable[[str], bool]:
    """The first of the two that is named."""
    form = re.compile(rf"\b({right}|{wrong})s?\b", re.IGNORECASE)
    return lambda said: [one.lower() for one in form.findall(said)[:1]] == [right]


def _has(word: str) -> Callable[[str], bool]:
    form = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    return lambda said: form.search(said) is not None


def _letter(word: str) -> Callable[[str], bool]:
    """The last letter that stands alone is the first of the word."""

    def judged(said: str) -> bool:
        letters = re.findall(r"\b[A-Za-z]\b", said)
        return [one.lower() for one in letters[-1:]] == [word[0]]

    return judged


async def answered(home: Path, every: Sequence[Asked]) -> list[Told]:
    """What the model says, asked as a comparison asks."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").symlink_to(home / "models")
        async with open_house(load(Path(folder))) as house:
            asking, gate = HouseAsking(house, caller("probing")), asyncio.Semaphore(4)

            async def one(asked: Asked) -> Told:
                said = (Message("user", asked.prompt),)
                async with gate:
                    found = await asking.tried(
                        Question(MODEL, said, MOST, 0.0, 0, logprobs=True, probe=True)
                    )
                if isinstance(found, Failed):
                    raise found.error
                return found

            return await asyncio.gather(*map(one, every))


def table(every: Sequence[Asked], told: Sequence[Told]) -> Outcomes:
    """Beside an endpoint that is always right, at a price."""
    n = len(every)
    right = np.array([asked.right(one.text) for asked, one in zip(every, told, strict=True)], float)
    ids = tuple(f"q{i}" for i in range(n))
    unknown = np.full(n, np.nan)
    return Outcomes(
        endpoints=("open", "closed"),
        ids=ids,
        prompts=tuple(asked.prompt for asked in every),
        answers=tuple((one.text, None) for one in told),
        scores=np.stack([right, np.ones(n)], axis=1),
        costs=np.tile([0.0, 0.01], (n, 1)),
        seconds=np.full((n, 2), np.nan),
        categories=("",) * n,
        clusters=ids,
        logprobs=np.stack([np.array([one.logprob for one in told], float), unknown], axis=1),
        samples=(((), ()),) * n,
        probes=tuple((one.probe, ()) for one in told),
    )


def predicted(outcomes: Outcomes, mode: Mode, seed: int) -> FloatArray:
    """How probable a right answer of the open endpoint is, each example out of its fold; [n].

    By what a router is unless another model is surely better: a logistic regression and trees.
    """
    features, scores = extract(seen_in(outcomes, "open"), mode), outcomes.scores
    found = np.empty(len(outcomes))
    for held in folds(groups(outcomes), 5, seed):
        rest = np.setdiff1d(np.arange(len(outcomes)), held)
        known = features.take(rest), scores[rest]
        parts = (models.fit_logistic(*known, PENALTY, words=True), models.fit_trees(*known, seed))
        found[held] = Average(parts).predict(features.take(held))[:, 0]
    return found


def area(right: FloatArray, said: FloatArray) -> float:
    """Below the ROC curve: how often a right answer is thought likelier right than a wrong one; ties half."""
    gaps = said[right > 0][:, None] - said[right == 0]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def compare(outcomes: Outcomes) -> None:
    """Prints how well routers tell right from wrong by what they may see."""
    n = len(outcomes)
    nobody, unknown = (((), ()),) * n, np.full((n, 2), np.nan)
    blind = replace(outcomes, probes=nobody, logprobs=unknown)
    variants: dict[str, tuple[Outcomes, Mode]] = {
        "prompt": (blind, "before"),
        "and the answer's text": (blind, "cascade"),
        "and log-probability": (replace(outcomes, probes=nobody), "cascade"),
        "text and probe, no log-probability": (replace(outcomes, logprobs=unknown), "cascade"),
        "text, log-probability and probe": (outcomes, "cascade"),
    }
    right = outcomes.scores[:, 0]
    areas: dict[str, tuple[float, FloatArray]] = {}
    print("| sees | AUC | against the third, 95 % | APGR |\n|---|---|---|---|")
    for name, (seen, mode) in variants.items():
        said = np.array([predicted(seen, mode, seed) for seed in range(SEEDS)])
        areas[name] = statistics.fmean(area(right, one) for one in said), said
        whole = fit(seen, mode, endpoints=seen.endpoints).figures
        apgr = "" if whole is None else f"{whole.apgr.value:.3f}"
        gap = ""
        if (base := areas.get("and log-probability")) is not None and base[1] is not said:
            low, high = _between(right, said, base[1])
            gap = f"{areas[name][0] - base[0]:+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"| {name} | {areas[name][0]:.3f} | {gap} | {apgr} |", flush=True)


def _between(right: FloatArray, one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """The bootstrap's interval of a difference of areas; examples are drawn, for both the same."""
    random_, n = np.random.default_rng(0), len(right)
    gaps: list[float] = []
    for _ in range(DRAWS):
        rows = random_.integers(0, n, n)
        seed = int(random_.integers(SEEDS))
        gaps.append(area(right[rows], one[seed][rows]) - area(right[rows], other[seed][rows]))
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def steps(home: Path) -> None:
    """Prints what a decode step takes with and without hidden states."""
    decoder = load_native(Catalogue(home).get(MODEL).open(), threads=2)
    print("| answers | ms | with probes | the probe's own sums, ms |\n|---|---|---|---|")
    for count in (1, 4, 16):
        caches = [decoder.new_cache(700) for _ in range(count)]
        for cache in caches:
            decoder.forward([Chunk(range(5, 105), cache)])
        took: dict[bool, list[float]] = {False: [], True: []}
        for number in range(500):
            chunks = [Chunk([number + 7], cache, written=True) for cache in caches]
            began = time.perf_counter()
            list(rows_of(decoder, chunks, states=bool(number % 2)))
            took[bool(number % 2)].append(1e3 * (time.perf_counter() - began))
        plain, probed = (statistics.median(took[one]) for one in (False, True))
        print(
            f"| {count} | {plain:.2f} | {probed:.2f} | {_sums(decoder.architecture.hidden):.4f} |"
        )


def _sums(hidden: int) -> float:
    """Milliseconds that a token's state takes to be added up."""
    state = np.random.default_rng(0).standard_normal(hidden).astype(np.float32)
    probe, began = Probe(), time.perf_counter()
    for _ in range(1000):
        probe.add(state)
    added = time.perf_counter() - began
    began = time.perf_counter()
    probe.figures()
    print(f"<!-- the end of an answer: {1e3 * (time.perf_counter() - began):.3f} ms -->")
    return added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path.home() / ".daulat")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", action="store_true")
    chosen = parser.parse_args()
    if chosen.step:
        steps(chosen.home)
        return
    every = questions(chosen.seed)
    outcomes = table(every, asyncio.run(answered(chosen.home, every)))
    right = outcomes.scores[:, 0]
    print(f"{len(every)} questions, {right.mean():.0%} right:")
    for kind in dict.fromkeys(asked.kind for asked in every):
        rows = [i for i, asked in enumerate(every) if asked.kind == kind]
        print(f"- {kind}: {len(rows)}, {right[rows].mean():.0%}; {outcomes.answers[rows[0]][0]!r}")
    compare(outcomes)


if __name__ == "__main__":
    main()
