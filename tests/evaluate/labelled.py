"""Tasks with answers, ready to be labelled, and people who label them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from daulat.evaluate.examples import Chosen, Example, Task
from daulat.evaluate.judges.verdicts import Scale
from daulat.evaluate.labels.book import Kind, Label, answer_digest
from daulat.evaluate.labels.desk import Desk
from daulat.evaluate.labels.sheet import Item, Sheet, items
from daulat.evaluate.tasks import OUTCOMES, Tasks
from daulat.route.learning.outcomes import Outcomes, write
from daulat.values.request import Message

ENDPOINTS = ("good", "poor")


def table(
    answers: Sequence[Sequence[str | None]],
    scores: np.ndarray,
    endpoints: Sequence[str] = ENDPOINTS,
) -> Outcomes:
    """[n][k] answers with [n, k] scores."""
    n, k = scores.shape
    unknown = np.full((n, k), np.nan)
    ids = tuple(f"e{row}" for row in range(n))
    return Outcomes(
        endpoints=tuple(endpoints),
        ids=ids,
        prompts=tuple(f"Question {row}?" for row in range(n)),
        answers=tuple(map(tuple, answers)),
        scores=scores,
        costs=unknown,
        seconds=unknown,
        categories=("",) * n,
        clusters=ids,
        logprobs=unknown,
        samples=tuple(((),) * k for _ in range(n)),
        probes=tuple(((),) * k for _ in range(n)),
    )


def add_task(
    home: Path,
    name: str,
    outcomes: Outcomes | None,
    metric: Chosen | None = None,
    references: Sequence[str] = (),
) -> Path:
    """A task of these outcomes in a home; its folder."""
    home.mkdir(mode=0o700, exist_ok=True)
    examples = [
        Example(own, (Message("user", prompt),), (references[i],) if references else ())
        for i, (own, prompt) in enumerate(
            zip(outcomes.ids, outcomes.prompts, strict=True)
            if outcomes
            else [("e0", "Question 0?")]
        )
    ]
    tasks = Tasks(home)
    task = Task(name, "2026-01-01T00:00:00Z", {"file": "x.jsonl"}, {}, metric or Chosen(), 1, "")
    tasks.add(task, examples)
    if outcomes is not None:
        write(outcomes, tasks.folder(name) / OUTCOMES)
    return tasks.folder(name)


def answered(n: int, endpoints: Sequence[str] = ENDPOINTS) -> Outcomes:
    """Answers that name nobody, each another text."""
    scores = np.linspace(0, 1, n * len(endpoints)).reshape(n, len(endpoints))
    answers = [[f"text {row}-{column}" for column in range(len(endpoints))] for row in range(n)]
    return table(answers, scores, endpoints)


def label_all(desk: Desk, say: Callable[[Item], float | None]) -> int:
    """Label until nothing is left; how many the person was asked."""
    asked = 0
    while (item := desk.next()) is not None:
        desk.put(item, say(item), 1.0)
        asked += 1
    return asked


def said(
    found: Sheet,
    kind: Kind,
    n: int,
    say: Callable[[Item], float | None],
    by: str = "ana",
    seed: int = 0,
) -> list[Label]:
    """The labels of a whole session, without a file."""
    shown = [
        item
        for place, row in enumerate(found.order(seed)[:n])
        for item in items(found, kind, by, seed, n, row, place)
    ]
    return [
        Label(
            id=f"label-{by}-{number}",
            time="2026-01-01T00:00:00Z",
            by=by,
            key="",
            kind=kind,
            example=item.example,
            endpoints=item.endpoints,
            answers=tuple(map(answer_digest, item.answers)),
            value=say(item),
            scale=str(Scale()) if kind == "score" else "",
            draw=item.draw,
            automatic=False,
            seconds=1.0,
        )
        for number, item in enumerate(shown)
    ]


def in_memory(outcomes: Outcomes) -> Sheet:
    """What can be labelled of a table."""
    return Sheet("t", Path("/nowhere"), outcomes, {}, 0, "pairwise", Scale())
