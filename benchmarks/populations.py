"""Populations with known truths, from which benchmarks/coverage.py and tests/statistics draw examples.

A population answers one kind of question (`kind`): the mean of scores, the difference of two endpoints, ... Its
`draw` makes n examples, `truth` is what an interval must cover. Clustered populations have an intra-cluster
correlation of 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ICC = 0.3
GROUPED = frozenset({"grouped"})


@dataclass(frozen=True, slots=True)
class Draw:
    """n examples: columns by name, and clusters where there are any."""

    columns: dict[str, Array]
    clusters: Array | None = None

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]


@dataclass(frozen=True, slots=True)
class Population:
    """Where examples come from.

    Attributes:
        kind: the question it is for.
        marks: what methods may need: "binary", "alone" (no clusters), "grouped" (clusters).
    """

    name: str
    kind: str
    truth: float
    draw: Callable[[np.random.Generator, int], Draw]
    marks: frozenset[str] = field(default_factory=frozenset)


def sizes(n: int, uneven: bool) -> Array:
    """Clusters' sizes: 5 each, or from n/4 downwards."""
    if not uneven:
        return np.full(n // 5, 5)
    large = [n // 4, n // 8, n // 8]
    return np.array(large + [4] * ((n - sum(large)) // 4))


def _members(n: int, uneven: bool) -> Array:
    each = sizes(n, uneven)
    return np.repeat(np.arange(len(each)), each)


def clustered_chances(generator: np.random.Generator, members: Array, mean: float) -> Array:
    """A chance of being right for each cluster, Beta with correlation `ICC` between its examples."""
    strength = (1 - ICC) / ICC
    count = int(members.max()) + 1
    return generator.beta(mean * strength, (1 - mean) * strength, count)[members]


# --- one endpoint's scores ------------------------------------------------------------------------


def bernoulli(share: float) -> Population:
    def draw(generator: np.random.Generator, n: int) -> Draw:
        return Draw({"a": (generator.random(n) < share).astype(float)})

    return Population(
        f"right or wrong, {share:.0%}", "mean", share, draw, frozenset({"binary", "alone"})
    )


def skewed(full: float = 0.7) -> Population:
    """Like F1: most answers are perfect, the rest anywhere."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        perfect = generator.random(n) < full
        return Draw({"a": np.where(perfect, 1.0, generator.random(n))})

    truth = full + (1 - full) / 2
    return Population(
        f"{full:.0%} perfect, rest uniform", "mean", truth, draw, frozenset({"alone"})
    )


def beta(a: float, b: float) -> Population:
    def draw(generator: np.random.Generator, n: int) -> Draw:
        return Draw({"a": generator.beta(a, b, n)})

    return Population(f"Beta({a:g}, {b:g})", "mean", a / (a + b), draw, frozenset({"alone"}))


def clustered(mean: float, uneven: bool = False) -> Population:
    def draw(generator: np.random.Generator, n: int) -> Draw:
        members = _members(n, uneven)
        chances = clustered_chances(generator, members, mean)
        return Draw({"a": (generator.random(len(members)) < chances).astype(float)}, members)

    shape = "uneven" if uneven else "of 5"
    name = f"clusters {shape}, right or wrong, {mean:.0%}"
    return Population(name, "mean", mean, draw, GROUPED)


# --- two endpoints --------------------------------------------------------------------------------


def pairs(only_a: float, only_b: float, kind: str = "difference") -> Population:
    """Right and wrong of two endpoints; the rest is split evenly into both right and both wrong."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        rest = (1 - only_a - only_b) / 2
        cell = generator.choice(4, size=n, p=[only_a, only_b, rest, rest])
        return Draw({"a": np.isin(cell, (0, 2)) * 1.0, "b": np.isin(cell, (1, 2)) * 1.0})

    name = f"right or wrong, {only_a:.0%} only a, {only_b:.0%} only b"
    return Population(name, kind, only_a - only_b, draw, frozenset({"binary", "alone"}))


def skewed_pairs(kind: str = "difference") -> Population:
    """Scores in [0, 1] that are often equal; a is rarely much better, b often a little: the mean is zero."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        which = generator.choice(3, size=n, p=[0.1, 0.4, 0.5])
        apart = np.choose(which, [np.full(n, 0.8), np.full(n, -0.2), np.zeros(n)])
        low = generator.random(n) * 0.2
        return Draw({"a": low + np.maximum(apart, 0), "b": low + np.maximum(-apart, 0)})

    return Population(
        "rare large wins, frequent small losses", kind, 0.0, draw, frozenset({"alone"})
    )


def clustered_pairs(lead: float, uneven: bool = False, kind: str = "difference") -> Population:
    """Right and wrong; within a cluster one of the two is favoured."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        members = _members(n, uneven)
        a = generator.random(len(members)) < clustered_chances(generator, members, 0.6 + lead)
        b = generator.random(len(members)) < clustered_chances(generator, members, 0.6)
        return Draw({"a": a * 1.0, "b": b * 1.0}, members)

    shape = "uneven" if uneven else "of 5"
    return Population(f"clusters {shape}, {lead:+.0%}", kind, lead, draw, GROUPED)


def even_match(ties: float) -> Population:
    """The chance that a beats b, ties half."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        which = generator.choice(3, size=n, p=[0.6 * (1 - ties), 0.4 * (1 - ties), ties])
        return Draw({"a": (which == 0) * 1.0, "b": (which == 1) * 1.0})

    truth = 0.6 * (1 - ties) + ties / 2
    return Population(f"{ties:.0%} ties", "beats", truth, draw, frozenset({"alone"}))


def slices(count: int, size_share: float = 1.0) -> Population:
    """Slices without a difference in any of them; truth: none."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        told = pairs(0.2, 0.2).draw(generator, int(n * count * size_share))
        names = np.arange(len(told["a"])) % count
        return Draw({**told.columns, "slices": names.astype(str)})

    return Population(f"{count} slices of n, no difference", "slices", 0.0, draw)


# --- latency, cost, judges ------------------------------------------------------------------------


def latencies(share: float, grouped: bool = False) -> Population:
    """Log-normal seconds; grouped: sessions of 5 share half of the spread."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        own = generator.normal(size=n)
        if not grouped:
            return Draw({"a": np.exp(own), "share": np.array([share])})
        members = np.arange(n) // 5
        common = generator.normal(size=int(members[-1]) + 1)[members]
        mixed = math.sqrt(0.5) * (own + common)
        return Draw({"a": np.exp(mixed), "share": np.array([share])}, members)

    quantile = {0.5: 0.0, 0.9: 1.2815515655446004, 0.99: 2.3263478740408408}[share]
    name = f"log-normal, {share:.0%}" + (", sessions of 5" if grouped else "")
    marks = frozenset() if grouped else frozenset({"alone"})
    return Population(name, "percentile", math.exp(quantile), draw, marks)


def costs(good: float, grouped: bool = False) -> Population:
    """Cost per good answer; longer answers cost more and are right a little less often."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        members = np.arange(n) // 5 if grouped else np.arange(n)
        common = generator.normal(size=n)[members] if grouped else 0.0
        weight = math.sqrt(ICC) if grouped else 0.0
        length = weight * common + math.sqrt(1 - weight**2) * generator.normal(size=n)
        right = generator.random(n) < good - 0.5 * min(good, 1 - good) * np.tanh(length)
        told = {"above": np.exp(length * 0.5), "below": right * 1.0}
        return Draw(told, members if grouped else None)

    name = f"{good:.0%} good" + (", sessions of 5" if grouped else "")
    return Population(name, "ratio", math.exp(0.125) / good, draw)


def orders(bias: float) -> Population:
    """A judge that is drawn to what is shown first, asked in both orders."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        taste = 0.25 + 0.4 * generator.random(n)
        first = generator.random(n) < taste + bias
        second = generator.random(n) < taste - bias
        return Draw({"first": first * 1.0, "second": second * 1.0})

    return Population(f"pull of {bias:g}", "bias", bias, draw)


STRENGTHS = np.array([0.9, 0.2, -0.3, -0.8])


def tournament(grouped: bool = False) -> Population:
    """Four endpoints; grouped: each example is judged for all six pairs, with a common favourite."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        first, second = np.triu_indices(4, 1)
        rows = np.arange(n) % 6
        members = np.arange(n) // 6
        left, right = first[rows], second[rows]
        chances = 1 / (1 + np.exp(STRENGTHS[right] - STRENGTHS[left]))
        told = generator.random(n)
        if grouped:  # a common draw half of the time
            shared = generator.random(n // 6 + 1)[members]
            told = np.where(generator.random(n) < 0.5, shared, told)
        names = {"left": left, "right": right, "a": (told < chances) * 1.0}
        return Draw(names, members if grouped else None)

    name = "four endpoints" + (", six verdicts an example" if grouped else "")
    return Population(name, "strength", float(STRENGTHS[0]), draw)


def judged(labels: float, right: float, grouped: bool = False) -> Population:
    """Human labels on a share of n examples; the judge agrees with `right` of them and else is too kind."""

    def draw(generator: np.random.Generator, n: int) -> Draw:
        members = np.arange(n) // 5
        chances = clustered_chances(generator, members, 0.7) if grouped else 0.7
        truth = (generator.random(n) < chances) * 1.0
        agrees = generator.random(n) < right
        judge = np.where(agrees, truth, (generator.random(n) < 0.8) * 1.0)
        told = generator.permutation(n) < round(labels * n)
        return Draw(
            {"labels": np.where(told, truth, np.nan), "judge": judge}, members if grouped else None
        )

    name = f"{labels:.0%} labelled, judge right on {right:.0%}" + (
        ", clusters of 5" if grouped else ""
    )
    return Population(name, "judged", 0.7, draw, frozenset() if grouped else frozenset({"alone"}))


POPULATIONS: Sequence[Population] = (
    bernoulli(0.5),
    bernoulli(0.9),
    bernoulli(0.98),
    bernoulli(0.02),
    skewed(0.7),
    skewed(0.95),
    beta(1, 9),
    clustered(0.7),
    clustered(0.95),
    clustered(0.7, uneven=True),
    pairs(0.3, 0.2),
    pairs(0.1, 0.05),
    pairs(0.02, 0.01),
    skewed_pairs(),
    clustered_pairs(0.1),
    clustered_pairs(0.1, uneven=True),
    even_match(0.2),
    even_match(0.8),
    pairs(0.1, 0.1, "null"),
    pairs(0.3, 0.3, "null"),
    skewed_pairs("null"),
    clustered_pairs(0.0, kind="null"),
    clustered_pairs(0.0, uneven=True, kind="null"),
    slices(10),
    latencies(0.5),
    latencies(0.9),
    latencies(0.99),
    latencies(0.9, grouped=True),
    costs(0.7),
    costs(0.1),
    costs(0.7, grouped=True),
    orders(0.0),
    orders(0.15),
    tournament(),
    tournament(grouped=True),
    judged(0.5, 0.9),
    judged(0.2, 0.9),
    judged(0.2, 0.5),
    judged(0.2, 0.9, grouped=True),
)
