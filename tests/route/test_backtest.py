"""Replays against plain sums, and rules from words and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcome_tables import planted

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.route.learning.backtest import replay
from daulat.route.learning.features import extract, seen_in
from daulat.route.learning.fitting import fit
from daulat.route.learning.router import Router
from daulat.route.learning.rules import Always, RandomShare, Routed, parse, read_rules


@pytest.fixture(scope="module")
def router() -> Router:
    return fit(planted(200), "cascade")


def test_one_endpoint_always() -> None:
    table = planted(100)
    found = replay(table, Always("llama"), "closed-1")
    assert found.quality.value == pytest.approx(table.scores[:, 0].mean())
    assert found.kept.value == pytest.approx(table.scores[:, 0].mean() / table.scores[:, 1].mean())
    assert found.behind.value == pytest.approx(
        (table.scores[:, 0] - table.scores[:, 1]).mean(), abs=0.02
    )
    assert found.cost is not None
    assert found.cost.value == 0
    assert found.slow is not None
    assert found.slow.value == 0.5
    assert found.answers == found.asks == (("llama", 1.0), ("closed-1", 0.0))
    same = replay(table, Always("closed-1"), "closed-1")
    assert same.kept.value == 1
    assert same.spending is not None
    assert same.spending.value == 1


def test_a_random_share_is_an_expectation() -> None:
    table = planted(100)
    found = replay(table, RandomShare("llama", "closed-1", 0.25), "closed-1")
    means = table.scores.mean(axis=0)
    assert found.quality.value == pytest.approx(0.75 * means[0] + 0.25 * means[1])
    assert found.spending is not None
    assert found.spending.value == pytest.approx(0.25)
    assert found.seconds is not None
    assert found.seconds.value == pytest.approx(0.75 * 0.5 + 0.25 * 1.5)
    assert found.slow is None


def test_a_cascade_asks_the_first_endpoint_always(router: Router) -> None:
    table = planted(300, seed=2)
    found = replay(table, Routed(router, 0.3), "closed-1")
    needs = router.steps(extract(seen_in(table, "llama"), "cascade")).needs()
    away = needs > router.worth(0.3)
    assert found.quality.value == pytest.approx(
        np.where(away, table.scores[:, 1], table.scores[:, 0]).mean()
    )
    assert dict(found.asks) == pytest.approx({"llama": 1.0, "closed-1": away.mean()})
    assert dict(found.answers) == pytest.approx({"llama": 1 - away.mean(), "closed-1": away.mean()})
    assert found.seconds is not None
    assert found.seconds.value == pytest.approx(0.5 + 1.5 * away.mean())
    assert found.cost is not None
    assert found.cost.value == pytest.approx(0.01 * away.mean())


def test_a_higher_level_costs_more(router: Router) -> None:
    table = planted(300, seed=3)
    costs = [replay(table, Routed(router, x), "closed-1").cost for x in (0, 0.2, 0.5, 0.9, 1)]
    values = [cost.value for cost in costs if cost is not None and cost.value is not None]
    assert len(values) == 5
    assert values == sorted(values)


def test_the_order_of_columns_does_not_matter(router: Router) -> None:
    table = planted(100, seed=4)
    one = replay(table, Routed(router, 0.4), "closed-1")
    other = replay(table.only(["closed-1", "llama"]), Routed(router, 0.4), "closed-1")
    assert one.quality == other.quality
    assert one.cost == other.cost


def test_what_is_missing_is_left_out_and_counted() -> None:
    table = planted(100)
    scores, costs = table.scores.copy(), table.costs.copy()
    scores[:10, 0] = np.nan
    scores[50:60, 1] = np.nan
    costs[70, 1] = np.nan
    holes = replace(table, scores=scores, costs=costs)
    cheap = replay(holes, Always("llama"), "closed-1")
    assert cheap.left_out == 20
    assert cheap.cost is not None
    assert cheap.spending is None
    dear = replay(holes, Always("closed-1"), "closed-1")
    assert dear.left_out == 10
    assert dear.cost is None
    nothing = replace(table, scores=np.full_like(scores, np.nan))
    with pytest.raises(DataError, match="always llama"):
        replay(nothing, Always("llama"), "closed-1")
    with pytest.raises(NotFoundError, match="There are: llama, closed-1"):
        replay(table, Always("gpt-9"), "closed-1")


def test_clusters_widen_the_interval() -> None:
    table = planted(200)
    tenfold = replace(
        table,
        scores=np.repeat(table.scores[:20], 10, axis=0),
        clusters=tuple(str(i // 10) for i in range(200)),
    )
    alone = replace(tenfold, clusters=tenfold.ids)
    one, other = (replay(x, Always("llama"), "closed-1").quality for x in (tenfold, alone))
    assert one.value == other.value
    assert one.high - one.low > 2 * (other.high - other.low)


def _no_router(name: str) -> Router:
    raise NotFoundError(f"There is no router {name!r}.")


def _written(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_rules(tmp_path: Path, router: Router) -> None:
    table = planted(60)
    path = _written(
        tmp_path,
        """
        otherwise = "llama"

        [[rules]]
        contains = ["HARBOUR", "river"]
        use = "closed-1"

        [[rules]]
        category = "sums"
        longer_than = 46
        router = "sums"
        level = 1.0
        """,
    )
    rule = read_rules(path, lambda name: {"sums": router}[name])
    answers = rule.play(table).answers[:, 1]
    for i, prompt in enumerate(table.prompts):
        small = prompt.lower()
        first = "harbour" in small or "river" in small
        second = table.categories[i] == "sums" and len(prompt) > 46
        assert answers[i] == float(first or second)
    asks = rule.play(table).asks
    assert (asks.sum(axis=1) == np.where((answers == 1) & (asks[:, 0] == 1), 2, 1)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "otherwise"),
        ("otherwise = 3", "otherwise"),
        ('otherwise = "a"\nelse = 1', "'else'"),
        ('otherwise = "a"\nrules = 3', r"\[\[rules\]\]"),
        ('otherwise = "a"\n[[rules]]\n', "rule 1 needs either"),
        ('otherwise = "a"\n[[rules]]\nuse = "b"\nlevel = 0.3', "needs either"),
        ('otherwise = "a"\n[[rules]]\nrouter = "r"\nlevel = 3', "needs either"),
        ('otherwise = "a"\n[[rules]]\nuse = "b"\nlonger = 3', "'longer'"),
        ('otherwise = "a"\n[[rules]]\nuse = "b"\nlonger_than = -5', "number of characters"),
        ('otherwise = "a"\n[[rules]]\nuse = "b"\ncategory = [1]', "list of texts"),
        ('otherwise = "a"\n[[rules]]\nrouter = "r"\nlevel = 0.3', "no router 'r'"),
        ("otherwise = ", "not TOML"),
    ],
)
def test_errors_of_a_file_of_rules(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((DataError, NotFoundError), match=words):
        read_rules(_written(tmp_path, text), _no_router)


def test_a_file_of_rules_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_rules(tmp_path / "none.toml", _no_router)


def test_rules_from_words() -> None:
    assert parse("always:gpt-4.1:mini") == Always("gpt-4.1:mini")
    assert parse("random:llama:gpt-4:0.3") == RandomShare("llama", "gpt-4", 0.3)
    for text in ("", "always:", "random:a:b", "random:a:b:2", "random:a:0.5", "never:a"):
        with pytest.raises(RequestError, match="is no rule"):
            parse(text)
