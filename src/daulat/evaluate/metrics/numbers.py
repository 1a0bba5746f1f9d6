"""`number`: the number that an answer comes to, compared with the reference's.

Read is, in this order: what stands behind `####` (the end of GSM8K's solutions, Cobbe et al. 2021, arXiv
2110.14168); the last `\\boxed{}`; behind the last "answer is" or "answer:" (Indonesian "jawabannya",
"jawaban:"); else the last number of the text. A currency, a percent sign and what else stands around a number
do not matter; `1,234.5` has commas between thousands, with `decimal=comma` `1.234,5` is meant; `3/4` is a
fraction.

Numbers are compared exactly, as fractions and not as floats. `tolerance=0.01` lets them differ by so much of
the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from daulat.errors import RequestError
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, references_of

_MINUS: Final = "\u2212"
_DIGITS: Final = 60
"""No answer means a longer number, and fractions of longer ones take their time."""
_BOXED: Final = re.compile(r"\\boxed\s*\{([^{}]{1,200}(?:\{[^{}]{0,100}\}[^{}]{0,100}){0,4})\}")
_SAID: Final = re.compile(r"(?i)(?:answer|jawaban)(?:nya)?(?:\s+(?:is|adalah)|\s*:)")
_FRACTION: Final = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d{1,20})\s*\}\s*\{\s*(\d{1,20})\s*\}")


class _Form:
    """How numbers are written where thousands are parted by `group` and decimals by `point`."""

    def __init__(self, group: str, point: str) -> None:
        g, p = re.escape(group), re.escape(point)
        whole = rf"(?:\d{{1,3}}(?:{g}\d{{3}})+|\d+)"
        self.number = re.compile(
            rf"(?<![\w{p}])([-+{_MINUS}]?\s?[$€£¥]?\s?)({whole}(?:{p}\d+)?|{p}\d+)(?:[eE]([-+]?\d{{1,2}})\b)?(?:\s?/\s?(\d{{1,20}}))?"
            rf"(?![\d])"
        )
        self._group, self._point = group, point

    def last(self, text: str) -> Fraction | None:
        """The last number of a text."""
        found = None
        for match in self.number.finditer(_FRACTION.sub(r"\1/\2", text)):
            found = self._value(match) if len(match[2]) <= _DIGITS else found
        return found

    def first(self, text: str) -> Fraction | None:
        """The first number of a text."""
        match = self.number.search(_FRACTION.sub(r"\1/\2", text))
        return self._value(match) if match and len(match[2]) <= _DIGITS else None

    def _value(self, match: re.Match[str]) -> Fraction:
        digits = match[2].replace(self._group, "").replace(self._point, ".")
        value = Fraction(digits) * Fraction(10) ** int(match[3] or 0)
        if match[4] and int(match[4]):
            value /= int(match[4])
        return -value if match[1].strip()[:1] in ("-", _MINUS) else value


_FORMS: Final = {"point": _Form(",", "."), "comma": _Form(".", ",")}


def read(text: str, decimal: str = "point") -> Fraction | None:
    """The number that a text comes to; None: it has none."""
    form = _FORMS[decimal]
    if "####" in text:
        return form.first(text.rsplit("####", 1)[1])
    if boxed := _BOXED.findall(text):
        return form.last(boxed[-1])
    said = [match.end() for match in _SAID.finditer(text)]
    if said and (number := form.first(text[said[-1] :])) is not None:
        return number
    return form.last(text)


def _make(options: Mapping[str, str], _tools: Tools) -> Scorer:
    decimal = options["decimal"]
    try:
        tolerance = Fraction(options["tolerance"])
    except (ValueError, ZeroDivisionError):
        tolerance = Fraction(-1)
    if not 0 <= tolerance <= 1:
        raise RequestError(
            f"The option tolerance is a number from 0 to 1, not {options['tolerance'][:40]!r}.",
            param="option",
        )

    def score(example: Example, answer: str) -> Score:
        right = [_reference(one, decimal, example.id) for one in references_of(example, "number")]
        said = read(answer, decimal)
        if said is None:
            return Score(0.0, "no number")
        return Score(
            float(any(abs(said - one) <= tolerance * abs(one) for one in right)), _shown(said)
        )

    return score


def _reference(text: str, decimal: str, name: str) -> Fraction:
    found = read(text, decimal)
    if found is None:
        raise RequestError(
            f"The example {name}: the reference {text[:80]!r} has no number. Name another column with "
            "--reference."
        )
    return found


def _shown(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.10g}"


NUMBER: Final = Metric(
    "number",
    "the same number",
    _make,
    {
        "tolerance": Option("0", "how much of the reference the answer may be off"),
        "decimal": Option("point", "how decimals are written", ("point", "comma")),
    },
)
