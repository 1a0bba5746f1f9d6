"""What a table of answers says, worked out by hand; and every table that there may be gets a report."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.evaluate import reports
from daulat.evaluate.answers import Answer, Status
from daulat.evaluate.comparing import About, Cell, Comparison, Known, Table, compare, outcomes
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Score
from daulat.evaluate.reports import keeping
from daulat.evaluate.reports.figures import Figures
from daulat.evaluate.reports.words import Words
from daulat.route.learning.outcomes import read, write
from daulat.values.money import PER_UNIT
from daulat.values.request import Message

ABOUT = About(
    "0" * 12, "t", "sha256:0", {"name": "exact", "options": {}}, {"concurrency": 4}, "now", "USD"
)


def example(number: int, **more: Any) -> Example:
    text = "word " * (1 + number % 7)
    return Example(str(number), (Message("user", f"{text}{number}?"),), ("yes",), **more)


def cell(score: float | None, status: Status = "answered", **more: Any) -> Cell:
    usual: dict[str, Any] = {
        "money": PER_UNIT // 100,
        "seconds": 1.0,
        "code": "stop",
        "text": "yes",
    }
    told = {**usual, **more}
    answer = Answer("key", "e", "x", 0, status, time=0.0, **told)
    return Cell(answer, None if score is None else Score(score))


def table(a: list[Cell], b: list[Cell], **more: Any) -> Table:
    examples = tuple(example(i, **more) for i in range(len(a)))
    return Table(("a", "b"), examples, tuple(zip(a, b, strict=True)))


def test_figures_by_hand() -> None:
    a = (
        [cell(1.0)] * 6
        + [cell(0.0)] * 2
        + [cell(None, "failed", code="upstream_timeout", money=5 * 10**9)]
    )
    b = [cell(0.0, money=None)] * 4 + [cell(1.0, "refused", money=None)] * 4 + [Cell()]
    found = compare(table(a, b), ABOUT, {"a": Known(("d",), "us", True)})
    left, right = found.endpoints
    assert left.score is not None
    assert left.delivered is not None
    assert left.cost is not None
    assert left.score.value == 0.75
    assert left.delivered.value == pytest.approx(6 / 9)
    assert left.cost.value == 0.01
    assert left.cost_per_good is not None
    assert left.cost_per_good.value == pytest.approx(0.08 / 6)
    assert left.money == pytest.approx(0.085)
    assert (left.counts.answered, left.counts.failed, left.errors) == (
        8,
        1,
        {"upstream_timeout": 1},
    )
    assert (right.counts.answered, right.counts.refused, right.counts.missing) == (4, 4, 1)
    assert right.score is not None
    assert right.delivered is not None
    assert right.score.value == right.delivered.value == 0.5
    assert (right.cost, right.unpriced) == (None, 8)
    (pair,) = found.pairs
    assert (pair.scores.wins, pair.scores.ties, pair.scores.losses) == (4, 2, 2)
    assert pair.scores.difference.value == pytest.approx(0.25)
    assert pair.kept.value == pytest.approx(1.5)
    assert [one.example for one in found.contrasts] == ["0", "1", "2", "3", "6", "7"]


def test_other_endpoints_first_mirrors_the_difference() -> None:
    a, b = [cell(float(i % 3 == 0)) for i in range(40)], [cell(float(i % 2)) for i in range(40)]
    there, back = compare(table(a, b), ABOUT, {}), compare(table(b, a), ABOUT, {})
    assert there.pairs[0].scores.difference.value == -back.pairs[0].scores.difference.value  # type: ignore[operator]
    assert there.pairs[0].scores.test.p == pytest.approx(back.pairs[0].scores.test.p)


def test_clusters_widen_what_repeats() -> None:
    scores = [cell(float(i < 20)) for i in range(40)]
    alone = compare(table(scores, scores), ABOUT, {}).endpoints[0].score
    examples = tuple(example(i, cluster=f"c{i // 10}") for i in range(40))
    together = Table(("a", "b"), examples, tuple((c, c) for c in scores))
    found = compare(together, ABOUT, {})
    wide = found.endpoints[0].score
    assert alone is not None
    assert wide is not None
    assert (found.clusters, wide.clusters) == (4, 4)
    assert wide.high - wide.low > 1.5 * (alone.high - alone.low)


def test_slices() -> None:
    n = 60
    examples = tuple(
        example(i, category="ab"[i % 2], language="id" if i < 20 else "") for i in range(n)
    )
    cells = tuple((cell(float(i % 2)), cell(1.0)) for i in range(n))
    found = {
        one.by: one for one in compare(Table(("a", "b"), examples, cells), ABOUT, {}).divisions
    }
    assert set(found) == {"category", "length"}
    parts = {part.name: part for part in found["category"].parts}
    assert parts["a"].scores["a"].value == 0
    assert parts["b"].scores["a"].value == 1
    (worse, same) = found["category"].against["b"]
    assert (worse.name, worse.difference.value, worse.adjusted < 0.001) == ("a", -1.0, True)
    assert (same.name, same.difference.value, same.adjusted) == ("b", 0.0, 1.0)
    assert sum(part.examples for part in found["length"].parts) == n


SCORES = st.none() | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
CELLS = st.one_of(
    st.just(Cell()),
    st.builds(
        cell,
        SCORES,
        st.sampled_from(["answered", "refused"]),
        money=st.none() | st.integers(0, 10**13),
        seconds=st.floats(0, 100) | st.just(math.nan),
        first_seconds=st.none() | st.floats(0, 9),
        text=st.text(max_size=20),
    ),
    st.builds(
        cell,
        st.none(),
        st.sampled_from(["barred", "failed"]),
        code=st.just("x"),
        text=st.text(max_size=9),
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_table_gets_a_report(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 3))
    language = data.draw(st.sampled_from(["en", "id"]))
    rows = data.draw(st.lists(st.tuples(*[CELLS] * k), min_size=1, max_size=12))
    examples = tuple(
        example(
            i,
            category=data.draw(st.sampled_from(["", "x", "y"])),
            cluster=data.draw(st.sampled_from(["", "c"])),
        )
        for i in range(len(rows))
    )
    names = tuple("a|`_*[x]"[: 3 + i] for i in range(k))
    found = compare(Table(names, examples, tuple(rows)), ABOUT, {})
    with tempfile.TemporaryDirectory() as folder:
        paths = reports.write(found, Path(folder), language)
        told = json.loads(paths.json.read_bytes())
        assert told["schema"] == "daulat.comparison/1"
        assert [one["name"] for one in told["endpoints"]] == list(names)
        assert keeping.read(paths.json) == found
        assert paths.html.read_text(encoding="utf-8").startswith("<!doctype html>")
        assert paths.markdown.read_text(encoding="utf-8").startswith("# ")
    _check_counts(found, len(rows))


def _check_counts(found: Comparison, wanted: int) -> None:
    for side in found.endpoints:
        counts = side.counts
        parts = (counts.answered, counts.refused, counts.barred, counts.failed, counts.missing)
        assert sum(parts) == counts.wanted == wanted


def test_a_table_becomes_outcomes_and_comes_back(tmp_path: Path) -> None:
    a = [
        replace(cell(1.0, text="yes", logprob=-0.5), samples=("yes", "no")),
        cell(0.25, "refused", text="I will not."),
        cell(None, "failed"),
        Cell(),
    ]
    b = [cell(0.0, money=None), cell(None, "barred"), Cell(), Cell()]
    found = outcomes(table(a, b, cluster="c"))
    assert found.ids == ("0", "1")
    assert found.answers == (("yes", "yes"), ("I will not.", None))
    assert found.samples[0][0] == ("yes", "no")
    assert found.scores.tolist()[0] == [1.0, 0.0]
    assert math.isnan(found.scores[1, 1])
    assert (found.costs[0, 0], math.isnan(found.costs[0, 1])) == (0.01, True)
    assert found.clusters == ("c", "c")
    write(found, tmp_path / "x.jsonl")
    assert read(tmp_path / "x.jsonl").digest() == found.digest()


def test_words_for_money() -> None:
    amounts = (0, 1234.5, 12.346, 0.5, 0.01234, 0.0000123)
    english, indonesian = (Figures(Words(language)) for language in ("en", "id"))
    assert [english.money(one) for one in amounts] == [
        *("0", "1,234.50", "12.35", "0.500", "0.0123", "0.0000123")
    ]
    assert indonesian.money(1234.5) == "1.234,50"
