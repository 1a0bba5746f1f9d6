"""MMLU-Pro's accuracies from its stored answers, by category, as a comparison tells them."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from daulat.evaluate import metrics
from daulat.evaluate.answers import Answer
from daulat.evaluate.comparing import About, Cell, Table, compare
from daulat.evaluate.examples import Chosen, Example
from daulat.evaluate.metrics.score import Score
from daulat.values.request import Message

# Right and wrong answers of GPT-4o: TIGER-AI-Lab/MMLU-Pro, eval_results/gpt4o/*_summary.json, commit ff991b5.
# An answer in which no letter is read is drawn, as their script does it.
GPT_4O = {
    "biology": (622, 95),
    "business": (620, 169),
    "chemistry": (837, 295),
    "computer science": (321, 89),
    "economics": (682, 162),
    "engineering": (533, 436),
    "health": (590, 228),
    "history": (267, 114),
    "law": (562, 539),
    "math": (1028, 323),
    "other": (716, 208),
    "philosophy": (350, 149),
    "physics": (970, 329),
    "psychology": (632, 166),
}
MODELS = ("gpt-4o-2024-05-13", "mistral-7b-instruct-v0.2")

needs_data = pytest.mark.skipif(
    "DAULAT_DATA" not in os.environ, reason="DAULAT_DATA names no folder of data"
)


def _rows(model: str) -> dict[int, dict[str, object]]:
    path = Path(os.environ["DAULAT_DATA"]) / "mmlu_pro" / f"{model}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {row["question_id"]: row for row in map(json.loads, file)}


async def _table(models: tuple[str, ...], unread: str) -> Table:
    options = {"reading": "phrase", **({"unread": unread} if unread else {})}
    judge = metrics.scorer(Chosen("choice", options))
    columns = [_rows(model) for model in models]
    examples: list[Example] = []
    cells: list[tuple[Cell, ...]] = []
    for number, row in columns[0].items():
        example = Example(
            str(number),
            (Message("user", str(row["question"])),),
            (str(row["answer"]),),
            category=str(row["category"]),
            fields={"options": row["options"]},
        )
        found: list[Cell] = []
        for model, column in zip(models, columns, strict=True):
            text = str(column[number]["text"])
            answer = Answer("k", str(number), model, 0, "answered", text, "stop", 0, 1.0, 0.0)
            score = await metrics.scored(judge, example, text)
            assert isinstance(score, Score)
            found.append(Cell(answer, score))
        examples.append(example)
        cells.append(tuple(found))
    return Table(models, tuple(examples), tuple(cells))


ABOUT = About("0" * 12, "mmlu-pro", "sha256:0", {"name": "choice", "options": {}}, {}, "now", "USD")


@needs_data
async def test_the_accuracies_by_category_of_gpt_4o() -> None:
    found = compare(await _table(MODELS[:1], "drawn"), ABOUT, {})
    (division,) = [one for one in found.divisions if one.by == "category"]
    told = {part.name: (part.scores[MODELS[0]].value, part.examples) for part in division.parts}
    assert told == {
        name: (pytest.approx(right / (right + wrong)), right + wrong)
        for name, (right, wrong) in GPT_4O.items()
    }
    assert found.endpoints[0].score is not None
    assert round(found.endpoints[0].score.value or 0, 4) == 0.7256


@needs_data
async def test_the_accuracies_by_category_of_the_stored_predictions() -> None:
    """Their script's predictions are read from the same answers; one without a letter counts as wrong."""
    found = compare(await _table(MODELS, ""), ABOUT, {})
    (division,) = [one for one in found.divisions if one.by == "category"]
    for model in MODELS:
        right: Counter[str] = Counter()
        for row in _rows(model).values():
            right[str(row["category"])] += row["pred"] == row["answer"]
        told = {
            part.name: (part.scores[model].value or 0) * part.examples for part in division.parts
        }
        assert told == pytest.approx(dict(right))
    (pair,) = found.pairs
    assert pair.scores.difference.low > 0.4
    assert all(one.adjusted < 0.001 for one in division.against[MODELS[1]])
