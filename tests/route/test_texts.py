"""What is read off texts: sums that are right or wrong, options, endings; whatever the text."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.route.learning import shapes
from daulat.route.learning.texts import Ending, ending, numbers, options, sums

QUICK = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("16 - 3 = 13 eggs", [(13, True)]),
        ("so $<<9*2=18>>18", [(18, True)]),
        ("2 * (3 + 4) = 15", [(15, False)]),
        ("1,000 x 2 = 2,000", [(2000, True)]),
        ("10 / 3 = 3.33 and 10 ÷ 4 = 2.4", [(3.33, True), (2.4, False)]),
        ("20% * 50 = 10", [(10, True)]),
        ("a = 4 + 5 = 9", [(9, True)]),
        ("7 / 2 = 3", [(3, False)]),
        ("2 * 3 = 6 * 1 = 6", [(6, True)]),
        ("x = 5; 1 / 0 = 3; (2 = 2; 2 + = 3; = 4; 3 4 = 7", []),
    ],
)
def test_sums_are_checked(text: str, found: list[tuple[float, bool]]) -> None:
    assert [(claimed, right) for _, claimed, right in sums(text)] == found


@st.composite
def _sum(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return str(draw(st.integers(0, 99)))
    left, right = draw(_sum(depth - 1)), draw(_sum(depth - 1))
    return f"({left} {draw(st.sampled_from('+-*/'))} {right})"


@QUICK
@given(_sum(), _sum(), st.sampled_from("+-*/"))
def test_a_sum_comes_to_what_python_says(left: str, right: str, sign: str) -> None:
    text = f"{left} {sign} {right}"
    if len(text) > 55:
        return
    try:
        value = eval(text)  # noqa: S307 - made of numbers and signs above
    except ZeroDivisionError:
        assert list(sums(f"{text} = 1")) == []
        return
    ((computed, _, _),) = sums(f"{text} = 1")
    assert math.isclose(computed, value, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("blah\n#### 18", Ending(True, "", 18)),
        ("So the answer is (B).", Ending(True, "B", None)),
        ("B. Because of that.", Ending(False, "B", None)),
        ("Answer: $12.50", Ending(True, "", 12.5)),
        ("The final answer is \\boxed{C}", Ending(True, "C", None)),
        ("The answer is -5 degrees", Ending(True, "", -5)),
        ("Jawabannya adalah C.", Ending(True, "C", None)),
        ("A robe takes 3 bolts", Ending(False, "", 3)),
        ("The answer is A1", Ending(True, "", 1)),
        ("3 eggs. The answer is", Ending(True, "", 3)),
        ("", Ending(False, "", None)),
    ],
)
def test_endings(text: str, found: Ending) -> None:
    assert ending(text) == found


def test_options() -> None:
    listed = "What?\nA. one\nB) two\nC: three\nAnswer:"
    assert options(listed) == ("What?\n", ("one", "two", "three"))
    assert options("Q (A) x (B) y") == ("Q ", ("x", "y"))
    assert options("I saw A. Smith\nA. only")[1] == ()
    assert options("A. Smith wrote\nWhat?\nA. one\nB. two")[1] == ("one", "two")


@QUICK
@given(st.text(max_size=400), st.none() | st.text(max_size=400))
def test_any_text_has_a_finite_shape(prompt: str, answer: str | None) -> None:
    of_prompt, of_answer = shapes.prompt(prompt), shapes.answer(answer, prompt)
    assert len(of_prompt) == len(shapes.PROMPT)
    assert len(of_answer) == len(shapes.ANSWER)
    assert all(map(math.isfinite, (*of_prompt, *of_answer)))


@QUICK
@given(st.text("0123456789=+-*/()., x%$\nAB", max_size=300))
def test_any_arithmetic_is_read_or_left(text: str) -> None:
    assert all(math.isfinite(claimed) for _, claimed, _ in sums(text))
    assert all(math.isfinite(one) for one in numbers(text))


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1,",
        "1+",
        "(",
        "= ",
        "=1",
        "A. ",
        "(A) (B) ",
        "\nA. b\nB. c",
        "a ",
        "1 = 1 ",
        "((1)",
        "####",
    ],
)
def test_long_texts_are_quick(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    shapes.prompt(text)
    shapes.answer(text, text)
    assert time.process_time() - began < 1.0


def test_names_of_figures_are_different() -> None:
    assert len(set(shapes.PROMPT)) == len(shapes.PROMPT)
    assert len(set(shapes.ANSWER)) == len(shapes.ANSWER)
    assert not re.search(r"\s$", "".join(shapes.PROMPT))
