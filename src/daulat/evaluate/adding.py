"""A task out of a file or of recorded traffic, ready to be looked at and to be kept.

Not here: forms of files (`rows`), which column is what (`columns`), keeping (`tasks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daulat.errors import DataError, RequestError
from daulat.evaluate import metrics, rows
from daulat.evaluate.columns import LOOKED_AT, Columns, Maker, guess, guess_metric, whole
from daulat.evaluate.examples import Chosen, Example, Task
from daulat.evaluate.filling import value_at
from daulat.evaluate.metrics import own
from daulat.evaluate.recorded import ANSWER, Wanted, recorded
from daulat.record import Record
from daulat.route.learning.outcomes import Outcomes, read
from daulat.values.request import Message

NO_METRIC = "none"
"""Said of a metric: answers are not judged."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A task that is not kept yet.

    Attributes:
        task: its digest is filled in when it is kept.
        columns: what was taken for what; None: it is not from a file of examples.
        outcomes: answers and scores that came with the examples.
        guessed: the metric was chosen by the form of the references.
        left_out: how many examples were left out, and why.
    """

    task: Task
    examples: tuple[Example, ...]
    columns: Columns | None = None
    outcomes: Outcomes | None = None
    guessed: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])


def from_file(
    name: str, path: Path, given: Columns, metric: Chosen | None = None, data_class: str = ""
) -> Draft:
    """A task from a file of examples, or of outcomes (docs/outcomes.md), whose answers and scores it keeps.

    Args:
        given: what the user says of columns; the rest is guessed.
        metric: None: to be guessed.
        data_class: of all its texts.

    Raises:
        DataError: the file cannot be read as examples.
        RequestError: the metric is none, or cannot judge them.
    """
    found = rows.read(path)
    first = list(itertools.islice(found, LOOKED_AT))
    if not first:
        raise DataError(f"{path.name} has no rows.")
    if _answered(first):
        return _from_outcomes(name, path, metric, data_class)
    columns = guess(first, given)
    _check(columns, first, path)
    maker = Maker(columns, data_class)
    examples = whole((maker.example(row) for row in itertools.chain(first, found)), path.name)
    source = {"file": path.name, "digest": rows.digest(path)}
    if data_class:
        source["class"] = data_class
    return replace(_draft(name, source, columns.told(), examples, metric), columns=columns)


def _answered(first: Sequence[rows.Row]) -> bool:
    """Whether it is a file of outcomes, by its columns."""
    there = {name for row in first for name in row.values}
    flat = any(name.rpartition(".")[0] and name.endswith((".score", ".answer")) for name in there)
    return "prompt" in there and (flat or "endpoints" in there or "endpoint" in there)


def _from_outcomes(name: str, path: Path, metric: Chosen | None, data_class: str) -> Draft:
    """A given score stands; an answer without one is scored by the metric, where one is named."""
    found = read(path)
    told = zip(found.ids, found.prompts, found.categories, found.clusters, strict=True)
    examples = [
        Example(own, (Message("user", prompt),), (), category, cluster, "", data_class)
        for own, prompt, category, cluster in told
    ]
    source = {"file": path.name, "digest": rows.digest(path), "outcomes": found.digest()}
    draft = _draft(name, source, {}, whole(examples, path.name), metric or Chosen())
    task = replace(draft.task, imported=found.endpoints)
    return replace(draft, task=task, outcomes=found)


def from_record(
    name: str, record: Record, wanted: Wanted, reference: str = "", metric: Chosen | None = None
) -> Draft:
    """A task from recorded traffic.

    Args:
        reference: `answer`: what was answered then is taken for right; empty: nobody says what is right.

    Raises:
        RequestError: nothing that is wanted is there, or the metric is none.
        RecordError: the record cannot be read.
    """
    if reference not in ("", ANSWER):
        raise RequestError(
            f"Recorded traffic has no column {reference[:80]!r}: `--reference answer` takes what was answered "
            "for right.",
            param="reference",
        )
    found = recorded(record, wanted)
    examples = list(found.examples)
    if not examples:
        why = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise RequestError(
            "The record has no exchange that can be asked again"
            + (f" ({why})" if why else "")
            + ". `daulat record show` lists what it has; choose with --model, --key, --project, --since."
        )
    if reference:
        examples = [replace(e, references=(str(e.fields[ANSWER]),)) for e in examples]
    source = {"record": wanted.told()}
    columns = {"reference": ANSWER} if reference else {}
    draft = _draft(name, source, columns, whole(examples, "The record"), metric)
    return replace(draft, left_out={**found.left_out, **draft.left_out})


def _draft(
    name: str,
    source: Mapping[str, Any],
    columns: Mapping[str, str],
    examples: Sequence[Example],
    metric: Chosen | None,
) -> Draft:
    chosen = guess_metric(examples) if metric is None else metric
    if chosen.name == NO_METRIC:
        chosen = Chosen()
    kept, left_out = _judged(examples, chosen)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if own.is_named(chosen.name):
        file, _colon, function = chosen.name.rpartition(":")
        chosen = replace(chosen, name=f"{Path(file).absolute()}:{function}")
    task = Task(name, now, source, columns, chosen, len(kept), "")
    return Draft(task, tuple(kept), guessed=metric is None and bool(chosen.name), left_out=left_out)


def _judged(
    examples: Sequence[Example], chosen: Chosen
) -> tuple[Sequence[Example], dict[str, int]]:
    """The examples that the metric can judge.

    Raises:
        RequestError: it can judge none, or what it compares with is not of its form.
    """
    if not chosen.name:
        return examples, {}
    judge = metrics.scorer(chosen)
    row = metrics.metric(chosen.name)
    kept = [e for e in examples if e.references] if row.references else examples
    if not kept:
        raise RequestError(
            f"The metric {row.name} compares with references, and no example has one. Name their column with "
            "--reference, or choose `--metric none` to compare costs and times alone."
        )
    if row.references:
        for example in kept:
            # What an empty answer is worth does not matter: a reference that is of the wrong form shows.
            judge(example, "")
    left = len(examples) - len(kept)
    return kept, {"without a reference": left} if left else {}


def _check(columns: Columns, first: Sequence[rows.Row], path: Path) -> None:
    """Every column that the user named must be there.

    Raises:
        DataError: one is not.
    """
    there = list(dict.fromkeys(name for row in first for name in row.values))
    for option, name in columns.told().items():
        if option in ("template", "system"):
            continue
        if name not in there and all(value_at(row.values, name) is None for row in first):
            raise DataError(
                f"{path.name} has no column {name!r}, which --{option} names. It has: "
                f"{', '.join(there)[:500]}."
            )
