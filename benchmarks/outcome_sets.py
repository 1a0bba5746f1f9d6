"""Public outcomes as tables: RouteLLM's MMLU, GSM8K and MT-Bench, and MMLU-Pro's stored answers.

The files are not part of this project; `SOURCE.md` beside each names repository, commit and licence. Prompts
that RouteLLM's authors found in their training data are left out, as they do.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daulat.route.learning.outcomes import Outcomes

WEAK, STRONG = "mixtral-8x7b", "gpt-4-1106"
GPT4O = "gpt-4o-2024-05-13"
_LETTERS = "ABCDEFGHIJ"


def table(
    endpoints: Sequence[str],
    ids: Sequence[str],
    prompts: Sequence[str],
    scores: Sequence[Sequence[float]],
    answers: Sequence[Sequence[str | None]] | None = None,
    categories: Sequence[str] | None = None,
) -> Outcomes:
    """A table of which costs and times are not known."""
    n, k = len(ids), len(endpoints)
    unknown = np.full((n, k), np.nan)
    return Outcomes(
        endpoints=tuple(endpoints),
        ids=tuple(ids),
        prompts=tuple(prompts),
        answers=tuple(map(tuple, answers)) if answers else ((None,) * k,) * n,
        scores=np.array(scores, np.float64),
        costs=unknown,
        seconds=unknown,
        categories=tuple(categories or [""] * n),
        clusters=tuple(ids),
        logprobs=unknown,
        samples=(((),) * k,) * n,
        probes=(((),) * k,) * n,
    )


def _lines(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    yield from map(json.loads, text.splitlines())


def _contaminated(folder: Path) -> set[str]:
    return {line["eval_prompt"] for line in _lines(folder / "contaminated_prompts.jsonl")}


def _rows(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(1 << 27)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def mmlu(data: Path) -> Outcomes:
    """RouteLLM's MMLU: prompts and which model was right; the subject is the category."""
    folder = data / "routellm" / "mmlu"
    left_out = _contaminated(folder)
    prompts, scores, subjects = [], [], []
    for path in sorted((folder / "responses").glob("*.csv")):
        for prompt, weak, strong in _rows(path):
            if prompt not in left_out:
                prompts.append(prompt)
                scores.append([weak == "True", strong == "True"])
                subjects.append(path.stem.removeprefix("mmlu_"))
    return table((WEAK, STRONG), _numbered(prompts), prompts, scores, categories=subjects)


def gsm8k(data: Path) -> Outcomes:
    """RouteLLM's GSM8K: with the texts of both models' answers."""
    folder = data / "routellm" / "gsm8k"
    left_out = _contaminated(folder)
    rows = [row for row in _rows(folder / "gsm8k_responses.csv") if row[0] not in left_out]
    return table(
        (WEAK, STRONG),
        _numbered(rows),
        [row[0] for row in rows],
        [[row[1] == "True", row[2] == "True"] for row in rows],
        [row[3:5] for row in rows],
    )


def mt_bench(data: Path) -> Outcomes:
    """RouteLLM's MT-Bench: the judge's marks of both turns, a tenth each of their mean, by question."""
    folder = data / "routellm" / "mt_bench"
    left_out = _contaminated(folder)
    marks: dict[tuple[int, bool], list[float]] = {}
    for line in _lines(folder / "judgements.jsonl"):
        key = (line["question_id"], line["model"].startswith("gpt-4"))
        marks.setdefault(key, []).append(line["score"] / 10)
    kept = [
        one for one in _lines(folder / "question.jsonl") if not left_out.intersection(one["turns"])
    ]
    numbers = [one["question_id"] for one in kept]
    scores = [[float(np.mean(marks[i, dear])) for dear in (False, True)] for i in numbers]
    return table(
        (WEAK, STRONG), [str(i) for i in numbers], [one["turns"][0] for one in kept], scores
    )


def stored(data: Path, model: str) -> dict[int, Any]:
    """MMLU-Pro's stored answers of a model, by the question's number."""
    path = data / "mmlu_pro" / f"{model}.jsonl.gz"
    return {line["question_id"]: line for line in _lines(path)}


def mmlu_pro(data: Path, weak: str) -> Outcomes:
    """MMLU-Pro with the answers of an open model and gpt-4o; what could not be parsed is wrong."""
    cheap, dear = stored(data, weak), stored(data, GPT4O)
    numbers = sorted(cheap)
    both = [(cheap[i], dear[i]) for i in numbers]
    return table(
        (weak, GPT4O),
        [str(i) for i in numbers],
        [_asked(one) for one, _other in both],
        [[one["pred"] == one["answer"] for one in pair] for pair in both],
        [[one["text"] for one in pair] for pair in both],
        [one["category"] for one, _other in both],
    )


def _asked(one: Any) -> str:
    options = zip(_LETTERS, one["options"], strict=False)
    return "\n".join([one["question"], *(f"{letter}. {option}" for letter, option in options)])


def _numbered(rows: Sequence[Any]) -> list[str]:
    return [str(number) for number in range(len(rows))]
