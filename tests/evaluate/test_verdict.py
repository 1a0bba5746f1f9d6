"""The answer of a report: each rule, that it claims no more than the figures, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from comparisons import GPT, LLAMA, MISTRAL, Made, comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.evaluate.comparing import Comparison
from daulat.evaluate.reports.cautions import cautions
from daulat.evaluate.reports.figures import Figures
from daulat.evaluate.reports.telling import Teller, about
from daulat.evaluate.reports.verdict import (
    FEWEST,
    Gap,
    Standing,
    Verdict,
    gaps,
    standing,
    verdict,
    widened,
)
from daulat.evaluate.reports.words import Words
from daulat.statistics.samples import Caveat, Estimate

MARGIN = 0.02


def gap(low: float, high: float, p: float | None = 0.5, n: int = 400) -> Gap:
    middle = (low + high) / 2
    apart = Estimate(middle, low, high, 0.01, 0.95, "t", n, n)
    return Gap("a", "b", apart, p, "scores")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (gap(-0.01, 0.015), Standing.AS_GOOD),
        (gap(0.001, 0.015, p=0.01), Standing.AS_GOOD),
        (gap(-0.015, -0.001, p=0.01), Standing.AS_GOOD),
        (gap(-0.02, 0.01), Standing.UNCLEAR),
        (gap(-0.01, 0.02), Standing.NOT_WORSE),
        (gap(0.03, 0.08, p=0.001), Standing.BETTER),
        (gap(0.001, 0.08, p=0.049), Standing.BETTER),
        (gap(0.001, 0.08, p=0.051), Standing.NOT_WORSE),
        (gap(0.001, 0.08, p=None), Standing.BETTER),
        (gap(-0.08, -0.03, p=0.001), Standing.WORSE),
        (gap(-0.08, -0.03, p=0.2), Standing.UNCLEAR),
        (gap(-0.05, 0.05), Standing.UNCLEAR),
        (gap(0.3, 0.9, p=0.001, n=FEWEST - 1), Standing.TOO_FEW),
    ],
)
def test_each_rule(found: Gap, told: Standing) -> None:
    assert standing(found, MARGIN, 0.95) is told


def test_what_has_no_interval_is_too_little() -> None:
    bare = Estimate(None, -1.0, 1.0, None, 0.95, "t", 0, 0, 0, Caveat.EMPTY)
    assert standing(replace(gap(0, 0), apart=bare), MARGIN, 0.95) is Standing.TOO_FEW


ENDS = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted)
_TURNED = {Standing.BETTER: Standing.WORSE, Standing.WORSE: Standing.BETTER}


@given(ENDS, st.floats(0.001, 1), st.floats(0.001, 0.3))
def test_no_rule_claims_more_than_the_interval(
    ends: Sequence[float], p: float, margin: float
) -> None:
    found = gap(ends[0], ends[1], p)
    told, turned = standing(found, margin, 0.95), standing(found.mirrored(), margin, 0.95)
    if told is Standing.AS_GOOD:
        assert max(map(abs, ends)) < margin
    if told is Standing.BETTER:
        assert ends[0] > 0
        assert p <= 0.05
    if told is Standing.NOT_WORSE:
        assert ends[0] > -margin
    if told in (Standing.AS_GOOD, Standing.BETTER, Standing.WORSE):
        assert turned is _TURNED.get(told, told)


@settings(deadline=None)
@given(ENDS, st.integers(1, 50))
def test_more_questions_never_give_a_narrower_interval(ends: Sequence[float], count: int) -> None:
    apart = gap(ends[0], ends[1]).apart
    wide = widened(apart, count)
    assert wide.low <= apart.low + 1e-12
    assert wide.high >= apart.high - 1e-12
    assert (wide.low, wide.high) == (apart.low, apart.high) or count > 1
    assert wide.low >= -1
    assert wide.high <= 1


# --- whole comparisons ------------------------------------------------------------------------------

CHEAP = replace(LLAMA, quality=0.8, refusing=0.0)
DEAR = replace(GPT, failing=0.0)


def teller(found: Comparison, language: str = "en") -> Teller:
    say = Words(language)
    return Teller(found, verdict(found), say, Figures(say))


def told(found: Comparison) -> tuple[Verdict, str]:
    made = teller(found)
    return made.verdict, made.answer()


def test_the_cheaper_one_is_as_good() -> None:
    found, sentence = told(comparison((DEAR, CHEAP), 6000, noise=0.1))
    assert (found.subject, found.standing) == (CHEAP.name, Standing.AS_GOOD)
    assert sentence.startswith("llama-3.1-8b is as good as gpt-4 on this task, within ±0.")
    assert sentence.endswith("% of its cost.")


def test_what_is_promised_is_rounded_up() -> None:
    made = comparison((DEAR, CHEAP), 6000, noise=0.1)
    apart = gaps(made)[CHEAP.name, DEAR.name].apart
    _found, sentence = told(made)
    points = float(sentence.partition("±")[2].partition(" ")[0])
    assert 0 <= points / 100 - max(abs(apart.low), abs(apart.high)) < 0.001


def test_the_dearer_one_is_better() -> None:
    found, sentence = told(comparison((CHEAP, replace(DEAR, quality=0.9)), 900))
    assert (found.subject, found.standing) == (DEAR.name, Standing.BETTER)
    assert sentence.startswith("gpt-4 is better than llama-3.1-8b on this task, by ")
    assert "times its cost" in sentence


def test_too_few_to_tell_say_how_many_it_takes() -> None:
    found, sentence = told(comparison((LLAMA, GPT), 120))
    assert found.standing is Standing.UNCLEAR
    assert found.gap is not None
    assert found.gap.needed is not None
    assert found.gap.needed > 120
    assert f"about {about(found.gap.needed):,} are needed" in sentence
    assert "cannot be told apart" in sentence


def test_a_number_that_is_there_already_is_not_asked_for() -> None:
    made = comparison((CHEAP, replace(DEAR, quality=0.82)), 900, margin=0.04)
    pair = made.pairs[0]
    assert pair.wanted is not None
    assert pair.wanted.needed is not None
    assert pair.wanted.needed < 900
    assert gaps(made)[pair.a, pair.b].needed is None


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_a_handful_is_not_tested(n: int) -> None:
    found, sentence = told(comparison((CHEAP, replace(DEAR, quality=0.2)), n))
    assert found.standing is Standing.TOO_FEW
    assert "nothing was tested" in sentence


def test_one_document_is_not_tested() -> None:
    found, sentence = told(comparison((CHEAP, DEAR), 60, clusters=1))
    assert found.standing is Standing.TOO_FEW
    assert "one document or session" in sentence


def test_the_best_of_several() -> None:
    made = comparison((LLAMA, replace(DEAR, quality=0.95), MISTRAL), 900)
    found, sentence = told(made)
    assert found.tops
    assert sentence.startswith("gpt-4 is the best of the 3 on this task, ")


def test_of_several_that_are_as_good_the_cheapest_is_told() -> None:
    middle = replace(CHEAP, name="middle", cost=0.001)
    found, _sentence = told(comparison((DEAR, middle, CHEAP), 8000, noise=0.05))
    assert found.subject == CHEAP.name


def test_several_that_cannot_be_told_apart_are_counted() -> None:
    others = tuple(replace(DEAR, name=f"model-{i}", quality=0.8) for i in range(4))
    found, sentence = told(comparison(others, 60))
    assert found.standing is Standing.UNCLEAR
    assert len(found.others) >= 1
    assert "does best, but cannot be told apart from" in sentence


def test_one_endpoint_alone() -> None:
    found, sentence = told(comparison((LLAMA,)))
    assert found.gap is None
    assert sentence.startswith("llama-3.1-8b scores 7")


def test_without_a_metric_nothing_is_said_of_quality() -> None:
    found, sentence = told(comparison(metric=""))
    assert found.standing is None
    assert sentence == "Answers were not judged: costs and times alone are compared."


def test_without_prices_the_open_one_is_the_subject() -> None:
    pair = (replace(DEAR, cost=None), replace(CHEAP, cost=None))
    found, sentence = told(comparison(pair, 6000, noise=0.1))
    assert found.subject == CHEAP.name
    assert "cost" not in sentence


def test_what_costs_nothing_is_said_to() -> None:
    made = comparison((replace(CHEAP, cost=0.0), DEAR), 6000, noise=0.1)
    _found, sentence = told(made)
    assert sentence.endswith("at no price per answer.")
    assert any(
        "the machine that it runs on is not counted" in one for one in cautions(teller(made))
    )


def test_a_judge_is_named_and_doubted() -> None:
    made = comparison((LLAMA, replace(DEAR, quality=0.95)), 400, judged=True)
    _found, sentence = told(made)
    assert sentence.startswith("The judge llama-3.1-8b prefers gpt-4 to llama-3.1-8b: ")
    careful = " ".join(cautions(teller(made)))
    assert "nobody has checked" in careful
    assert "judges its own answers" in careful


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_endpoints_does_not_matter(order: tuple[int, ...]) -> None:
    made = comparison((LLAMA, GPT, MISTRAL), 400)
    other = comparison((LLAMA, GPT, MISTRAL), 400)
    turned = replace(other, endpoints=tuple(other.endpoints[i] for i in order))
    assert told(made) == told(turned)


def test_failures_are_told_first_and_what_they_would_change() -> None:
    made = comparison((LLAMA, replace(GPT, failing=0.2)), 200)
    lost = made.endpoints[1].counts.failed
    first = cautions(teller(made))[0]
    assert first.startswith(f"gpt-4: {lost} of 200 examples have no answer and are left out.")
    delivered = made.endpoints[1].delivered
    assert delivered is not None
    assert delivered.value is not None
    assert f"{100 * delivered.value:.1f}" in first


@pytest.mark.parametrize(
    ("count", "shown"), [(7, 7), (99, 99), (101, 110), (431, 440), (3951, 4000)]
)
def test_a_guess_does_not_look_exact(count: int, shown: int) -> None:
    assert about(count) == shown


# --- how often it is wrong --------------------------------------------------------------------------

RUNS = 240


def _sentences(made: Sequence[Made], n: int, margin: float) -> list[Standing | None]:
    return [
        verdict(comparison(made, n, seed=seed, margin=margin, categories=())).standing
        for seed in range(RUNS)
    ]


def test_equal_endpoints_are_seldom_called_different() -> None:
    equal = (replace(CHEAP, cost=None, open=None), replace(DEAR, cost=None, open=None))
    wrong = sum(one in (Standing.BETTER, Standing.WORSE) for one in _sentences(equal, 150, MARGIN))
    # 5 % of 240 is 12; 22 or more would come once in 200 times by chance.
    assert wrong <= 21


def test_endpoints_that_differ_by_the_margin_are_seldom_called_as_good() -> None:
    apart = (replace(CHEAP, quality=0.8, cost=None), replace(DEAR, quality=0.7, cost=None))
    wrong = sum(one is Standing.AS_GOOD for one in _sentences(apart, 300, 0.1))
    assert wrong <= 21
