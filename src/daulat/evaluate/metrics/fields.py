"""`json`: how many of a JSON reference's fields an answer has right.

The answer's object is the last fenced block of JSON, else the last object that stands in the text. Fields are
the leaves of the reference, by their paths (`address.city`, `items.0.name`); an empty object or list is a
leaf. A text is right if `exact` would say so, a number if its value is the same, all else if it is equal.
Further fields of the answer do not count. `fields=a,b.c` compares those alone, `all=yes` gives 1 for all of
them and else 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from daulat.errors import RequestError
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, references_of
from daulat.evaluate.metrics.texts import normal

_FENCE: Final = re.compile(r"```[a-zA-Z0-9]*\s*\n(.*?)```", re.DOTALL)
_MOST_STARTS: Final = 1_000
_MISSING: Final = object()


def read(answer: str) -> Any:
    """The JSON object or list in an answer; None: there is none."""
    for block in reversed(_FENCE.findall(answer)):
        if (found := _loaded(block.strip())) is not None:
            return found
    whole = _loaded(answer.strip())
    return whole if whole is not None else _last(answer)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its path."""
    inner: Mapping[str, Any] = {}
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
    elif isinstance(value, list):
        inner = {str(i): one for i, one in enumerate(cast("list[Any]", value))}
    if not inner:
        yield path, value
    for name, one in inner.items():
        yield from leaves(one, f"{path}.{name}" if path else name)


def _loaded(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("Any", found) if isinstance(found, dict | list) else None


def _last(text: str) -> Any:
    """The last object in a text that is not part of another."""
    decoder, at, found = json.JSONDecoder(), 0, None
    for _ in range(_MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            break
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
    return found


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) and isinstance(theirs, str):
        return normal(ours) == normal(theirs)
    # True is 1 to Python, and another value to JSON.
    return isinstance(ours, bool) == isinstance(theirs, bool) and ours == theirs


def _make(options: Mapping[str, str], _tools: Tools) -> Scorer:
    wanted = [name.strip() for name in options["fields"].split(",") if name.strip()]
    every = options["all"] == "yes"

    def score(example: Example, answer: str) -> Score:
        said = read(answer)
        return max(
            (
                _score(said, _expected(one, wanted, example.id), every=every)
                for one in references_of(example, "json")
            ),
            key=lambda found: found.value,
        )

    return score


def _expected(reference: str, wanted: list[str], name: str) -> dict[str, Any]:
    told = _loaded(reference.strip())
    if told is None:
        raise RequestError(
            f"The example {name}: the reference is no JSON object. Name another column with --reference."
        )
    expected = dict(leaves(told))
    if not wanted:
        return expected
    chosen = {
        n: v for n, v in expected.items() if any(n == w or n.startswith(f"{w}.") for w in wanted)
    }
    if not chosen:
        raise RequestError(
            f"The example {name}: the reference has none of the fields {', '.join(wanted)[:200]}.",
            param="option",
        )
    return chosen


def _score(said: Any, expected: Mapping[str, Any], *, every: bool) -> Score:
    if said is None:
        return Score(0.0, "no JSON")
    ours = dict(leaves(said))
    wrong = [name for name, value in expected.items() if not _same(ours.get(name, _MISSING), value)]
    share = 1.0 - len(wrong) / len(expected)
    detail = "wrong: " + ", ".join(name or "all of it" for name in wrong[:10]) if wrong else ""
    return Score(float(not wrong) if every else share, detail)


JSON: Final = Metric(
    "json",
    "fields of a JSON object that are right",
    _make,
    {
        "fields": Option("", "names of the fields that count, with commas between; empty: all"),
        "all": Option("no", "yes: 1 for all of them, else 0", ("yes", "no")),
    },
)
