"""Comparisons for tests of reports: made-up answers, everything else as `daulat compare` finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from daulat.evaluate.answers import Answer
from daulat.evaluate.comparing import About, Cell, Comparison, Known, Table, compare
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Score
from daulat.statistics.preferences import both_orders
from daulat.values.money import PER_UNIT
from daulat.values.request import Message

Numbers = np.ndarray


@dataclass(frozen=True, slots=True)
class Made:
    """An endpoint to make up: its true quality, money and seconds an answer, how often it fails and refuses."""

    name: str
    quality: float
    cost: float | None = 0.001
    seconds: float = 1.0
    failing: float = 0.0
    refusing: float = 0.0
    graded: bool = False
    place: str = "us"
    open: bool | None = None


LLAMA = Made("llama-3.1-8b", 0.78, 0.00004, 0.9, refusing=0.01, place="local", open=True)
GPT = Made("gpt-4", 0.80, 0.0123, 2.4, failing=0.02, open=False)
MISTRAL = Made("mistral-7b", 0.66, 0.00003, 0.7, place="local", open=True)


def comparison(
    made: Sequence[Made] = (LLAMA, GPT),
    n: int = 300,
    *,
    seed: int = 0,
    margin: float = 0.02,
    clusters: int = 0,
    categories: Sequence[str] = ("law", "medicine", "history"),
    metric: str = "exact",
    judged: bool = False,
    prompts: Sequence[str] = (),
    answers: Sequence[str] = (),
    noise: float = 0.3,
    task: str = "tickets",
) -> Comparison:
    """A comparison of random answers. `noise`: how little endpoints fail on the same examples."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    examples = [_example(i, prompts, clusters, categories) for i in range(n)]
    columns = [_column(one, hard, noise, rng, bool(metric), answers) for one in made]
    cells = tuple(tuple(column[i] for column in columns) for i in range(n))
    about = About(
        id="2026-11-22-0915-ab12",
        task=task,
        digest="sha256:" + "ab" * 32,
        metric={"name": metric, "options": {}},
        how={"max_tokens": 512, "temperature": 0.0, "seed": 0},
        created="2026-11-22T09:15:00Z",
        currency="USD",
    )
    known = {
        one.name: Known(
            ("sha256:" + "ef" * 32,) if one.open else ("gpt-4-0613",), one.place, one.open
        )
        for one in made
    }
    table = Table(tuple(one.name for one in made), tuple(examples), cells)
    found = compare(table, about, known, margin=margin)
    return _judged(found, table) if judged else found


def _example(row: int, prompts: Sequence[str], clusters: int, categories: Sequence[str]) -> Example:
    prompt = (
        prompts[row % len(prompts)]
        if prompts
        else f"What comes after {row}? " + "Why? " * (row % 7)
    )
    return Example(
        id=f"e{row}",
        messages=(Message("user", prompt),),
        references=(str(row + 1),),
        category=categories[row % len(categories)] if categories else "",
        cluster=f"c{row % clusters}" if clusters else "",
    )


def _column(
    one: Made,
    hard: Numbers,
    noise: float,
    rng: np.random.Generator,
    scored: bool,
    answers: Sequence[str],
) -> list[Cell]:
    mixed = (1 - noise) * hard + noise * rng.random(len(hard))
    edge = np.quantile(mixed, one.quality) if len(hard) else 0.5
    values = (mixed <= edge).astype(np.float64)
    if one.graded:
        values = np.round(0.8 * values + 0.2 * rng.random(len(hard)), 3)
    drawn = rng.random(len(hard))
    return [
        _cell(one, row, float(values[row]), float(drawn[row]), rng, scored, answers)
        for row in range(len(hard))
    ]


def _cell(
    one: Made,
    row: int,
    value: float,
    drawn: float,
    rng: np.random.Generator,
    scored: bool,
    answers: Sequence[str],
) -> Cell:
    spread = float(rng.lognormal(0, 0.4))
    failed, refused = drawn < one.failing, drawn > 1 - one.refusing
    money = None if one.cost is None else 0 if failed else int(one.cost * spread * PER_UNIT)
    text = (
        answers[(row + len(one.name)) % len(answers)]
        if answers
        else f"It is {row + (value > 0.5)}."
    )
    answer = Answer(
        key=f"{one.name}:{row}",
        example=f"e{row}",
        endpoint=one.name,
        sample=0,
        status="failed" if failed else "refused" if refused else "answered",
        text="" if failed else text,
        code="upstream_timeout" if failed else "length" if row % 50 == 7 else "stop",
        money=money,
        seconds=one.seconds * spread,
        time=1_790_000_000.0,
        first_seconds=one.seconds * spread / 3,
        prompt_tokens=100 + row % 40,
        completion_tokens=40 + row % 20,
    )
    if failed or not scored:
        return Cell(answer)
    return Cell(answer, Score(0.0 if refused else value, f"read: {row}"))


def _judged(found: Comparison, table: Table) -> Comparison:
    """With verdicts of a judge that is drawn to the first place and else goes by the scores."""
    rng = np.random.default_rng(1)
    pairs = []
    for pair in found.pairs:
        a, b = ([_value(cell) for cell in table.column(name)] for name in (pair.a, pair.b))
        base, pull = 0.5 + (np.array(a) - np.array(b)) / 2.5, 0.1 * rng.random(len(a))
        clusters = [one.cluster or one.id for one in table.examples]
        told = both_orders(
            np.clip(base + pull, 0, 1), np.clip(base - pull, 0, 1), clusters=clusters
        )
        pairs.append(replace(pair, judged=told))
    return replace(found, pairs=tuple(pairs), judge=found.endpoints[0].name)


def _value(cell: Cell) -> float:
    return float("nan") if cell.score is None else cell.score.value
