"""From rows to examples: what the columns of a file of outcomes mean (docs/outcomes.md).

A row is a whole example (an object `endpoints`, or columns `ENDPOINT.FIELD`), or one endpoint's answer to it
(a column `endpoint`). Columns of other names are left alone, unless they look like a known one misspelt.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from daulat.route.learning import cells
from daulat.route.learning.cells import NUMBERS, Place, fail
from daulat.route.learning.files import Row

MAX_EXAMPLES: Final = 1_000_000
MAX_ENDPOINTS: Final = 32
FIELDS: Final = ("answer", *NUMBERS, "samples", "probe")
"""What is known of one endpoint's answer to one example."""
ABOUT: Final = ("id", "category", "cluster")
_NEAR: Final = 0.8
"""The similarity of `scroe` and `score`, by difflib."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one endpoint answered to one example. NaN: not known."""

    answer: str | None = None
    score: float = math.nan
    cost: float = math.nan
    seconds: float = math.nan
    logprob: float = math.nan
    samples: tuple[str, ...] = ()
    probe: tuple[float, ...] = ()


@dataclass(slots=True)
class Example:
    """A prompt with the cells of the endpoints that answered it; `place` is where it began."""

    place: Place
    prompt: str
    id: str
    category: str
    cluster: str
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])


def examples(rows: Iterable[tuple[Place, Row]]) -> list[Example]:
    """The examples of a file, in their order.

    Raises:
        DataError: a row lacks something, has something out of bounds, or contradicts another.
    """
    found: list[Example] = []
    gathered = _Gathered()
    for place, row in rows:
        one = _about(row, place)
        if "endpoint" in row:
            _long(one, row)
            one = gathered.merge(one)
        elif "endpoints" in row:
            _misspelt(row, (*ABOUT, "endpoints"), place)
            _nested(one, row["endpoints"])
        else:
            _flat(one, row)
        if one is not None:
            found.append(one)
        if len(found) > MAX_EXAMPLES:
            fail(place, f"there are more than {MAX_EXAMPLES:,} examples. Take a sample of them.")
    gathered.check()
    return found


def _about(row: Row, place: Place) -> Example:
    prompt = cells.text(row.get("prompt"), place.at("prompt"))
    if prompt is None or not prompt.strip():
        fail(
            place.at("prompt"), "there is no prompt. Every row needs a column `prompt` with a text."
        )
    about = {name: cells.name(row.get(name), place.at(name)) for name in ABOUT}
    return Example(place, prompt, about["id"], about["category"], about["cluster"])


def _long(one: Example, row: Row) -> None:
    _misspelt(row, (*ABOUT, *FIELDS), one.place)
    name = _endpoint(row["endpoint"], one.place.at("endpoint"))
    one.cells[name] = _cell(row, one.place, "")


def _nested(one: Example, value: Any) -> None:
    place = one.place.at("endpoints")
    if not isinstance(value, dict) or not value:
        fail(place, 'this must be an object like {"gpt-4": {"answer": "B", "score": 1}}.')
    for name, about in cast("dict[str, Any]", value).items():
        at = one.place.at(name)
        if not isinstance(about, dict):
            fail(at, 'this must be an object like {"answer": "B", "score": 1}.')
        fields = cast("dict[str, Any]", about)
        _misspelt(fields, FIELDS, at)
        one.cells[_endpoint(name, place)] = _cell(fields, one.place, f"{name}.")


def _flat(one: Example, row: Row) -> None:
    split: dict[str, dict[str, Any]] = {}
    plain: list[str] = []
    for column, value in row.items():
        name, _, part = column.rpartition(".")
        if name:
            split.setdefault(name, {})[part] = value
        else:
            plain.append(column)
    _misspelt(plain, (*ABOUT, "endpoint", "endpoints"), one.place)
    for name, fields in split.items():
        at = f"{name}."
        _misspelt(fields, FIELDS, one.place, at)
        if any(part in FIELDS for part in fields):
            one.cells[_endpoint(name, one.place.at(at))] = _cell(fields, one.place, at)


def _cell(fields: Mapping[str, Any], place: Place, prefix: str) -> Cell:
    at = {part: place.at(prefix + part) for part in FIELDS}
    numbers = {part: cells.number(fields.get(part), part, at[part]) for part in NUMBERS}
    return Cell(
        cells.text(fields.get("answer"), at["answer"]),
        samples=cells.samples(fields.get("samples"), at["samples"]),
        probe=cells.probe(fields.get("probe"), at["probe"]),
        **numbers,
    )


def _endpoint(value: Any, place: Place) -> str:
    name = cells.name(value, place)
    if not name:
        fail(place, "the endpoint has no name. Give it one, such as gpt-4.")
    return name


def _misspelt(
    columns: Iterable[str], known: tuple[str, ...], place: Place, prefix: str = ""
) -> None:
    """Refuse a name that nearly is a known one: else it would be passed over without a word."""
    for column in columns:
        if column in known or column == "prompt":
            continue
        near = difflib.get_close_matches(column.strip().lower(), known, 1, _NEAR)
        if near and near not in (["id"], ["probe"]):  # `idx` and `prob` are as near, and usual
            there = place.at(prefix + column)
            fail(
                there, f"there is no such column. Rename it to {prefix + near[0]!r}, or remove it."
            )


class _Gathered:
    """Rows of one endpoint each, put together: by id, else by prompt.

    A prompt that occurs several times without ids is several examples, the first answer of each endpoint
    belonging to the first; that is only sound where every endpoint answered it equally often.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[Example]] = {}
        self._answered: Counter[tuple[tuple[str, str], str]] = Counter()

    def merge(self, row: Example) -> Example | None:
        """The row as a new example, or None where it went into one that there is."""
        (name,) = row.cells
        key = ("id", row.id) if row.id else ("prompt", row.prompt)
        same = self._known.setdefault(key, [])
        times = self._answered[key, name]
        self._answered[key, name] += 1
        if times and row.id:
            fail(
                row.place.at("endpoint"),
                f"{name!r} has answered the example {row.id!r} already. Keep one row, or put further "
                "answers into `samples`.",
            )
        if times == len(same):
            same.append(row)
            return row
        _agree(same[times], row)
        same[times].cells.update(row.cells)
        return None

    def check(self) -> None:
        for (kind, _), same in self._known.items():
            if kind == "prompt" and any(one.cells.keys() != same[0].cells.keys() for one in same):
                fail(
                    same[-1].place.at("prompt"),
                    "the same prompt occurs several times, and not equally often for each endpoint, so "
                    "nothing says which answers belong together. Add a column `id`.",
                )


def _agree(into: Example, row: Example) -> None:
    for about in ("prompt", *ABOUT):
        old, new = getattr(into, about), getattr(row, about)
        if old and new and old != new:
            fail(
                row.place.at(about),
                f"the same example has another {about} in line {into.place.line}. Make them equal.",
            )
        if new and not old:
            setattr(into, about, new)


def check_probes(found: Iterable[Example]) -> None:
    """Hold the probes of each endpoint to one length.

    Raises:
        DataError: two of them have different lengths.
    """
    first: dict[str, tuple[int, Place]] = {}
    for one in found:
        for name, cell in one.cells.items():
            length, place = first.setdefault(name, (len(cell.probe), one.place))
            if not length:
                first[name] = len(cell.probe), one.place
            elif cell.probe and len(cell.probe) != length:
                fail(
                    one.place.at(f"{name}.probe"),
                    f"the probe has {len(cell.probe)} numbers, the one in {place.unit} {place.line} has "
                    f"{length}. All probes of an endpoint are equally long.",
                )


def endpoints(found: Iterable[Example]) -> Iterator[str]:
    """The endpoints' names in the order in which the file names them."""
    seen: dict[str, None] = {}
    for one in found:
        for name in one.cells:
            if name not in seen:
                seen[name] = None
                yield name
