"""What can be read off a text without understanding it: numbers, sums to be checked, options, final answers.

Every search is linear in the text's length, and a long text is looked at in its beginning and its end only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul, sub
from typing import Final

SEEN: Final = 16_384
"""Characters of a text that are looked at: one half from its beginning, one from its end."""

_CUE: Final = re.compile(r"\n\s{0,4}(?:answer|jawaban|jawab)\s{0,2}:\s*$", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d[\d,]{0,24}(?:\.\d{1,18})?")
_OPTION_LINE: Final = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+", re.MULTILINE)
_OPTION_INLINE: Final = re.compile(r"(?<!\S)\(([A-Z])\)\s")
_RESULT: Final = re.compile(
    r"[\s$€£]{0,4}(-?\d[\d,]{0,24}(?:\.\d{1,18})?)(?![\d]|\s{0,2}[-+*/\u00d7÷(^])"
)
_TERM: Final = re.compile(r"\d[\d,]{0,24}(?:\.\d{1,18})?%?|[-+*/\u00d7÷x()]")
_SUM: Final = frozenset("0123456789.,+-*/\u00d7÷x()$€£% ")
_SUM_LENGTH: Final = 60
_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2}
_SIGN: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": lambda left, right: left / right,
}
_SIGNS: Final = str.maketrans({"\u00d7": "*", "x": "*", "÷": "/"})

_MARKS: Final = (
    "####",
    "\\boxed{",
    "final answer",
    "answer is",
    "answer:",
    "answer :",
    "jawabannya",
    "jawaban adalah",
    "jawaban:",
)
"""What announces a final answer, in small letters."""
_LETTER: Final = re.compile(
    r"[\s:*_]{0,4}(?:is|adalah)?[\s:*_(\[\\{$\"']{0,8}(?:text\{|option |opsi )?\(?([A-Z])(?![A-Za-z0-9'])"
)
_LONE_LETTER: Final = re.compile(r"[\s*_(\[\"']{0,6}([A-Z])(?:[).:,*\]\"']|\s*$|\s*\n)")


@dataclass(frozen=True, slots=True)
class Ending:
    """The answer that a text ends with.

    Attributes:
        marked: words such as "the answer is" announce it.
        letter: of an option; empty where there is none.
        number: the announced number, else the last one; None where there is none.
    """

    marked: bool
    letter: str
    number: float | None


def seen(text: str) -> str:
    """The part of a text that is looked at."""
    if len(text) <= SEEN:
        return text
    return text[: SEEN // 2] + "\n" + text[-SEEN // 2 :]


def numbers(text: str) -> list[float]:
    """The numbers in a text, without their signs."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def options(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The question and its options, where a prompt lists them as A, B, ... on lines or in brackets."""
    for pattern in (_OPTION_LINE, _OPTION_INLINE):
        marks = _run(list(pattern.finditer(prompt)))
        if marks:
            ends = [mark.start() for mark in marks[1:]] + [len(prompt)]
            texts = [prompt[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
            texts[-1] = _CUE.sub("", texts[-1])
            return prompt[: marks[0].start()], tuple(text.strip() for text in texts)
    return prompt, ()


def _run(marks: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """The last run of marks A, B, C, ... of two or more."""
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for mark in marks:
        if mark[1] == "A":
            run = [mark]
        elif run and ord(mark[1]) == ord(run[-1][1]) + 1:
            run.append(mark)
        if len(run) >= 2:
            best = run
    return best


def ending(answer: str) -> Ending:
    """The answer that a text ends with, by what announces it; else a lone letter, or the last number."""
    small = answer.lower()
    if len(small) != len(answer):  # a letter whose small form is longer: places would differ
        small = answer
    at, mark = max((small.rfind(mark), mark) for mark in _MARKS)
    if at >= 0:
        tail = answer[at + len(mark) : at + len(mark) + 80]
        letter = _LETTER.match(tail)
        found = _signed(tail)
        if found is None and letter is None:
            found = next(reversed(numbers(answer[:at][-400:])), None)
        return Ending(True, letter[1] if letter else "", found)
    letter = _LONE_LETTER.match(answer)
    found = numbers(answer[-400:])
    return Ending(False, letter[1] if letter else "", found[-1] if found else None)


def _signed(text: str) -> float | None:
    found = _NUMBER.search(text)
    if found is None:
        return None
    value = float(found[0].replace(",", ""))
    return -value if text[: found.start()].rstrip("$€£ ").endswith("-") else value


def sums(text: str) -> Iterator[tuple[float, float, bool]]:
    """Each step of the form `2 * (3 + 4) = 14`: what it comes to, what is claimed, whether that is right."""
    at = text.find("=")
    while at >= 0:
        result = _RESULT.match(text, at + 1)
        if result is not None:
            value = _value(_left(text, at))
            if value is not None:
                claimed = float(result[1].replace(",", ""))
                yield value, claimed, _equal(value, claimed, result[1])
        at = text.find("=", at + 1)


def _left(text: str, at: int) -> str:
    start = at
    while start > max(0, at - _SUM_LENGTH) and text[start - 1] in _SUM:
        start -= 1
    return text[start:at]


def _equal(value: float, claimed: float, written: str) -> bool:
    """Equal as far as the claim's decimals go."""
    _, _, decimals = written.partition(".")
    return abs(value - claimed) < 0.5 * 10.0 ** -len(decimals) or abs(
        value - claimed
    ) <= 1e-9 * abs(value)


def _value(sum_: str) -> float | None:
    """The value of a sum of two terms or more, None where it is not one."""
    terms = _TERM.findall(sum_.translate(_SIGNS))
    if not any(term in _PRECEDENCE for term in terms[1:]):
        return None
    try:
        return _reduced(terms)
    except (IndexError, KeyError, ZeroDivisionError, OverflowError, ValueError):
        return None


def _reduced(terms: Sequence[str]) -> float:
    """Dijkstra's shunting yard. Raises IndexError, KeyError or ValueError where the terms are no sum."""
    values: list[float] = []
    pending: list[str] = []

    def apply() -> None:
        sign, right, left = pending.pop(), values.pop(), values.pop()
        values.append(_SIGN[sign](left, right))

    after_value = False
    for term in terms:
        if term in _PRECEDENCE:
            if not after_value:
                raise ValueError("a sign without what is before it")
            while pending and _PRECEDENCE.get(pending[-1], 0) >= _PRECEDENCE[term]:
                apply()
            pending.append(term)
            after_value = False
        elif term == "(":
            pending.append(term)
            after_value = False
        elif term == ")":
            while pending[-1] != "(":
                apply()
            pending.pop()
            after_value = True
        else:
            if after_value:
                raise ValueError("two numbers beside each other")
            values.append(_number(term))
            after_value = True
    while pending:
        apply()
    (value,) = values
    return value


def _number(term: str) -> float:
    value = float(term.rstrip("%").replace(",", ""))
    return value / 100 if term.endswith("%") else value
