"""The shape of a prompt and of an answer to it, in figures: what a router sees of them beside their words.

A figure is cheap (about 0.2 ms a text), says something about many kinds of task, and needs no model. Counts are
on a logarithmic scale, the rest are shares or 0 and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from daulat.route.learning.texts import Ending, ending, numbers, options, seen, sums

_WORD: Final = re.compile(r"[^\W\d_]+")
_MATHS: Final = re.compile(r"[\\^=√∫∑∏\u222a∩<>≤≥+*/±→∞|]")
_NUMERIC: Final = re.compile(
    r"[^\w]{0,8}\d[\d\s,.:/^%°$€£\u00d7*+-]{0,40}[a-zA-Z/°%]{0,8}[\s\w/^.]{0,6}"
)
_FORMULA: Final = re.compile(r"[\\^=√∫∑\u222a∩<>]|\d\s?[+*/-]\s?[\dx]|\b[xyzn]\b")
_ROMAN: Final = re.compile(r"\bI{1,3}\b(?:,| and| only)")


def _any(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b")


_ASKS: Final = {
    "negated": _any(
        "not", "except", "least", "false", "incorrect", "never", "neither", "bukan", "kecuali"
    ),
    "which": _any("which", "manakah"),
    "amount": _any(
        r"how (?:many|much|long|far|fast|old)",
        r"what (?:is|are|was|will be) the (?:\w+ )?(?:value|probability|sum|product|area|total|number|"
        r"average|mean|length|volume|cost|price|rate|ratio|percent(?:age)?|distance|speed|time|amount|energy|mass|largest|"
        r"smallest)",
        "berapa(?:kah)?",
    ),
    "task": _any(
        *("find", "solve", "compute", "calculate", "simplify", "evaluate", "determine", "estimate"),
        *("approximately", "prove", "derive", "hitung(?:lah)?", "tentukan(?:lah)?"),
    ),
    "fact": _any(
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "year",
        "century",
        "siapa(?:kah)?",
        "kapan",
        "di mana",
    ),
    "reason": _any(
        "why", "because", "best describes", "best explains", "most likely", "primarily", "mengapa"
    ),
    "view": _any("according to", "argues?", "claims?", "suggests?", "theory", "view", "menurut"),
    "case": _any("year-old", "patient", "plaintiff", "defendant", "court", "pasien"),
    "code": _any(
        "def",
        "function",
        "class",
        "return",
        "import",
        "algorithm",
        "array",
        "python",
        "java",
        "sql",
    ),
    "write": _any(
        "write",
        "essay",
        "poem",
        "story",
        "email",
        "summari[sz]e",
        "rewrite",
        "translate",
        "tulis(?:lah)?",
    ),
    "first person": _any("i", "my", "me", "saya", "aku"),
    "condition": _any("if", "assuming", "suppose", "given", "unless", "jika", "misalkan"),
    "each": _any("each", "every", "per", "setiap", "masing-masing"),
    "compare": _any("more", "less", "fewer", "than", "lebih", "kurang", "daripada"),
    "part": _any(
        "half", "twice", "third", "quarter", "times", "double", "triple", "percent", "setengah"
    ),
    "rest": _any("total", "all", "left", "remain(?:s|ing)?", "altogether", "sisa", "jumlah"),
}
"""Words that tell what kind of question it is, in small letters, English and Indonesian."""

PROMPT: Final = (
    *(
        "characters",
        "words",
        "lines",
        "sentences",
        "questions",
        "word length",
        "long words",
        "capitals",
    ),
    *(
        "numbers",
        "different numbers",
        "largest number",
        "decimals",
        "digits",
        "maths",
        "latex",
        "quotes",
    ),
    *("code block", "gap", "ends with ?", "ends with :", "statements"),
    *_ASKS,
    *(
        "options",
        "option length",
        "longest option",
        "shortest option",
        "option spread",
        "option words",
    ),
    *("numeric options", "formula options", "option digits", "option overlap", "nearest options"),
    *("equal options", "of the above"),
)
"""The names of a prompt's figures."""

_HEDGES: Final = {
    "hedges": _any(
        *(
            "might",
            "may",
            "perhaps",
            "probably",
            "likely",
            "possibly",
            "seems?",
            "appears?",
            "approximately",
        ),
        *("about", "roughly", "assum(?:e|es|ing|ption)", "mungkin", "sekitar", "kira-kira"),
    ),
    "turns": _any(
        "however",
        "but",
        "although",
        "wait",
        "actually",
        "let me",
        "re-?evaluate",
        "namun",
        "tetapi",
    ),
    "faults": _any(
        *(
            "error",
            "mistake",
            "incorrect(?:ly)?",
            "typo",
            "none of",
            r"not (?:listed|given|provided|among)",
        ),
        *("closest", "does not match", "salah"),
    ),
    "refusals": _any(
        r"(?:i )?can(?:no|')t",
        "unable",
        "sorry",
        "not enough",
        "insufficient",
        "unclear",
        "impossible",
        "as an ai",
        "maaf",
        "tidak (?:dapat|bisa)",
    ),
    "conclusions": _any("therefore", "thus", "hence", "so", "jadi", "maka"),
    "steps": _any("first", "second", "next", "then", "step", "finally", "pertama", "kemudian"),
}

ANSWER: Final = (
    *("answered", "characters", "words", "lines", "length to prompt", "longest line"),
    *(
        "marked",
        "letter",
        "letters",
        "letter in options",
        "letter place",
        "number",
        "whole",
        "size",
    ),
    *(
        "ends clean",
        "ends with number",
        "repeated words",
        "repeated lines",
        "numbers",
        "new numbers",
    ),
    *(
        "prompt numbers used",
        "right sums",
        "wrong sums",
        "wrong share",
        "no sums",
        "last sum agrees",
    ),
    *("any sum agrees", "equals signs", "maths", "latex", "code block", "bullets"),
    *_HEDGES,
    *("option named", "option number found", "last number is option", "other option's number"),
    *("option words found", "lead over other options", "letters discussed"),
)
"""The names of an answer's figures."""


def _log(count: float) -> float:
    return math.log1p(max(0.0, count))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def prompt(text: str) -> list[float]:
    """The figures of a prompt, in the order of `PROMPT`."""
    text = seen(text)
    question, listed = options(text)
    return [*_question(question, text), *_asks(question), *_listed(listed)]


def _question(question: str, whole: str) -> list[float]:
    words = _WORD.findall(question)
    found = numbers(question)
    ended = question.rstrip()
    return [
        _log(len(question)),
        _log(len(words)),
        _log(question.count("\n")),
        _log(question.count(".")),
        _log(question.count("?")),
        _mean([len(word) for word in words]),
        _mean([len(word) > 8 for word in words]),
        _mean([word[0].isupper() for word in words[1:]]),
        _log(len(found)),
        _log(len(set(found))),
        _log(_log(max(found, default=0.0))),
        _log(sum(value % 1 != 0 for value in found)),
        sum(map(str.isdigit, whole)) / max(1, len(whole)),
        _log(len(_MATHS.findall(question))),
        float("\\" in whole or "$" in whole),
        float('"' in question or "“" in question),
        float("```" in question),
        float("__" in question),
        float(ended.endswith("?")),
        float(ended.endswith(":")),
        float("statement 1" in question.lower() or _ROMAN.search(whole) is not None),
    ]


def _asks(question: str) -> list[float]:
    small = question.lower()
    return [float(pattern.search(small) is not None) for pattern in _ASKS.values()]


def _listed(listed: Sequence[str]) -> list[float]:
    if not listed:
        return [0.0] * 13
    lengths = [len(option) for option in listed]
    words = [_words(option) for option in listed]
    overlaps = [
        len(one & other) / max(1, len(one | other))
        for i, one in enumerate(words)
        for other in words[i + 1 :]
    ]
    return [
        _log(len(listed)),
        _log(sum(lengths)),
        _log(max(lengths)),
        _log(min(lengths)),
        (max(lengths) - min(lengths)) / (1 + max(lengths)),
        _log(_mean([len(one) for one in words])),
        _mean([_NUMERIC.fullmatch(option) is not None for option in listed]),
        _mean([_FORMULA.search(option) is not None for option in listed]),
        sum(sum(map(str.isdigit, option)) for option in listed) / max(1, sum(lengths)),
        _mean(overlaps),
        max(overlaps, default=0.0),
        float(len(set(lengths)) < len(lengths)),
        float(any(_closes(option) for option in listed)),
    ]


def _closes(option: str) -> bool:
    small = option.lower().strip(" .")
    return "of the above" in small or small in ("both", "neither", "none", "all")


def answer(text: str | None, asked: str) -> list[float]:
    """The figures of an answer to a prompt, in the order of `ANSWER`; all 0 where there is none."""
    if text is None:
        return [0.0] * len(ANSWER)
    text, asked = seen(text), seen(asked)
    _, listed = options(asked)
    found = ending(text)
    return [
        *_size(text, asked),
        *_ends(text, found, listed),
        *_sums(text, asked, found),
        *_manner(text),
        *_chosen(text, found, listed),
    ]


def _size(text: str, asked: str) -> list[float]:
    lines = text.splitlines()
    return [
        1.0,
        _log(len(text)),
        _log(len(text.split())),
        _log(len(lines)),
        _log(len(text) / max(1, len(asked))),
        _log(max(map(len, lines), default=0)),
    ]


def _ends(text: str, found: Ending, listed: Sequence[str]) -> list[float]:
    ended = text.rstrip()[-1:]
    words = text.lower().split()
    lines = [line for line in text.splitlines() if line.strip()]
    place = ord(found.letter) - ord("A") if found.letter else -1
    number = found.number
    return [
        float(found.marked),
        float(place >= 0),
        _log(len(set(re.findall(r"\(([A-Z])\)", text)))),
        float(0 <= place < len(listed)),
        (place + 1) / 26,
        float(number is not None),
        float(number is not None and number % 1 == 0),
        _log(_log(abs(number or 0.0))),
        float(ended in ".!?)}]\"'`"),
        float(ended.isdigit()),
        1 - len(set(words)) / max(1, len(words)),
        1 - len(set(lines)) / max(1, len(lines)),
    ]


def _sums(text: str, asked: str, found: Ending) -> list[float]:
    steps = list(sums(text))
    right = sum(fits for _, _, fits in steps)
    wrong = len(steps) - right
    inside, given = numbers(text), set(numbers(asked))
    return [
        _log(len(inside)),
        _log(len(set(inside) - given)),
        len(given & set(inside)) / max(1, len(given)),
        _log(right),
        _log(wrong),
        wrong / max(1, len(steps)),
        float(not steps),
        float(bool(steps) and _near(steps[-1][1], found.number)),
        float(any(_near(claimed, found.number) for _, claimed, _ in steps)),
        _log(text.count("=")),
        _log(len(_MATHS.findall(text))),
        float("\\" in text),
        float("```" in text),
        _log(text.count("\n- ") + text.count("\n* ") + text.count("\n1.")),
    ]


def _manner(text: str) -> list[float]:
    small = text.lower()
    return [_log(len(pattern.findall(small))) for pattern in _HEDGES.values()]


def _chosen(text: str, found: Ending, listed: Sequence[str]) -> list[float]:
    """How well what is said fits the option that is chosen, and how well the others."""
    place = ord(found.letter) - ord("A") if found.letter else -1
    if not 0 <= place < len(listed):
        return [0.0] * 7
    said = text[: text.lower().rfind("answer is")] if "answer is" in text.lower() else text
    words, last = _words(said), numbers(said)[-6:]
    cover = [len(words & one) / max(1, len(one)) for one in map(_words, listed)]
    figures = [next(reversed(numbers(option)), None) for option in listed]
    others = [cover[i] for i in range(len(listed)) if i != place]
    option = listed[place].lower().rstrip(". ")
    return [
        float(bool(option) and option in said.lower()),
        float(any(_near(value, figures[place]) for value in last)),
        float(bool(last) and _near(last[-1], figures[place])),
        float(any(_near(v, f) for v in last[-2:] for i, f in enumerate(figures) if i != place)),
        cover[place],
        cover[place] - max(others, default=0.0),
        _mean([f"({chr(ord('A') + i)})" in said for i in range(len(listed))]),
    ]


def _near(value: float, other: float | None) -> bool:
    return other is not None and abs(value - other) <= 0.01 * max(abs(value), abs(other))
