"""Outcomes: what several endpoints answered to the same examples, how good it was and what it cost.

The one table that routers, certificates and backtests are made from. docs/outcomes.md is its format as a file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daulat.canon import canonical
from daulat.errors import DataError, NotFoundError
from daulat.route.learning.assembling import (
    MAX_ENDPOINTS,
    Cell,
    Example,
    check_probes,
    endpoints,
    examples,
)
from daulat.route.learning.cells import fail
from daulat.route.learning.files import rows, write_whole

FloatArray = NDArray[np.float64]

_ARRAYS = {"score": "scores", "cost": "costs", "seconds": "seconds", "logprob": "logprobs"}
_LISTS = ("ids", "prompts", "answers", "categories", "clusters", "samples", "probes")
_ROWS = ("answers", "samples", "probes")


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What k endpoints answered to the same n examples.

    Attributes:
        endpoints: their names, k, all different.
        ids: n names, all different.
        prompts: n texts.
        answers: [n][k], None: not known.
        scores: [n, k] in [0, 1], NaN: missing.
        costs: [n, k] money an answer, NaN: not known.
        seconds: [n, k], NaN: not known.
        categories: n names, empty where none is given.
        clusters: n names; examples of one document or session share one, others have their id.
        logprobs: [n, k] mean log-probability of the answer's tokens, NaN: not known.
        samples: [n][k] further answers of the same endpoint, for self-agreement.
        probes: [n][k] figures of the hidden states behind an answer, for one endpoint always as many; empty:
            not known.
    """

    endpoints: tuple[str, ...]
    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[tuple[str | None, ...], ...]
    scores: FloatArray
    costs: FloatArray
    seconds: FloatArray
    categories: tuple[str, ...]
    clusters: tuple[str, ...]
    logprobs: FloatArray
    samples: tuple[tuple[tuple[str, ...], ...], ...]
    probes: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        n, k = len(self.ids), len(self.endpoints)
        arrays = (self.scores, self.costs, self.seconds, self.logprobs)
        lists = tuple(getattr(self, name) for name in _LISTS)
        if any(array.shape != (n, k) for array in arrays) or any(len(x) != n for x in lists):
            raise ValueError(
                f"outcomes of {n} examples and {k} endpoints need that shape throughout"
            )
        if len(set(self.ids)) != n or len(set(self.endpoints)) != k:
            raise ValueError("two examples have one id, or two endpoints one name")
        if any(len({len(one) for one in column if one}) > 1 for column in self._probe_columns()):
            raise ValueError("the probes of an endpoint have different lengths")

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """`sha256:` and the SHA-256 of the endpoints and all examples, each as canonical JSON on a line."""
        sums = hashlib.sha256(canonical(self.endpoints) + b"\n")
        for line in self.lines():
            sums.update(canonical(line) + b"\n")
        return "sha256:" + sums.hexdigest()

    def take(self, rows: ArrayLike) -> Outcomes:
        """The examples of these row numbers, or where a mask is true, in that order.

        Raises:
            IndexError: there is no such row.
            ValueError: a row is taken twice.
        """
        chosen = np.arange(len(self))[np.asarray(rows)] if np.size(rows) else np.arange(0)
        kept = {name: getattr(self, name)[chosen] for name in _ARRAYS.values()}
        lists = {name: tuple(getattr(self, name)[i] for i in chosen) for name in _LISTS}
        return replace(self, **kept, **lists)

    def only(self, endpoints: Sequence[str]) -> Outcomes:
        """All examples with these endpoints alone, in that order.

        Raises:
            NotFoundError: there is no such endpoint.
        """
        columns = [self.column(name) for name in endpoints]
        kept = {name: getattr(self, name)[:, columns] for name in _ARRAYS.values()}
        lists = {
            name: tuple(tuple(row[c] for c in columns) for row in getattr(self, name))
            for name in _ROWS
        }
        return replace(self, endpoints=tuple(endpoints), **lists, **kept)

    def with_whole_probes(self) -> Outcomes:
        """The same, without the probes of an endpoint that lack some: where an example with its score has none.

        A router would else learn who was asked when, and not what the states say.
        """
        lacking = [
            any(column) and not all(one for one, known in zip(column, scored, strict=True) if known)
            for column, scored in zip(self._probe_columns(), ~np.isnan(self.scores.T), strict=True)
        ]
        if not any(lacking):
            return self
        probes = tuple(
            tuple(() if lacks else one for one, lacks in zip(row, lacking, strict=True))
            for row in self.probes
        )
        return replace(self, probes=probes)

    def _probe_columns(self) -> list[tuple[tuple[float, ...], ...]]:
        return [tuple(row[c] for row in self.probes) for c in range(len(self.endpoints))]

    def column(self, endpoint: str) -> int:
        """The number of an endpoint's column.

        Raises:
            NotFoundError: there is no such endpoint.
        """
        if endpoint not in self.endpoints:
            there = ", ".join(self.endpoints)
            raise NotFoundError(f"No endpoint {endpoint!r} in these outcomes. There are: {there}.")
        return self.endpoints.index(endpoint)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each example as an object of JSON, as docs/outcomes.md has it."""
        for i, own in enumerate(self.ids):
            about = {"id": own, "prompt": self.prompts[i]}
            if self.categories[i]:
                about["category"] = self.categories[i]
            if self.clusters[i] != own:
                about["cluster"] = self.clusters[i]
            yield {
                **about,
                "endpoints": {e: self._cell(i, c) for c, e in enumerate(self.endpoints)},
            }

    def _cell(self, row: int, column: int) -> dict[str, Any]:
        cell: dict[str, Any] = {}
        if (answer := self.answers[row][column]) is not None:
            cell["answer"] = answer
        for name, array in _ARRAYS.items():
            value = float(getattr(self, array)[row, column])
            if not math.isnan(value):
                cell[name] = value
        if self.samples[row][column]:
            cell["samples"] = list(self.samples[row][column])
        if self.probes[row][column]:
            cell["probe"] = list(self.probes[row][column])
        return cell


def read(path: Path) -> Outcomes:
    """Outcomes from a file: JSON lines, CSV (wide or long) or Parquet (docs/outcomes.md).

    Raises:
        DataError: the file is not there, or not of that form; the message names line, column and remedy.
    """
    found = examples(rows(path))
    check_probes(found)
    if not found:
        raise DataError(f"{path.name} holds no examples. docs/outcomes.md shows the format.")
    names = tuple(endpoints(found))
    if not names:
        raise DataError(
            f"{path.name} says nothing about any endpoint. Name columns like `gpt-4.answer` and `gpt-4.score`, "
            "or add a column `endpoint` (docs/outcomes.md)."
        )
    if len(names) > MAX_ENDPOINTS:
        raise DataError(
            f"{path.name} names {len(names)} endpoints; at most {MAX_ENDPOINTS} are read. If those are not "
            "endpoints, see docs/outcomes.md for how columns are named."
        )
    return _table(found, names)


def _table(found: Sequence[Example], names: tuple[str, ...]) -> Outcomes:
    nothing = Cell()
    table = [[one.cells.get(name, nothing) for name in names] for one in found]
    ids = _ids(found)
    return Outcomes(
        endpoints=names,
        ids=ids,
        prompts=tuple(one.prompt for one in found),
        answers=tuple(tuple(cell.answer for cell in row) for row in table),
        scores=_array(table, lambda cell: cell.score),
        costs=_array(table, lambda cell: cell.cost),
        seconds=_array(table, lambda cell: cell.seconds),
        categories=tuple(one.category for one in found),
        clusters=tuple(one.cluster or own for one, own in zip(found, ids, strict=True)),
        logprobs=_array(table, lambda cell: cell.logprob),
        samples=tuple(tuple(cell.samples for cell in row) for row in table),
        probes=tuple(tuple(cell.probe for cell in row) for row in table),
    )


def _array(table: Sequence[Sequence[Cell]], of: Callable[[Cell], float]) -> FloatArray:
    return np.array([[of(cell) for cell in row] for row in table], np.float64)


def _ids(found: Sequence[Example]) -> tuple[str, ...]:
    """The ids that are given; an example without one is called by its number."""
    seen: dict[str, Example] = {}
    for one in found:
        if one.id and one.id in seen:
            fail(
                one.place.at("id"),
                f"{one.id!r} is the id of the example in {seen[one.id].place.unit} "
                f"{seen[one.id].place.line} already. Make them different, or leave ids out.",
            )
        seen[one.id] = one
    mark = "#"
    while any(own.startswith(mark) for own in seen):
        mark += "#"
    return tuple(one.id or f"{mark}{number}" for number, one in enumerate(found, 1))


def write(outcomes: Outcomes, path: Path) -> None:
    """Outcomes as JSON lines, whole or not at all. `read` gives the same again.

    Raises:
        DataError: the file cannot be written.
    """
    write_whole(path, map(_as_line, outcomes.lines()))


def _as_line(line: dict[str, Any]) -> bytes:
    # What UTF-8 cannot hold, a lone surrogate, becomes its escape in JSON.
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"
