"""`choice`: which of lettered options an answer chooses, and whether it is the right one.

How an answer is read, in this order (`reading` says how far down):

1. `phrase`: the first "answer is X" or "answer is (X)". That is the rule of MMLU-Pro (Wang et al. 2024,
   arXiv 2406.01574, its evaluation scripts); on the answers that its authors published it reads what they read.
2. `marked`, the usual one: the answer is nothing but a letter; else the first letter that is marked as the
   answer in other ways: `answer is **(X) text**`, `Answer: X`, `\\boxed{X}`, "option X is correct",
   "jawabannya X"; else a letter that begins the answer, `X. text`, where no other line begins with another
   one; else the text of exactly one option, word for word.
3. `last`: else the last letter that stands alone anywhere. It reads articles and symbols as choices.

An answer in which nothing is read is wrong; with `unread=drawn` it is the option that MMLU-Pro draws in that
case, from a fixed seed, so that published figures can be met.

A reference may be a letter, the number of an option from 0, or an option's text. Options are in the example's
column `options` or `choices`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from daulat.errors import RequestError
from daulat.evaluate import filling
from daulat.evaluate.columns import OPTIONS
from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, references_of
from daulat.evaluate.metrics.texts import normal

_MMLU_PRO_SEED: Final = 12345
_USUAL_LETTERS: Final = 10
_MOST: Final = len(filling.LETTERS)


def read(answer: str, letters: str, reading: str, options: list[Any] | None = None) -> str:
    """The letter that an answer chooses; empty: none that can be read.

    Args:
        letters: those that there are, `ABCD`.
        options: their texts, where they are known.
    """
    return next(_read(answer, _Patterns.of(letters), reading, options or []), "")


def _read(answer: str, forms: _Patterns, reading: str, options: list[Any]) -> Iterator[str]:
    """What each rule reads, in order."""
    if found := forms.phrase.search(answer):
        yield found[1]
    if reading == "phrase":
        return
    if found := forms.alone.fullmatch(answer.strip()):
        yield found[1].upper()
    if found := forms.marked.search(answer):
        yield next(letter for letter in found.groups() if letter).upper()
    begun = forms.begins.findall(answer)
    # A list of all options begins with letters, too, and chooses none.
    if len(set(begun)) == 1 and forms.begins.match(answer.strip()):
        yield begun[0]
    said = normal(answer)
    same = [i for i, one in enumerate(options) if said and normal(filling.plain(one)) == said]
    if len(same) == 1:
        yield filling.LETTERS[same[0]]
    if reading == "last" and (every := forms.anywhere.findall(answer)):
        yield every[-1]


class _Patterns:
    """The rules' expressions for one set of letters."""

    _made: Final[dict[str, _Patterns]] = {}

    def __init__(self, letters: str) -> None:
        one = f"[{letters}]"
        # What may stand around a letter: emphasis, brackets, TeX.
        before = r"(?:[*_`\s(\[{$]|\\\(|\\text|\\mathrm|\\boxed|option\s|opsi\s)*"
        self.phrase = re.compile(rf"answer is \(?({one})\)?")
        self.alone = re.compile(rf"[*_`(\[{{$]*({one}|{one.lower()})[*_`)\]}}$.:]*")
        self.marked = re.compile(
            rf"(?i:answer|choice|option|jawaban)(?:nya)?(?i:\s+(?:is|adalah)(?:\s*:)?|\s*[:=])\s*{before}({one})\b(?!['(^_=+/-])"
            rf"|\\boxed\{{\s*(?:\\text\{{|\\mathrm\{{)?\s*\(?({one})\b"
            rf"|(?i:option|choice|opsi|pilihan)\s*{before}({one})\b[*_`)\]\s,]*(?i:is|as|adalah)\s+(?i:the\s+)?(?i:correct|right|benar)"
            rf"|\(({one})\)[*_`\s,]*(?i:is|as|adalah)?\s*(?i:the\s+)?(?i:correct|right|benar)"
            rf"|(?i:option|choice)\s*{before}({one})\b[*_`)\]\s,]*(?i:is\s+)?the\s+(?i:best\s+)?answer"
        )
        self.begins = re.compile(rf"^[*_`(\[]*({one})[)\].:]", re.MULTILINE)
        self.anywhere = re.compile(rf"\b{one}\b")

    @classmethod
    def of(cls, letters: str) -> _Patterns:
        if letters not in cls._made:
            cls._made[letters] = cls(letters)
        return cls._made[letters]


def _options_of(example: Example) -> list[Any] | None:
    return next(
        (found for n in OPTIONS if (found := filling.options_of(example.fields.get(n)))), None
    )


def _right(reference: str, options: list[Any] | None, where: str) -> str:
    """The letter that a reference means.

    Raises:
        RequestError: it means none.
    """
    text = reference.strip().strip("().").strip()
    count = len(options) if options else _MOST
    if len(text) == 1 and text.upper() in filling.LETTERS[:count]:
        return text.upper()
    if options and text.isdecimal() and int(text) < count:
        return filling.LETTERS[int(text)]
    same = [
        i for i, one in enumerate(options or []) if normal(filling.plain(one)) == normal(reference)
    ]
    if len(same) == 1:
        return filling.LETTERS[same[0]]
    raise RequestError(
        f"{where}: the reference {reference[:80]!r} is no letter of an option, no option's number from 0, and "
        "no option's text. Name another column with --reference."
    )


def _make(options: Mapping[str, str], _tools: Tools) -> Scorer:
    reading, drawn = options["reading"], options["unread"] == "drawn"
    fixed = options["letters"]
    if fixed and not (
        fixed.isascii() and fixed.isalpha() and fixed.isupper() and len(set(fixed)) == len(fixed)
    ):
        raise RequestError("The option letters is a row of capital letters: ABCD.", param="option")

    def score(example: Example, answer: str) -> Score:
        there = _options_of(example)
        right = {
            _right(one, there, f"The example {example.id}")
            for one in references_of(example, "choice")
        }
        count = min(_MOST, len(there)) if there else _USUAL_LETTERS
        letters = fixed or "".join(sorted({*filling.LETTERS[:count], *right}))
        chosen = read(answer, letters, reading, there)
        if chosen or not drawn:
            return Score(float(chosen in right), chosen or "no choice")
        guess = _drawn(len(letters))
        return Score(float(letters[guess] in right), f"no choice, drawn {letters[guess]}")

    return score


def _drawn(count: int) -> int:
    """The number that MMLU-Pro's scripts draw for an answer that they cannot read: the same each time."""
    return random.Random(_MMLU_PRO_SEED).randint(0, count - 1)  # noqa: S311 - a published constant


CHOICE: Final = Metric(
    "choice",
    "the letter of the right option",
    _make,
    {
        "reading": Option(
            "marked", "how far an answer is searched for a letter", ("phrase", "marked", "last")
        ),
        "unread": Option("wrong", "what an answer without a choice is", ("wrong", "drawn")),
        "letters": Option(
            "", "the letters that there are, such as ABCD; empty: as many as options"
        ),
    },
)
